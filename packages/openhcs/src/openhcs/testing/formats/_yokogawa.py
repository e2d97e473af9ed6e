"""Yokogawa: measurements of a CellVoyager CV8000 and of a CQ1."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from openhcs.testing._optics import illumination
from openhcs.testing._spec import well_position
from openhcs.testing.formats._damage import (
    COMMON_FAULTS,
    Bench,
    FaultKind,
    Injection,
    Row,
    cut_short,
    exchanged,
    in_text,
    name_of,
    taken_again,
)
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, wavelengths_nm
from openhcs.testing.formats._layout import ExposedPlane, OneFilePerPlane, Page, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import Compression, PlaneKey, PlaneKind, PlateSpec, Projection

__all__ = ["CQ1", "CV8000"]

_LIST = "MeasurementData.mlf"
_SPACE = "http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"
_BOM = b"\xef\xbb\xbf"
_PROCESSING: Mapping[PlaneKind, str] = {"max": "Maximum", "min": "Minimum", "sum": "Sum"}
_SHADING = 20_000


def _list_of(bench: Bench, row: Row) -> str:  # noqa: ARG001
    return _LIST


def _listed(row: Row) -> str:
    """Give the name that the list has for an image: that of the TIFF file, converted or not."""
    return name_of(row).replace(".png", ".tif")


def _swapped_label(bench: Bench, row: Row, text: str) -> str:
    other = bench.twin(row)
    bench.note("swapped-label", other)
    return exchanged(text, {_listed(row): _listed(other), _listed(other): _listed(row)})


def _path_escape(bench: Bench, row: Row, text: str) -> str:
    bench.remove(row)
    return exchanged(text, {_listed(row): "../../outside.tif"})


def _line(text: str, row: Row) -> tuple[int, int]:
    """Find the record of an image."""
    place = text.index(f"{_listed(row)}</bts:")
    return text.rindex("<bts:MeasurementRecord", 0, place), text.index("\n", place) + 1


def _duplicate_key(bench: Bench, row: Row, text: str) -> str:
    """Take a plane again, under a name that is new."""
    old, start = ("W", "W0") if bench.spec.format == "cq1" else ("", "again-")
    taken_again(bench, row, start + name_of(row).removeprefix(old))
    first, stop = _line(text, row)
    names = {_listed(row): start + _listed(row).removeprefix(old)}
    return text[:stop] + exchanged(text[first:stop], names) + text[stop:]


def _error_record(bench: Bench, row: Row, text: str) -> str:
    """Put a failure in place of an image, which knows its well and its time alone."""
    bench.remove(row)
    start, stop = _line(text, row)
    failure = (
        f'<bts:MeasurementRecord bts:Type="ERR" bts:Time="2026-03-17T09:12:40.318+01:00" '
        f'bts:Column="{row["col"] + 1}" bts:Row="{row["row"] + 1}" bts:TimelineIndex="1">'
        "AF search failed.</bts:MeasurementRecord>\n"
    )
    return text[:start] + failure + text[stop:]


def _unlisted_file(bench: Bench, row: Row) -> None:
    """Add a plane of a field that the list does not have."""
    count = bench.spec.fields
    old, new = (f"F{field + 1:0{_width(bench)}d}" for field in (row["field"], count))
    data = bench.encoded(row, bench.pixels(row)[::-1])
    extra = {**row, "kind": "foreign", "field": count}
    head, _, tail = row["file"].rpartition(old)
    bench.note("unlisted-file", bench.add(extra, f"{head}{new}{tail}", data))


def _width(bench: Bench) -> int:
    return 4 if bench.spec.format == "cq1" else 3


_FAULTS: Mapping[FaultKind, Injection] = {
    **COMMON_FAULTS,
    "duplicate-key": in_text(_list_of, _duplicate_key, "duplicate-key"),
    "swapped-label": in_text(_list_of, _swapped_label, "swapped-label"),
    "path-escape": in_text(_list_of, _path_escape, "path-escape"),
    "error-record": in_text(_list_of, _error_record, "error-record"),
    "corrupt-metadata": cut_short(_list_of),
    "unlisted-file": _unlisted_file,
}


@dataclass(frozen=True, slots=True)
class CV8000(OneFilePerPlane):
    """A measurement of a CellVoyager CV8000.

    Parameters
    ----------
    png
        Whether images were converted to PNG while the list still names TIFF files.
    timelines
        Time points take turns among so many timelines, each of which counts for itself.
    unused_channels
        So many channels are configured and never acquired.
    geometry
        Whether the folder has the affine parameters of the cameras: each channel but the first is
        moved by its number in pixels to the right.
    """

    name: ClassVar[str] = "cv8000"
    reader: ClassVar[str] = "yokogawa"
    title: ClassVar[str] = "Yokogawa CellVoyager CV8000"
    projections: ClassVar[frozenset[Projection]] = frozenset({"max", "min", "sum"})
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = _FAULTS

    png: bool = False
    timelines: int = 1
    unused_channels: int = 2
    geometry: bool = False

    def channel_names(self, spec: PlateSpec) -> tuple[str, ...]:
        """Give projections a channel of their own: the instrument numbers them apart."""
        count = len(spec.channels)
        return tuple(
            spec.channels[number - 1]
            if number <= count
            else f"{spec.channels[(number - 1) % count]} (ch{number})"
            for number in _channels(spec)
        )

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`{plate}_D08_T0001F001L01A01Z01C01.tif`."""
        timeline, point = self.time(key)
        z = 0 if key.kind != "plane" else key.z + 1
        return (
            f"{spec.name}_{key.well}_T{point:04d}F{key.field + 1:03d}L{timeline:02d}"
            f"A{key.channel + 1:02d}Z{z:02d}C{_number(spec, key):02d}.{self._ending}"
        )

    @property
    def _ending(self) -> str:
        return "png" if self.png else "tif"

    def listed(self, spec: PlateSpec, key: PlaneKey) -> str:
        """Say what the list calls an image."""
        return f"{self.path(spec, key).removesuffix(self._ending)}tif"

    def time(self, key: PlaneKey) -> tuple[int, int]:
        """Give timeline and time point of an image, 1-based."""
        return key.t % self.timelines + 1, key.t // self.timelines + 1

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF without anything of the instrument, or a PNG."""
        if self.png:
            import imagecodecs

            return bytes(imagecodecs.png_encode(np.ascontiguousarray(plane.pixels)))
        return _tiff(plane.pixels, spec.compression)

    def pixels(self, data: bytes, page: int) -> NDArray[Any]:
        """Take an image out of a file again."""
        if not self.png:
            return OneFilePerPlane.pixels(self, data, page)
        import imagecodecs

        return np.asarray(imagecodecs.png_decode(data))

    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Give each image its file; a reader finds projections in channels of their own."""
        found = _channels(spec)
        for plane in planes:
            key = plane.key
            page = Page(
                key=dataclasses.replace(key, channel=found[_number(spec, key)]), stamped=key
            )
            yield PlateFile(
                path=self.path(spec, key),
                data=self.encode(spec, plane),
                kind="plane",
                pages=(page,),
            )

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the list, settings, plate, and the dark and shading images of the cameras."""
        product = f"1009680001_Synthetic_#P{spec.plate_rows * spec.plate_columns}.wpp"
        setting = "Synthetic assay.mes"
        yield PlateFile(path=_LIST, data=_text(self._list(spec, places)))
        yield PlateFile(
            path="MeasurementDetail.mrf",
            data=_BOM + _text(self._detail(spec, setting, product)),
        )
        yield PlateFile(path=setting, data=_BOM + _text(self._setting(spec)))
        yield PlateFile(path=f"{spec.name}.wpi", data=_BOM + _text(_plate(spec)))
        yield PlateFile(path=product, data=_BOM + _text(_product(spec)))
        if self.geometry:
            yield PlateFile(path="geometry_parameter.xml", data=_BOM + _text(_geometry(spec)))
        height, width = spec.size_px
        dark = np.full((height, width), round(spec.offset), np.uint16)
        yield PlateFile(path="DC_DCAM#1_CAM3.tif", data=_tiff(dark, "none"))
        for channel in range(len(spec.channels)):
            field = illumination(channel, spec.vignetting).evaluate((height, width))
            light = (dark + _SHADING * field).astype(np.uint16)
            yield PlateFile(path=_shading(spec, channel), data=_tiff(light, "none"))

    def _list(self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]) -> Iterator[str]:
        yield f'<bts:MeasurementData bts:Version="1.0" xmlns:bts="{_SPACE}">'
        for well in places:
            row, col = well_position(well)
            for key in spec.keys(well):
                timeline, point = self.time(key)
                taken = acquired_at(spec, key)
                place = places[well][key.field]
                stacked = spec.planes(key.channel) > 1
                bottom = spec.z_um(key.channel, 0)
                depth = spec.z_um(key.channel, key.z) - bottom
                more = ""
                if key.kind != "plane":
                    top = spec.z_um(key.channel, spec.z - 1) - bottom
                    more = (
                        f'bts:ZImageProcessing="{_PROCESSING[key.kind]}" bts:ZTop="{top:g}" '
                        'bts:ZBottom="0" '
                    )
                yield (
                    '<bts:MeasurementRecord bts:Type="IMG" '
                    f'bts:Time="{taken:%Y-%m-%dT%H:%M:%S}.{taken.microsecond // 1000:03d}+01:00" '
                    f'bts:Column="{col + 1}" bts:Row="{row + 1}" bts:TimePoint="{point}" '
                    f'bts:FieldIndex="{key.field + 1}" bts:ZIndex="{key.z + 1}" '
                    f'bts:TimelineIndex="{timeline}" bts:ActionIndex="{key.channel + 1}" '
                    f'bts:Action="{"3D" if stacked else "2D"}" bts:X="{place.stage_x_um:.2f}" '
                    f'bts:Y="{-place.stage_y_um:.2f}" bts:Z="{depth:.3f}" {more}'
                    f'bts:Firmware="synthetic" bts:Ch="{_number(spec, key)}">'
                    f"{escape(self.listed(spec, key))}</bts:MeasurementRecord>"
                )
        yield "</bts:MeasurementData>"

    def _detail(self, spec: PlateSpec, setting: str, product: str) -> Iterator[str]:
        name = escape(spec.name)
        yield (
            f'<bts:MeasurementDetail bts:Version="1.0" bts:Title="{name}" '
            f'bts:MeasurementSettingFileName="{setting}" bts:ColumnCount="{spec.plate_columns}" '
            f'bts:RowCount="{spec.plate_rows}" bts:TimePointCount="{spec.t}" '
            f'bts:FieldCount="{spec.fields}" bts:ZCount="{spec.z}" '
            f'bts:TargetSystem="{self.name.upper()}" xmlns:bts="{_SPACE}">'
        )
        yield (
            f'  <bts:MeasurementSamplePlate bts:Name="{name}" '
            f'bts:WellPlateFileName="{name}.wpi" bts:WellPlateProductFileName="{product}" />'
        )
        height, width = spec.size_px
        for number in range(1, self._configured(spec) + 1):
            channel = (number - 1) % len(spec.channels)
            yield (
                f'  <bts:MeasurementChannel bts:Ch="{number}" '
                f'bts:HorizontalPixelDimension="{spec.pixel_um}" '
                f'bts:VerticalPixelDimension="{spec.pixel_um}" bts:CameraNumber="3" '
                f'bts:InputBitDepth="16" bts:HorizontalPixels="{width}" '
                f'bts:VerticalPixels="{height}" '
                f'bts:ShadingCorrectionSource="{escape(_shading(spec, channel))}" />'
            )
        yield "</bts:MeasurementDetail>"

    def _setting(self, spec: PlateSpec) -> Iterator[str]:
        yield f'<bts:MeasurementSetting bts:Version="1.0" xmlns:bts="{_SPACE}">'
        yield '  <bts:Timelapse><bts:Timeline bts:Name="Time Line 1"><bts:WellSequence>'
        for well in spec.wells:
            row, col = well_position(well)
            place = f'bts:Column="{col + 1}" bts:Row="{row + 1}"'
            yield f"    <bts:TargetWell {place}>true</bts:TargetWell>"
        yield "  </bts:WellSequence></bts:Timeline></bts:Timelapse>"
        yield "  <bts:LightSourceList>"
        for channel in range(len(spec.channels)):
            light = wavelengths_nm(spec, channel)[0]
            yield f'    <bts:LightSource bts:Name="{light}nm" bts:WaveLength="{light}" />'
        yield "  </bts:LightSourceList>"
        yield "  <bts:ChannelList>"
        for number in range(1, self._configured(spec) + 1):
            channel = (number - 1) % len(spec.channels)
            light, emission = wavelengths_nm(spec, channel)
            yield (
                f'    <bts:Channel bts:Ch="{number}" '
                f'bts:Target=" {escape(spec.channels[channel])} " bts:Objective="20x" '
                f'bts:MethodID="1" bts:ObjectiveID="20000" bts:FilterID="{channel + 1}" '
                f'bts:Acquisition="BP{emission}/45" bts:ExposureTime="{15 + 10 * channel}" '
                'bts:Binning="1" bts:Color="#FF002FFF" bts:Fluorophore="">'
            )
            yield f"      <bts:LightSourceName>{light}nm</bts:LightSourceName></bts:Channel>"
        yield "  </bts:ChannelList></bts:MeasurementSetting>"

    def _configured(self, spec: PlateSpec) -> int:
        return len(spec.channels) * (1 + len(spec.projections)) + self.unused_channels


@dataclass(frozen=True, slots=True)
class CQ1(CV8000):
    """A measurement of a CQ1: wells counted row by row, projections in a folder of their own."""

    name: ClassVar[str] = "cq1"
    title: ClassVar[str] = "Yokogawa CQ1"

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`W0029F0001T0001Z001C1.tif`, projections in `Projection/` with `Z000`."""
        well = key.row * spec.plate_columns + key.col + 1
        z, folder = (key.z + 1, "") if key.kind == "plane" else (0, "Projection/")
        return (
            f"{folder}W{well:04d}F{key.field + 1:04d}T{key.t + 1:04d}Z{z:03d}"
            f"C{_number(spec, key)}.{'png' if self.png else 'tif'}"
        )

    def time(self, key: PlaneKey) -> tuple[int, int]:
        """Give the only timeline, and the time point."""
        return 1, key.t + 1


def _number(spec: PlateSpec, key: PlaneKey) -> int:
    """Give the instrument's channel number of an image."""
    group = 0 if key.kind == "plane" else 1 + spec.projections.index(key.kind)
    return key.channel + 1 + group * len(spec.channels)


def _channels(spec: PlateSpec) -> dict[int, int]:
    """Give the channel that a reader finds for each number of the instrument that is used."""
    count = len(spec.channels)
    used = [c + 1 for c in range(count) if spec.channels[c] not in spec.projection_only]
    for group, kind in enumerate(spec.projections, 1):
        used += [c + 1 + group * count for c in range(count) if kind in spec.projections_of(c)]
    return {number: channel for channel, number in enumerate(used)}


def _geometry(spec: PlateSpec) -> Iterator[str]:
    yield (
        '<lsc:GeometryParameter lsc:Mode="Affine" '
        'xmlns:lsc="http://www.yokogawa.co.jp/LSC/CorrectionSchema/1.0"><lsc:AffineParameterList>'
    )
    for objective in (10_000, 20_000):
        for channel in range(len(spec.channels)):
            said = 'lsc:Use="false"'
            if channel:
                right = channel * objective / 20_000
                said = f'lsc:Use="true" lsc:A="1.0" lsc:B="0" lsc:C="{right}" lsc:D="0" '
                said += 'lsc:E="1" lsc:F="-0.0"'
            yield (
                f'  <lsc:AffineParameter lsc:MethodID="1" lsc:ObjectiveID="{objective}" '
                f'lsc:FilterID="{channel + 1}" {said} />'
            )
    yield "</lsc:AffineParameterList></lsc:GeometryParameter>"


def _shading(spec: PlateSpec, channel: int) -> str:
    emission = wavelengths_nm(spec, channel)[1]
    return f"SC_BP{emission}-45_20x_M01_CH{channel + 1:02d}.tif"


def _tiff(pixels: NDArray[Any], compression: Compression) -> bytes:
    return encode_tiff(pixels, compression=compression, rows_per_strip=pixels.shape[0])


def _text(lines: Iterable[str]) -> bytes:
    return "\n".join(['<?xml version="1.0" encoding="utf-8"?>', *lines, ""]).encode()


def _plate(spec: PlateSpec) -> Iterator[str]:
    yield (
        f'<bts:WellPlate bts:Version="1.0" bts:Name="{escape(spec.name)}" '
        f'bts:Columns="{spec.plate_columns}" bts:Rows="{spec.plate_rows}" xmlns:bts="{_SPACE}" />'
    )


def _product(spec: PlateSpec) -> Iterator[str]:
    pitch = 108 / spec.plate_columns
    yield (
        f'<bts:WellPlateProduct bts:Version="1.0" bts:Columns="{spec.plate_columns}" '
        f'bts:Rows="{spec.plate_rows}" bts:ColumnPitch="{pitch:g}" bts:RowPitch="{pitch:g}" '
        f'bts:LeftMargin="14.3" bts:TopMargin="11.36" xmlns:bts="{_SPACE}" />'
    )
