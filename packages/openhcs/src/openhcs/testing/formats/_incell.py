"""IN Cell: an ``.xdce`` list beside images whose names are padded as the software pleases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from openhcs.testing._spec import PlaneKey, well_name, well_position
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
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, guid, wavelengths_nm
from openhcs.testing.formats._layout import ExposedPlane, OneFilePerPlane, PlateFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlateSpec

__all__ = ["InCell"]

_FOCUS_UM = 4_211.5


def _list_of(bench: Bench, row: Row) -> str:  # noqa: ARG001
    return f"{bench.spec.name}.xdce"


def _in_list(change: Callable[[Bench, Row, str], str], kind: FaultKind) -> Injection:
    return in_text(_list_of, change, kind, encoding="latin-1")


def _named(path: str) -> str:
    return f'filename="{escape(path)}"'


def _swapped_label(bench: Bench, row: Row, text: str) -> str:
    other = bench.twin(row)
    bench.note("swapped-label", other)
    mine, its = _named(row["path"]), _named(other["path"])
    return exchanged(text, {mine: its, its: mine})


def _path_escape(bench: Bench, row: Row, text: str) -> str:
    bench.remove(row)
    return text.replace(_named(row["path"]), _named("..\\outside.tif"))


def _duplicate_key(bench: Bench, row: Row, text: str) -> str:
    """List a plane again, in a file whose name is padded in another way."""
    name = name_of(row).replace("(fld ", "(fld 00")
    taken_again(bench, row, name)
    start = text.rindex("<Image ", 0, text.index(_named(row["path"])))
    stop = text.index("</Image>", start) + len("</Image>")
    again = str(PurePosixPath(row["path"]).with_name(name))
    record = text[start:stop].replace(_named(row["path"]), _named(again))
    return f"{text[:stop]}{record}{text[stop:]}"


def _unlisted_file(bench: Bench, row: Row) -> None:
    """Add a plane of a field that the list does not have."""
    path = PurePosixPath(row["path"])
    name = re.sub(r"\(fld \d+", f"(fld {bench.spec.fields + 1}", path.name)
    data = bench.encoded(row, bench.pixels(row)[::-1])
    extra = {**row, "kind": "foreign", "field": bench.spec.fields}
    bench.note("unlisted-file", bench.add(extra, str(path.with_name(name)), data))


@dataclass(frozen=True, slots=True, kw_only=True)
class InCell(OneFilePerPlane):
    """A plate of an IN Cell Analyzer 2000.

    Parameters
    ----------
    digits
        To how many digits columns and fields are padded in names.
    wix
        Whether names number the wavelength too: ``wix 4``.
    fused
        Whether a wavelength is listed that the software would make of the others.
    excluded
        Whether wells without images are listed as excluded.
    numbered_offsets
        Whether the places of fields are numbered.
    offsets
        Whether places are told by ``image`` or by ``field``, alike in all wells.
    """

    name: ClassVar[str] = "incell"
    reader: ClassVar[str] = "incell"
    title: ClassVar[str] = "IN Cell Analyzer 2000"
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": _in_list(_duplicate_key, "duplicate-key"),
        "swapped-label": _in_list(_swapped_label, "swapped-label"),
        "path-escape": _in_list(_path_escape, "path-escape"),
        "corrupt-metadata": cut_short(_list_of),
        "unlisted-file": _unlisted_file,
    }
    digits: int = 1
    wix: bool = False
    fused: bool = True
    excluded: bool = True
    numbered_offsets: bool = False
    offsets: Literal["image", "field"] = "image"

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """Name it `A - 1(fld 1 wv DAPI - DAPI).tif`, with z and time where there are several."""
        letters, column = key.well[:-2], key.col + 1
        name = spec.channels[key.channel]
        text = f"{letters} - {column:0{self.digits}d}(fld {key.field + 1:0{self.digits}d}"
        text += f" wv {name} - {name}"
        text += f" wix {key.channel + 1}" if self.wix else ""
        text += f" z {key.z + 1}" if spec.planes(key.channel) > 1 else ""
        if spec.t > 1:  # the software leaves no space before the hyphen
            text += f"- time {key.t + 1} - {1000 * key.t} ms"
        return f"{text}).tif"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a plain TIFF."""
        return encode_tiff(
            plane.pixels,
            compression=spec.compression,
            rows_per_strip=plane.pixels.shape[0],
            software="IN Cell Analyzer 2000",
        )

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the list of images."""
        text = "\n".join(self._list(spec, places))
        yield PlateFile(path=f"{spec.name}.xdce", data=text.encode("latin-1", "xmlcharrefreplace"))

    def _list(self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]) -> Iterator[str]:
        wells = sorted(places, key=well_position)
        keys = [key for well in wells for key in spec.keys(well)]
        fused = [key for key in keys if key.channel == 0] if self.fused else []
        yield '<?xml version="1.0" encoding="ISO-8859-1" standalone="no"?>'
        yield "<ImageStack>"
        yield f'<UUID value="{guid(spec, "stack").lower()}"/>'
        yield '<Application name="IN Cell Analyzer 2000" software_version="3.0.0.5"/>'
        yield '<AutoLeadAcquisitionProtocol name="synthetic" version="99.9">'
        yield from self._protocol(spec, wells, next(iter(places.values())))
        yield "</AutoLeadAcquisitionProtocol>"
        yield f'<Images number="{len(keys) + len(fused)}" path="C:\\data">'
        for key in keys:
            yield from self._image(spec, key, places[key.well][key.field])
        for key in fused:  # of which there is no file
            name = self.path(spec, key).replace(" wv ", " wv Fused ")
            yield f'<Image acquisition_time_ms="0" filename="{escape(name)}" thumbnail="false">'
            yield f'<Well><Row number="{key.row + 1}"/><Column number="{key.col + 1}"/></Well>'
            yield (
                f'<Identifier field_index="{key.field}" time_index="{key.t}" '
                f'wave_index="{len(spec.channels)}" z_index="{key.z}"/></Image>'
            )
        yield "</Images>"
        yield "</ImageStack>"

    def _protocol(
        self, spec: PlateSpec, wells: list[str], tiles: tuple[TilePlace, ...]
    ) -> Iterator[str]:
        height, width = spec.size_px
        yield (
            f'<ObjectiveCalibration magnification="20.0" numerical_aperture="0.45" '
            f'pixel_height="{spec.pixel_um:.6f}" pixel_width="{spec.pixel_um:.6f}" unit="µm"/>'
        )
        yield (
            f'<Camera><Binning value="1 X 1"/><Size height="{height}" width="{width}"/></Camera>'
        )
        yield (
            f'<Plate name="{escape(spec.name)}" rows="{spec.plate_rows}" '
            f'columns="{spec.plate_columns}"/>'
        )
        yield "<Wavelengths>"
        for channel, name in enumerate(spec.channels):
            mode = "3-D" if spec.planes(channel) > 1 else "2-D"
            yield (
                f'<Wavelength index="{channel}" fusion_wave="false" imaging_mode="{mode}">'
                f'<ExcitationFilter name="{escape(name)}" '
                f'wavelength="{wavelengths_nm(spec, channel)[0]}"/>'
                f'<EmissionFilter name="{escape(name)}" '
                f'wavelength="{wavelengths_nm(spec, channel)[1]}"/></Wavelength>'
            )
        if self.fused:
            yield f'<Wavelength index="{len(spec.channels)}" fusion_wave="true"/>'
        yield "</Wavelengths>"
        yield f'<PlateMap><ZDimensionParameters number_of_slices="{spec.z}"/>'
        yield f'<TimeSchedule enabled="{str(spec.t > 1).lower()}"/>'
        yield '<NamingRows begin="A"/><NamingColumns begin="1"/>'
        if self.offsets == "field":
            yield "<FieldOffsets>"
            for tile in tiles:
                number = f'index="{tile.field}" ' if self.numbered_offsets else ""
                yield f'<offset_point {number}x="{tile.stage_x_um}" y="{-tile.stage_y_um}"/>'
            yield "</FieldOffsets>"
        if self.excluded:
            for row in range(spec.plate_rows):
                for col in range(spec.plate_columns):
                    if well_name(row, col) not in wells:
                        yield f'<Exclude row="{row + 1}" col="{col + 1}"/>'
        yield "</PlateMap>"

    def _image(self, spec: PlateSpec, key: PlaneKey, place: TilePlace) -> Iterator[str]:
        start = acquired_at(spec, PlaneKey(row=0, col=0, field=0, channel=0, z=0, t=0))
        taken = (acquired_at(spec, key) - start).total_seconds()
        yield (
            f'<Image acquisition_time_ms="{1000 * taken:.0f}" '
            f'{_named(self.path(spec, key))} thumbnail="false">'
        )
        yield f'<Well label="{key.well[:-2]} - {key.col + 1}">'
        yield f'<Row number="{key.row + 1}"/><Column number="{key.col + 1}"/></Well>'
        yield f'<FocusPosition unit="µm" z="{_FOCUS_UM + spec.z_um(key.channel, key.z):.3f}"/>'
        if self.offsets == "image":
            yield f'<OffsetFromWellCenter x="{place.stage_x_um}" y="{-place.stage_y_um}"/>'
        yield f'<Exposure time="{15 + 10 * key.channel}"/>'
        yield (
            f'<Identifier field_index="{key.field}" time_index="{key.t}" '
            f'wave_index="{key.channel}" z_index="{key.z}"/></Image>'
        )
