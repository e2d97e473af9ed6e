"""ImageXpress HCS.ai: acquisitions of MetaXpress Acquire."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

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
    named_outside,
    swapped_names,
    taken_again,
)
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, guid, wavelengths_nm
from openhcs.testing.formats._layout import ExposedPlane, OneFilePerPlane, Page, PlateFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import PlaneKey, PlateSpec, Projection

__all__ = ["HcsAi"]

_COLUMNS = (
    *("FovUuid", "Well", "Row", "Column", "Field", "Wavelength", "Timepoint", "ZIndex"),
    *("ImageStartXPx", "ImageStartYPx", "ImageSizeXPx", "ImageSizeYPx"),
    *("ImageSubFolderPath", "ImageFileName", "TimeStampSec", "ExposureTimeMs"),
    *("ExcitationEmissionFilter", "MinIntensity", "MaxIntensity", "MeanIntensity"),
    *("PositionXUm", "PositionYUm", "PositionZUm", "FieldOffsetPointX", "FieldOffsetPointY"),
    "Checksum",
)
_FIRST_WELL_UM = (14_380.0, 11_300.0)
_FOCUS_UM = 4_211.5
_FILTERS = 3
"""The number of a channel in the protocol is not its place in the list: it counts in threes."""


def _table_of(bench: Bench, row: Row) -> str:
    """Find the table that lists an image; a projection is named as a plane of its stack is."""
    folder = f"{PurePosixPath(row['file']).parents[1]}/"
    for other in bench.rows:
        path: str = other["file"]
        listing = path.startswith(folder) and path.endswith(".csv")
        if listing and name_of(row).encode() in bench.read(other):
            return path
    raise ValueError(f"no table lists {row['file']}")


def _protocol_of(bench: Bench, row: Row) -> str:
    return str(PurePosixPath(row["file"]).parents[1] / f"{bench.spec.name}.jdce")


def _duplicate_key(bench: Bench, row: Row, text: str) -> str:
    """Take a plane again, under a name that is new."""
    name = f"again_{name_of(row)}"
    taken_again(bench, row, name)
    (line,) = (line for line in text.splitlines(keepends=True) if name_of(row) in line)
    return text + exchanged(line, {name_of(row): name})


def _unlisted_file(bench: Bench, row: Row) -> None:
    """Add a plane of a field that no table has."""
    count = bench.spec.fields
    name = name_of(row).replace(f"_s{row['field']}_", f"_s{count}_")
    data = bench.encoded(row, bench.pixels(row)[::-1])
    path = str(PurePosixPath(row["file"]).with_name(name))
    extra = {**row, "kind": "foreign", "field": count}
    bench.note("unlisted-file", bench.add(extra, path, data))


@dataclass(frozen=True, slots=True)
class HcsAi(OneFilePerPlane):
    """An acquisition of an ImageXpress HCS.ai.

    With projections, stacks lie in ``experiment_z_stack``, the rest in ``experiment``.

    Parameters
    ----------
    tables
        The images are listed in so many tables.
    complete
        Whether the acquisition ran to its end.
    extras
        Whether there are images of the autofocus and a montage.
    """

    name: ClassVar[str] = "imagexpress-hcs-ai"
    reader: ClassVar[str] = "imagexpress-hcs-ai"
    title: ClassVar[str] = "ImageXpress HCS.ai, MetaXpress Acquire"
    projections: ClassVar[frozenset[Projection]] = frozenset({"max"})
    lists_planes: ClassVar[bool] = True
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "duplicate-key": in_text(_table_of, _duplicate_key, "duplicate-key"),
        "swapped-label": in_text(_table_of, swapped_names, "swapped-label"),
        "path-escape": in_text(_table_of, named_outside, "path-escape"),
        "corrupt-metadata": cut_short(_protocol_of),
        "unlisted-file": _unlisted_file,
    }

    tables: int = 2
    complete: bool = True
    extras: bool = True

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`experiment/timepoint0/{protocol}_t0_C05_s0_w0_z0.tif`."""
        return f"{_experiment(spec, key)}/timepoint{key.t}/{_name(spec, key)}"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF without anything of the instrument."""
        return encode_tiff(
            plane.pixels, compression=spec.compression, rows_per_strip=plane.pixels.shape[0]
        )

    def files(self, spec: PlateSpec, planes: Iterable[ExposedPlane]) -> Iterator[PlateFile]:
        """Give each image its file and its statistics."""
        for plane in planes:
            key = plane.key
            found = key if key.kind == "plane" else _unknown(key)
            path = self.path(spec, key)
            yield PlateFile(
                path=path,
                data=self.encode(spec, plane),
                kind="plane",
                pages=(Page(key=found, stamped=key),),
            )
            told = {"Min": int(plane.pixels.min()), "Max": int(plane.pixels.max())}
            yield PlateFile(
                path=f"{path.removesuffix('.tif')}.statistics.json", data=json.dumps(told).encode()
            )

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        """Give protocols and tables of each experiment."""
        yield PlateFile(path=f"{spec.name}.mxprotocol", data=b'{"Protocol": "synthetic"}')
        keys = {well: list(spec.keys(well)) for well in places}
        experiments = sorted({_experiment(spec, key) for well in keys for key in keys[well]})
        for folder in experiments:
            names = []
            for number in range(self.tables):
                wells = list(places)[number :: self.tables]
                rows = [
                    self._row(spec, key, places[well][key.field])
                    for well in wells
                    for key in keys[well]
                    if _experiment(spec, key) == folder
                ]
                names.append(f"image_metadata_{number}.csv")
                yield PlateFile(path=f"{folder}/{names[-1]}", data=_table(rows))
            yield PlateFile(
                path=f"{folder}/{spec.name}.jdce", data=self._protocol(spec, folder, names)
            )
        if self.extras:
            picture = b"not an image that a plate has"
            yield PlateFile(path="experiment/autofocus/a.tif", data=picture, kind="ignored")
            yield PlateFile(path="experiment_montage/m.jdce", data=b"{}", kind="ignored")

    def _row(self, spec: PlateSpec, key: PlaneKey, place: TilePlace) -> list[object]:
        pitch = 108_000 / spec.plate_columns
        height, width = spec.size_px
        letters, column = key.well[:-2], key.col + 1
        start = acquired_at(spec, key)
        seconds = (start - start.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
        return [
            guid(spec, "field", key.well, key.field).lower(),
            f"{letters} - {column}",
            key.row + 1,
            column,
            key.field,
            key.channel * _FILTERS,
            key.t,
            key.z,
            0,
            0,
            width,
            height,
            f"timepoint{key.t}",
            _name(spec, key),
            f"{seconds:.3f}",
            15 + 10 * key.channel,
            spec.channels[key.channel],
            0,
            65535,
            0,
            f"{_FIRST_WELL_UM[0] + key.col * pitch + place.stage_x_um:.3f}",
            f"{_FIRST_WELL_UM[1] + key.row * pitch + place.stage_y_um:.3f}",
            f"{_FOCUS_UM:.3f}",  # of the stack: only the step tells its planes apart
            f"{place.stage_x_um:.3f}",
            f"{place.stage_y_um:.3f}",
            guid(spec, "checksum", key)[:8],
        ]

    def _protocol(self, spec: PlateSpec, folder: str, tables: list[str]) -> bytes:
        height, width = spec.size_px
        stacked = spec.z > 1 and (folder.endswith("_z_stack") or not spec.projections)
        pitch_mm = 108 / spec.plate_columns
        wavelengths: list[dict[str, Any]] = [
            {
                "Index": channel * _FILTERS,
                "ImagingMode": "3D" if spec.planes(channel) > 1 else "2D",
                "ZStep": spec.z_step_um if stacked else 0,
                "EmissionFilter": {
                    "Name": spec.channels[channel],
                    "Wavelength": wavelengths_nm(spec, channel)[1],
                },
            }
            for channel in reversed(range(len(spec.channels)))
        ]
        protocol = {
            "Camera": {"Size": {"Width": width, "Height": height}, "Binning": "2 X 2"},
            "ObjectiveCalibration": {
                "PixelWidth": spec.pixel_um,
                "PixelHeight": spec.pixel_um,
                "Unit": "µm",
                "ObjectiveName": "20X Plan Apo Lambda",
            },
            "Plate": {
                "Name": spec.name,
                "Rows": spec.plate_rows,
                "Columns": spec.plate_columns,
                # The instrument writes millimetres here and calls them micrometres.
                "TopLeftWellCenterOffset": {"X": 14.38, "Y": 11.3, "Unit": "µm"},
                "WellSpacing": {"X": pitch_mm, "Y": pitch_mm, "Unit": "µm"},
            },
            "Wavelengths": wavelengths,
            "PlateMap": {
                "Wells": [list(well_position(well)) for well in spec.wells],
                "ZDimensionParameters": {
                    "Enabled": stacked,
                    "Step": spec.z_step_um if stacked else 0,
                    "NumberOfSlices": spec.z if stacked else 1,
                },
                "TimeSchedule": {
                    "NumberOfTimepoints": spec.t,
                    "Times": [{"Ms": 60_000 * t} for t in range(spec.t)],
                },
            },
            "CollectionComplete": self.complete,
        }
        stack = {
            "PlateId": spec.name,
            "Uuid": guid(spec, "acquisition", folder).lower(),
            "ImageFormat": "TIFF",
            "ImageMetadataFiles": tables,
            "AutoLeadAcquisitionProtocol": protocol,
        }
        return json.dumps({"ImageStack": stack}, indent=2, ensure_ascii=False).encode()


def _experiment(spec: PlateSpec, key: PlaneKey) -> str:
    stacked = key.kind == "plane" and spec.planes(key.channel) > 1
    return "experiment_z_stack" if stacked and spec.projections else "experiment"


def _name(spec: PlateSpec, key: PlaneKey) -> str:
    return f"{spec.name}_t{key.t}_{key.well}_s{key.field}_w{key.channel * _FILTERS}_z{key.z}.tif"


def _unknown(key: PlaneKey) -> PlaneKey:
    """Name a projection as a reader does, which is not told how it was made."""
    return dataclasses.replace(key, kind="unknown-projection")


def _table(rows: Iterable[list[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
