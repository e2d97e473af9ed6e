"""Harmony: measurements of Opera Phenix, Operetta and Sonata, with flat-field profiles."""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import dataclass
from html import escape  # that of xml.sax imports half of the network library
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Literal

from openhcs.testing._optics import illumination
from openhcs.testing._scene import background_counts
from openhcs.testing._spec import PlaneKey, well_position
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
    named_outside,
    swapped_names,
    taken_again,
)
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, guid, wavelengths_nm
from openhcs.testing.formats._layout import ExposedPlane, OneFilePerPlane, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import Compression, PlateSpec

__all__ = ["Phenix"]

_NAMESPACES = {
    "V5": "http://www.perkinelmer.com/PEHH/HarmonyV5",
    "V6": "http://www.perkinelmer.com/PEHH/HarmonyV6",
    "V7": "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7",
}
_BOM = b"\xef\xbb\xbf"
_CAMERA_PX_PER_CM = 1550.3  # a pitch of 6.45 µm, whatever the objective
_NO_COLOUR = 4294967295
_SOFTWARE = "Device Serial No: 1400L00000, App Ver: NGen 4.9.2137.273"
_TURN = math.radians(0.6)
"""Between the stage of an Operetta and its camera; the others have turned it back already."""


def _index_of(bench: Bench, row: Row) -> str:  # noqa: ARG001
    """Find the index: the best of the names that one may have."""
    return next(
        path
        for name in ("index.idx.xml", "index.ref.xml", "index.xml")
        for path in (str(other["file"]) for other in bench.rows)
        if PurePosixPath(path).name.lower() == name
    )


def _duplicate_key(bench: Bench, row: Row, text: str) -> str:
    """Take a plane again, under a name that is new."""
    name = f"r0{name_of(row)[1:]}"
    taken_again(bench, row, name)
    start, stop = _record(text, row)
    return text[:stop] + exchanged(text[start:stop], {name_of(row): name}) + text[stop:]


def _error_record(bench: Bench, row: Row, text: str) -> str:  # noqa: ARG001
    start, stop = _record(text, row)
    record = text[start:stop].replace("<State>Ok</State>", "<State>Failed</State>")
    return text[:start] + record + text[stop:]


def _unlisted_file(bench: Bench, row: Row) -> None:
    """Add a plane of a field that the index does not have."""
    count = bench.spec.fields
    name = name_of(row).replace(f"f{row['field'] + 1:02d}", f"f{count + 1:02d}", 1)
    path = str(PurePosixPath(row["file"]).with_name(name))
    data = bench.encoded(row, bench.pixels(row)[::-1])
    extra = {**row, "kind": "foreign", "field": count}
    bench.note("unlisted-file", bench.add(extra, path, data))


def _record(text: str, row: Row) -> tuple[int, int]:
    """Find the lines of the index about an image."""
    place = text.index(f"<URL>{name_of(row)}</URL>")
    stop = text.index("\n", text.index("</Image>", place)) + 1
    return text.rindex("    <Image ", 0, place), stop


@dataclass(frozen=True, slots=True)
class Phenix(OneFilePerPlane):
    """A measurement folder of an Opera Phenix, as Harmony exports it.

    Parameters
    ----------
    version
        Of the index. From V6 on, what is the same for all images of a channel stands once.
    instrument
        Which one it was. An Operetta leaves it to the reader to turn positions as the camera is.
    folder
        Of index and images; empty where somebody kept these alone.
    index
        Name of the index; empty means ``Index.idx.xml``, and ``Index.xml`` for V7.
    bom, crlf
        Whether text files start with a byte-order mark, and how their lines end.
    first_time
        Number of the first time point in the index; -1 means 0, and 1 for V7.
    entries
        So many channels have a profile; -1 means all.
    unknown_numbers
        Whether numbers of profiles that nobody needs are ``NaN`` and ``INF``.
    """

    name: ClassVar[str] = "phenix"
    reader: ClassVar[str] = "harmony"
    title: ClassVar[str] = "Opera Phenix, Operetta and Sonata, Harmony"
    compression: ClassVar[Compression] = "lzw"
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": in_text(_index_of, _duplicate_key, "duplicate-key"),
        "swapped-label": in_text(_index_of, swapped_names, "swapped-label"),
        "path-escape": in_text(_index_of, named_outside, "path-escape"),
        "error-record": in_text(_index_of, _error_record, "error-record"),
        "corrupt-metadata": cut_short(_index_of),
        "unlisted-file": _unlisted_file,
    }

    version: Literal["V5", "V6", "V7"] = "V5"
    instrument: Literal["Phenix", "Operetta", "Sonata"] = "Phenix"
    folder: str = "Images"
    index: str = ""
    bom: bool = True
    crlf: bool = True
    first_time: int = -1
    entries: int = -1
    unknown_numbers: bool = False

    def field_order(self, spec: PlateSpec) -> tuple[tuple[int, int], ...]:
        """Give the middle field first, then the others row by row, back and forth."""
        rows, columns = spec.grid
        middle = ((rows - 1) // 2, (columns - 1) // 2)
        snake = (
            (y, x)
            for y in range(rows)
            for x in (range(columns) if y % 2 == 0 else reversed(range(columns)))
        )
        return (middle, *(cell for cell in snake if cell != middle))

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:  # noqa: ARG002
        """`Images/r01c01f01p01-ch1sk1fk1fl1.tiff`."""
        return self._in_folder(_url(key))

    def _in_folder(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF of one strip with the vendor's private tags."""
        pixels = plane.pixels
        height, width = pixels.shape
        arrays = (
            '<?xml version="1.0" encoding="UTF-8" ?><Root><Arrays><Array FrameIndex="0" '
            f'CompressionType="{spec.compression.upper()}" CompressionRate="1" Type="Image" '
            f'Width="{width}" Height="{height}" BitsPerPixel="{8 * pixels.itemsize}" '
            'Factor="1" /></Arrays></Root>'
        )
        description = (
            '<?xml version="1.0" encoding="utf-8"?>\r\n'
            f'<TiffImageDescription Version="1" xmlns="{_NAMESPACES[self.version]}"><MeasurementID>'
            f"{guid(spec, 'measurement').lower()}</MeasurementID><InstrumentDescription>"
            f"<Type>{self.instrument}</Type></InstrumentDescription></TiffImageDescription>"
        ).encode()
        taken = acquired_at(spec, plane.key)
        stamp = f"{taken:%Y-%m-%dT%H:%M:%S}.{taken.microsecond // 1000:03d}Z"
        return encode_tiff(
            pixels,
            compression=spec.compression,
            rows_per_strip=height,
            software=_SOFTWARE,
            resolution=(_CAMERA_PX_PER_CM, _CAMERA_PX_PER_CM),
            resolutionunit="CENTIMETER",
            extratags=[
                (269, "s", 0, "96 synthetic", True),
                (271, "s", 0, "PerkinElmer", True),
                (272, "s", 0, "1400L00000", True),
                (306, "s", 0, stamp, True),
                (340, "H", 1, int(pixels.min()), True),
                (341, "H", 1, int(pixels.max()), True),
                (65200, "s", 0, arrays, True),
                (65500, "B", len(description), description, True),
            ],
        )

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give the index and the assay layout."""
        name = self.index or ("Index.xml" if self.version == "V7" else "Index.idx.xml")
        yield PlateFile(path=self._in_folder(name), data=self._file(_index(self, spec, places)))
        if self.folder:
            layout = self._file(_assay_layout(spec, _NAMESPACES[self.version]))
            yield PlateFile(path=f"Assaylayout/{spec.name}.xml", data=layout)

    def _file(self, lines: Iterable[str]) -> bytes:
        end = "\r\n" if self.crlf else "\n"
        text = end.join(['<?xml version="1.0" encoding="utf-8"?>', *lines, ""])
        return (_BOM if self.bom else b"") + text.encode()


def _url(key: PlaneKey) -> str:
    return (
        f"r{key.row + 1:02d}c{key.col + 1:02d}f{key.field + 1:02d}p{key.z + 1:02d}"
        f"-ch{key.channel + 1}sk{key.t + 1}fk1fl1.tiff"
    )


def _well_id(well: str) -> str:
    row, col = well_position(well)
    return f"{row + 1:02d}{col + 1:02d}"


def _image_id(key: PlaneKey) -> str:
    return f"{_well_id(key.well)}K{key.t + 1}F{key.field + 1}P{key.z + 1}R{key.channel + 1}"


def _root(element: str, namespace: str, attributes: str = "") -> str:
    return (
        f'<{element} xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"{attributes} xmlns="{namespace}">'
    )


def _index(
    layout: Phenix, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
) -> Iterator[str]:
    start = acquired_at(spec, PlaneKey(row=0, col=0, field=0, channel=0, z=0, t=0))
    name = escape(spec.name, quote=False)
    wells = sorted(places, key=well_position)
    keys = {well: list(spec.keys(well)) for well in wells}
    version = 2 if layout.version == "V7" else 1
    namespace = _NAMESPACES[layout.version]
    yield _root("EvaluationInputData", namespace, f' Version="{version}"')
    yield "  <User>Synthetic</User>"
    yield f"  <InstrumentType>{layout.instrument}</InstrumentType>"
    yield "  <Plates>"
    yield "    <Plate>"
    yield f"      <PlateID>{name}</PlateID>"
    yield f"      <MeasurementID>{guid(spec, 'measurement').lower()}</MeasurementID>"
    yield f"      <MeasurementStartTime>{start:%Y-%m-%dT%H:%M:%S.%f}0+01:00</MeasurementStartTime>"
    yield f"      <Name>{name}</Name>"
    yield f"      <PlateTypeName>{spec.plate_rows * spec.plate_columns} synthetic</PlateTypeName>"
    yield f"      <PlateRows>{spec.plate_rows}</PlateRows>"
    yield f"      <PlateColumns>{spec.plate_columns}</PlateColumns>"
    for well in wells:
        yield f'      <Well id="{_well_id(well)}" />'
    yield "    </Plate>"
    yield "  </Plates>"
    yield "  <Wells>"
    for well in wells:
        row, col = well_position(well)
        yield "    <Well>"
        yield f"      <id>{_well_id(well)}</id>"
        yield f"      <Row>{row + 1}</Row>"
        yield f"      <Col>{col + 1}</Col>"
        for key in keys[well]:
            yield f'      <Image id="{_image_id(key)}" />'
        yield "    </Well>"
    yield "  </Wells>"
    yield "  <Maps>"
    # Entries do not come in the order of the channels.
    order = [*range(len(spec.channels))[1:], 0]
    yield "    <Map>"
    for channel in order:
        if 0 <= layout.entries <= channel:
            continue
        yield f'      <Entry ChannelID="{channel + 1}">'
        profile = escape(_flatfield(layout, spec, channel), quote=False)
        yield f"        <FlatfieldProfile>{profile}</FlatfieldProfile>"
        yield "      </Entry>"
    yield "    </Map>"
    yield "    <Map>"
    skew = base64.encodebytes(gzip.compress(b"<SkewcropParameters />", mtime=0)).decode().strip()
    for channel in order:
        yield f'      <Entry ChannelID="{channel + 1}">'
        yield f"        <SkewcropParameters>{skew}</SkewcropParameters>"
        yield "      </Entry>"
    yield "    </Map>"
    if layout.version != "V5":
        yield "    <Map>"
        for channel in order:
            yield f'      <Entry ChannelID="{channel + 1}">'
            yield from _elements(_of_channel(layout, spec, channel), "        ")
            yield "      </Entry>"
        yield "    </Map>"
    yield "  </Maps>"
    yield "  <Images>"
    for well in wells:
        for key in keys[well]:
            yield from _image(layout, spec, key, places[well][key.field])
    yield "  </Images>"
    yield "</EvaluationInputData>"


def _image(layout: Phenix, spec: PlateSpec, key: PlaneKey, place: TilePlace) -> Iterator[str]:
    taken = acquired_at(spec, key)
    first = acquired_at(spec, PlaneKey(row=key.row, col=key.col, field=0, channel=0, z=0, t=0))
    z_um = spec.z_um(key.channel, key.z)
    elapsed = math.floor((taken - first).total_seconds()) if key.t else 0
    x_um, y_um = place.stage_x_um, -place.stage_y_um  # y rises upward here
    if layout.instrument == "Operetta":
        # Stored as the stage has it; the orientation matrix, a reflection, turns it back.
        x_um, y_um = (
            math.cos(_TURN) * place.stage_x_um + math.sin(_TURN) * place.stage_y_um,
            math.sin(_TURN) * place.stage_x_um - math.cos(_TURN) * place.stage_y_um,
        )
    start = layout.first_time if layout.first_time >= 0 else int(layout.version == "V7")
    yield '    <Image Version="1">'
    yield from _elements(
        {
            "id": _image_id(key),
            "State": "Ok",
            "URL": _url(key),
            "Row": key.row + 1,
            "Col": key.col + 1,
            "FieldID": key.field + 1,
            "PlaneID": key.z + 1,
            "TimepointID": key.t + start,
            **({"SequenceID": 1, "GroupID": 1} if layout.version == "V7" else {}),
            "ChannelID": key.channel + 1,
            "FlimID": 1,
            "PositionX": _metres(x_um),
            "PositionY": _metres(y_um),
            "PositionZ": _metres(z_um),
            "AbsPositionZ": _metres(135_350.0 + z_um),
            "MeasurementTimeOffset": elapsed,
            "AbsTime": f"{taken:%Y-%m-%dT%H:%M:%S}.{taken.microsecond // 1000:03d}+01:00",
            **(_of_channel(layout, spec, key.channel) if layout.version == "V5" else {}),
        },
        "      ",
    )
    yield "    </Image>"


def _of_channel(layout: Phenix, spec: PlateSpec, channel: int) -> dict[str, object]:
    """Give what is the same for all images of a channel."""
    excitation, emission = wavelengths_nm(spec, channel)
    height, width = spec.size_px
    cos, sin = (f"{f(_TURN):.12g}" for f in (math.cos, math.sin))
    return {
        "ChannelName": escape(spec.channels[channel], quote=False),
        "ImageType": "Signal",
        "AcquisitionType": "NipkowConfocal",
        "IlluminationType": "Epifluorescence",
        "ChannelType": "Fluorescence",
        "ImageResolutionX": _metres(spec.pixel_um),
        "ImageResolutionY": _metres(spec.pixel_um),
        "ImageSizeX": width,
        "ImageSizeY": height,
        "BinningX": 2,
        "BinningY": 2,
        "MaxIntensity": 65536 if layout.version == "V7" else 65535,
        "CameraType": "AndorZylaCam",
        "MainExcitationWavelength": excitation,
        "MainEmissionWavelength": emission,
        "ObjectiveMagnification": 20,
        "ObjectiveNA": 1,
        "ExposureTime": f"{0.015 + 0.01 * channel:.3g}",
        **({"ExcitationPower": 80} if layout.version == "V7" else {}),
        "OrientationMatrix": f"[[{cos},{sin},0,-14.5],[{sin},-{cos},0,-30.8],[0,0,1.00,5.671]]",
    }


def _elements(values: Mapping[str, object], indent: str) -> Iterator[str]:
    for name, value in values.items():
        yield f"{indent}<{name}{_UNITS.get(name, '')}>{value}</{name}>"


_UNITS = {
    **dict.fromkeys(("ImageResolutionX", "ImageResolutionY", "AbsPositionZ"), ' Unit="m"'),
    **dict.fromkeys(("PositionX", "PositionY", "PositionZ"), ' Unit="m"'),
    **dict.fromkeys(("MainExcitationWavelength", "MainEmissionWavelength"), ' Unit="nm"'),
    **dict.fromkeys(("ObjectiveMagnification", "ObjectiveNA"), ' Unit=""'),
    **dict.fromkeys(("MeasurementTimeOffset", "ExposureTime"), ' Unit="s"'),
}


def _metres(length_um: float) -> str:
    """Write µm as metres the way .NET prints a double: 2E-05, -0.000322907, 0."""
    text = repr(round(length_um * 1e-6, 12)).replace("e", "E")
    return text.removesuffix(".0").replace("-0", "0") if length_um == 0 else text


def _flatfield(layout: Phenix, spec: PlateSpec, channel: int) -> str:
    """Write a profile in Acapella's notation, which only looks like JSON."""
    name = spec.channels[channel]
    if set(name) & set(",()"):
        name = f'"{name}"'
    tail = f"Channel: {channel + 1}, ChannelName: {name}, Version: Acapella:2013}}"
    coefficients = illumination(channel, spec.vignetting).coefficients
    if len(coefficients) == 1:
        flat = "{Background: {Character: Null, Profile: {Type: Identity}, Quality: 1}, "
        return flat + tail
    height, width = spec.size_px
    rows = ", ".join(f"[{', '.join(f'{value:.4g}' for value in row)}]" for row in coefficients)
    mean, random = f"{background_counts(channel):.8g}", "0.024891443"
    if layout.unknown_numbers:
        mean, random = "NaN", "INF"
    return (
        f"{{Background: {{Character: NonFlat, Mean: {mean}, "
        "NoiseConst: 3.4302017, NonFlatness: {Corrected: 0.026984985, "
        f"Original: {1 - spec.vignetting:.8g}, Random: {random}}}, "
        f"Profile: {{Coefficients: [{rows}], Dims: [{width}, {height}], "
        f"Origin: [{(width - 1) / 2}, {(height - 1) / 2}], "
        f"Scale: [{1 / width:.8g}, {1 / height:.8g}], Type: Polynomial}}, Quality: 1.0}}, " + tail
    )


def _assay_layout(spec: PlateSpec, namespace: str) -> Iterator[str]:
    """Write the conditions of all wells of the plate, empty where there is none."""
    yield _root("AssayLayout", namespace)
    yield f"  <PlateCols>{spec.plate_columns}</PlateCols>"
    yield f"  <PlateRows>{spec.plate_rows}</PlateRows>"
    conditions = dict(
        zip((well_position(well) for well in spec.wells), spec.conditions, strict=True)
    )
    for layer, kind in (("Compound", "string"), ("Role", "string"), ("Dose", "double")):
        yield "  <Layer>"
        yield f"    <Name>{layer}</Name>"
        yield f"    <ValueType>{kind}</ValueType>"
        for row in range(spec.plate_rows):
            for col in range(spec.plate_columns):
                condition = conditions.get((row, col))
                value = ""
                if condition is not None:
                    value = {
                        "Compound": escape(condition.compound, quote=False),
                        "Role": condition.role,
                        "Dose": "" if math.isnan(condition.dose_um) else f"{condition.dose_um:g}",
                    }[layer]
                yield "    <Well>"
                yield f"      <Row>{row + 1}</Row>"
                yield f"      <Col>{col + 1}</Col>"
                yield f"      <Value>{value}</Value>" if value else "      <Value />"
                yield f"      <Color>{_NO_COLOUR}</Color>"
                yield "    </Well>"
        yield "  </Layer>"
    yield "</AssayLayout>"
