"""ImageXpress: the MetaXpress export with its HTD, and the database folder without."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from openhcs.testing._spec import PlaneKey, well_position
from openhcs.testing.formats._damage import (
    COMMON_FAULTS,
    Bench,
    FaultKind,
    Injection,
    Row,
    name_of,
    taken_again,
)
from openhcs.testing.formats._instrument import acquired_at, encode_tiff, guid, wavelengths_nm
from openhcs.testing.formats._layout import (
    ExposedPlane,
    Fact,
    OneFilePerPlane,
    Page,
    PlateFile,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openhcs.testing._geometry import TilePlace
    from openhcs.testing._spec import Compression, PlaneKind, PlateSpec, Projection

__all__ = ["ImageXpressDatabase", "ImageXpressExport", "stage_label"]

_FIRST_WELL_UM = (14_380.0, 11_240.0)  # x, y of A01 on the stage
_PLATE_UM = 108_000.0  # columns times pitch on every standard plate
_FOCUS_UM = 9_318.24
_THUMBNAIL_PX = (64, 80)
_DATABASE_DAY = "2026-03-17"
_DATABASE_ID = "1334"
_METHODS: Mapping[PlaneKind, str] = {"max": "Maximum", "best-focus": "Best Focus"}
_PLATE_TYPES = {24: 3, 96: 6, 384: 13, 1536: 18}
_SEPARATOR = "\x82\x81"
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;", "\n": "&#10;", '"': "&#34;"}
)


def stage_label(key: PlaneKey) -> str:
    """Write the label that the stage gives to a field."""
    return f"{key.well} : Site {key.field + 1}"


def _swapped_label(bench: Bench, row: Row) -> None:
    label = f'id="stage-label" type="string" value="{row["well"]} : '
    wrong = "A01" if row["well"] != "A01" else "A02"
    bench.replace(row, label, label.replace(row["well"], wrong))
    bench.note("swapped-label", row)


def _corrupt_metadata(bench: Bench, row: Row) -> None:
    bench.replace(row, "<PlaneInfo>", "<PlaneInfo<")
    bench.note("corrupt-metadata", row)


def _duplicate_in_export(bench: Bench, row: Row) -> None:
    rest = name_of(row).removeprefix(bench.spec.name)
    taken_again(bench, row, f"{bench.spec.name}-rescan{rest}")
    bench.note("duplicate-key", row)


def _duplicate_in_database(bench: Bench, row: Row) -> None:
    path = PurePosixPath(row["path"])
    identifier = guid(bench.spec, "rescan", path.stem)
    taken_again(bench, row, f"{path.stem[:-36]}{identifier}{path.suffix}")
    bench.note("duplicate-key", row)


_FAULTS: Mapping[FaultKind, Injection] = {
    **COMMON_FAULTS,
    "swapped-label": _swapped_label,
    "corrupt-metadata": _corrupt_metadata,
}


@dataclass(frozen=True, slots=True)
class ImageXpressExport(OneFilePerPlane):
    """The MetaXpress export: names without identifiers, an HTD in every folder.

    Parameters
    ----------
    suffix
        Of the images.
    separator
        Between the names of folders and their number: ``TimePoint_1``, ``TimePoint-1``.
    flat
        Whether names end in the z step and the time point, and there are no folders for them.
    run_on
        Whether the description of the plan has no separators, and no line ends after it.
    site_selection
        Whether the plan says which sites were chosen.
    """

    name: ClassVar[str] = "imagexpress"
    reader: ClassVar[str] = "imagexpress"
    title: ClassVar[str] = "ImageXpress, exported by MetaXpress"
    projections: ClassVar[frozenset[Projection]] = frozenset({"max", "best-focus"})
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **_FAULTS,
        "duplicate-key": _duplicate_in_export,
    }

    suffix: str = ".TIF"
    separator: str = "_"
    flat: bool = False
    run_on: bool = False
    site_selection: bool = True

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`{name}_{B02}[_s{1}][_w{1}].TIF` in its folder."""
        if self.flat:
            step = 0 if key.kind != "plane" else key.z + 1
            return f"{_stem(spec, key)}_z{step}_t{key.t + 1}{self.suffix}"
        folder = _folder(spec, key).replace("_", self.separator)
        return f"{folder}{_stem(spec, key)}{self.suffix}"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF with MetaSeries metadata."""
        return _encode(spec, plane)

    def companions(self, spec: PlateSpec, plane: ExposedPlane) -> Iterator[PlateFile]:
        """Give the copies with which MetaXpress fills the folders of a channel of one image.

        One of a single plane has copies of it in the other steps and among the projections, one
        of projections alone has copies of it in all steps.
        """
        key = plane.key
        if spec.channels[key.channel] in spec.projection_only:
            copies = [dataclasses.replace(key, kind="plane", z=z) for z in range(spec.z)]
        elif spec.planes(key.channel) == spec.z:
            return
        else:
            copies = [dataclasses.replace(key, z=z) for z in range(1, spec.z)]
            if spec.projections:
                copies.append(dataclasses.replace(key, kind=spec.projections[0]))
        data = self.encode(spec, plane)
        for copy in copies:
            yield PlateFile(
                path=self.path(spec, copy), data=data, kind="copy", pages=(Page(key=key),)
            )

    def metadata(
        self,
        spec: PlateSpec,
        places: Mapping[str, tuple[TilePlace, ...]],  # noqa: ARG002
    ) -> Iterator[PlateFile]:
        """Give the HTD, in the plate and in every folder below."""
        data = self._plan(spec)
        folders = {PurePosixPath(".")}
        for well in spec.wells:
            for key in spec.keys(well):
                folders.update(PurePosixPath(self.path(spec, key)).parents)
        for folder in sorted(folders):
            yield PlateFile(path=str(folder / f"{spec.name}.HTD"), data=data)

    def _plan(self, spec: PlateSpec) -> bytes:
        lines = _htd(spec)
        if not self.site_selection:
            lines = [line for line in lines if "SiteSelection" not in line]
        text = "".join(f"{line}\r\n" for line in lines)
        if self.run_on:
            start = text.index('"Description"')
            stop = text.index("\r\n", start)
            text = f"{text[:start]}{text[start:stop].replace(_SEPARATOR, ' ')}{text[stop + 2 :]}"
        return text.encode("latin-1")


@dataclass(frozen=True, slots=True)
class ImageXpressDatabase(OneFilePerPlane):
    """The folder behind the MetaXpress database: identifiers in names, thumbnails, no HTD."""

    name: ClassVar[str] = "imagexpress-database"
    reader: ClassVar[str] = "imagexpress-database"
    title: ClassVar[str] = "ImageXpress, the folder of the MetaXpress database"
    compression: ClassVar[Compression] = "deflate"
    projections: ClassVar[frozenset[Projection]] = frozenset({"max", "best-focus"})
    tells: ClassVar[frozenset[Fact]] = OneFilePerPlane.tells - {"plate-size"}
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **_FAULTS,
        "duplicate-key": _duplicate_in_database,
    }

    def path(self, spec: PlateSpec, key: PlaneKey) -> str:
        """`{name}_{B02}[_s{1}][_w{1}]{GUID}.tif`, the identifier without any separator."""
        return f"{self._folder(spec, key)}{_stem(spec, key)}{_plane_guid(spec, key, 'file')}.tif"

    def encode(self, spec: PlateSpec, plane: ExposedPlane) -> bytes:
        """Make a TIFF with MetaSeries metadata."""
        return _encode(spec, plane)

    def companions(self, spec: PlateSpec, plane: ExposedPlane) -> Iterator[PlateFile]:
        """Give the thumbnail of the plane."""
        key, pixels = plane.key, plane.pixels
        name = f"{_stem(spec, key)}_thumb{_plane_guid(spec, key, 'thumbnail')}.tif"
        height, width = _THUMBNAIL_PX
        rows = np.arange(height) * pixels.shape[0] // height
        columns = np.arange(width) * pixels.shape[1] // width
        small = dataclasses.replace(plane, pixels=pixels[rows[:, None], columns[None, :]])
        yield PlateFile(
            path=f"{self._folder(spec, key)}{name}",
            data=_encode(spec, small, thumbnail=True),
            kind="thumbnail",
            pages=(Page(key=key),),
        )

    def metadata(
        self,
        spec: PlateSpec,  # noqa: ARG002
        places: Mapping[str, tuple[TilePlace, ...]],  # noqa: ARG002
    ) -> Iterator[PlateFile]:
        """Give none: everything stands in the TIFF files."""
        return iter(())

    @staticmethod
    def _folder(spec: PlateSpec, key: PlaneKey) -> str:
        # A projection lies beside the ZStep folders here, not in a ZStep_0.
        return f"{_DATABASE_DAY}/{_DATABASE_ID}/{_folder(spec, key, zstep_0=False)}"


def _folder(spec: PlateSpec, key: PlaneKey, *, zstep_0: bool = True) -> str:
    folder = f"TimePoint_{key.t + 1}/" if spec.timepoint_folders else ""
    if key.kind != "plane":
        return f"{folder}ZStep_0/" if zstep_0 else folder
    return f"{folder}ZStep_{key.z + 1}/" if spec.z > 1 else folder


def _stem(spec: PlateSpec, key: PlaneKey) -> str:
    site = f"_s{key.field + 1}" if spec.fields > 1 else ""
    wave = f"_w{key.channel + 1}" if len(spec.channels) > 1 else ""
    return f"{spec.name}_{key.well}{site}{wave}"


def _plane_guid(spec: PlateSpec, key: PlaneKey, use: str) -> str:
    """Make the identifier of a plane; that of the file of site 2 starts with a digit.

    Only its length then separates the site or wavelength from the identifier.
    """
    text = guid(spec, use, key.well, key.field, key.channel, key.z, key.t, key.kind)
    if use == "file" and key.field == 1:
        text = str(int(text[0], 16) % 10) + text[1:]
    return text


def _encode(spec: PlateSpec, plane: ExposedPlane, *, thumbnail: bool = False) -> bytes:
    pixels = plane.pixels
    shape = (pixels.shape[0], pixels.shape[1])
    description = _metaseries(spec, plane.key, plane.place, shape, 8 * pixels.itemsize, thumbnail)
    return encode_tiff(
        pixels,
        compression=spec.compression,
        rows_per_strip=max(1, 8192 // (pixels.shape[1] * pixels.itemsize)),
        subfiletype=2,
        description=description,
        software="MetaSeries",
        datetime=f"{acquired_at(spec, plane.key):%Y:%m:%d %H:%M:%S}",
        resolution=(1, 1),
        resolutionunit="INCH",
    )


def _metaseries(
    spec: PlateSpec,
    key: PlaneKey,
    place: TilePlace,
    shape: tuple[int, int],
    bits: int,
    thumbnail: bool,
) -> str:
    """Write the text of tag 270."""
    pitch = _PLATE_UM / spec.plate_columns
    stage_x = _FIRST_WELL_UM[0] + key.col * pitch + place.stage_x_um
    stage_y = _FIRST_WELL_UM[1] + key.row * pitch + place.stage_y_um
    z = _FOCUS_UM + spec.z_um(key.channel, 0 if key.kind != "plane" else key.z)
    middle = _FOCUS_UM if key.kind != "plane" else z
    channel = spec.channels[key.channel]
    _, emission = wavelengths_nm(spec, key.channel)
    exposure = 15 + 10 * key.channel
    taken = acquired_at(spec, key)
    clock = f"{taken:%Y%m%d %H:%M:%S}.{taken.microsecond // 1000:03d}"
    about = (
        f"Plate Name: {spec.name}\r\nFolder Name: Synthetic\r\n\r\nExposure: {exposure} ms\r\n"
        f"Binning: 2 x 2\r\nRegion: {2 * spec.size_px[1]} x {2 * spec.size_px[0]}, offset at (0, 0)"
        "\r\nSubtract: Off\r\nShading: Off\r\nGain: 16-bit (low noise & high well capacity)"
        "\r\nFrames to Average: 1\r\nSoftware Version: MetaXpress 6.5.2.351"
    )
    reduced = shape if thumbnail else spec.size_px
    calibration = tuple(
        spec.pixel_um * full / small for full, small in zip(spec.size_px, reduced, strict=True)
    )
    plane: list[tuple[str, str, object]] = [
        ("plane-type", "string", "plane"),
        ("pixel-size-x", "int", shape[1]),
        ("pixel-size-y", "int", shape[0]),
        ("bits-per-pixel", "int", bits),
        ("autoscale-state", "bool", "on"),
        ("spatial-calibration-state", "bool", "on"),
        ("spatial-calibration-x", "float", calibration[1]),
        ("spatial-calibration-y", "float", calibration[0]),
        ("spatial-calibration-units", "string", "um"),
        ("image-name", "string", "HTSThumbHTS" if thumbnail else channel),
        ("threshold-state", "string", "ThresholdOff"),
        ("zoom-percent", "int", 100),
        ("gamma", "float", 1.0),
        ("look-up-table-type", "string", "by-wavelength"),
        ("look-up-table-name", "string", "Set By Wavelength"),
        ("plane-guid", "guid", f"{{{_plane_guid(spec, key, 'plane')}}}"),
        ("acquisition-time-local", "time", clock),
        ("modification-time-local", "time", clock),
        ("stage-position-x", "float", stage_x),
        ("stage-position-y", "float", stage_y),
        ("stage-label", "string", stage_label(key)),
        ("z-position", "float", middle),
        ("wavelength", "float", float(emission)),
        ("camera-binning-x", "int", 2),
        ("camera-binning-y", "int", 2),
        ("_IllumSetting_", "string", channel),
        ("_MagNA_", "float", 0.75),
        ("_MagRI_", "float", 1.0),
        ("_MagSetting_", "string", "20X Plan Apo Lambda"),
        ("_Temperature_", "float", 28.0),
    ]
    custom: list[tuple[str, str, object]] = [
        ("Camera Bit Depth", "float", 16.0),
        ("Exposure Time", "string", f"{exposure} ms"),
        ("ImageXpress Micro Objective", "string", "20X Plan Apo Lambda"),
        ("ImageXpress Micro X", "float", stage_x),
        ("ImageXpress Micro Y", "float", stage_y),
        ("ImageXpress Micro Z", "float", z),
        ("OffsetFromWellCenterUmX", "float", place.stage_x_um),
        ("OffsetFromWellCenterUmY", "float", place.stage_y_um),
        ("PositionPrecisionUm", "float", 0.0),
        ("ShadingCorrection", "string", "Off"),
        ("SiteX", "float", place.grid_x + 1.0),
        ("SiteY", "float", place.grid_y + 1.0),
    ]
    if spec.t > 1:
        custom.append(("Timepoint", "float", key.t + 1.0))
    if key.kind != "plane":
        custom.append(("Z Projection Method", "string", _METHODS[key.kind]))
    if spec.z > 1:
        custom.append(("Z Projection Step Size", "float", spec.z_step_um))
        if key.kind == "plane":
            custom.append(("Z Step", "float", key.z + 1.0))
        else:
            custom.append(("Z Thickness", "float", (spec.z - 1) * spec.z_step_um))
    root: list[tuple[str, str, object]] = [
        ("Description", "string", "thumbnail image" if thumbnail else about),
        ("MetaDataVersion", "float", 1.0),
        ("ApplicationName", "string", "MetaMorph"),
        ("ApplicationVersion", "string", "6.5.2.351"),
    ]
    lines = [
        "<MetaData>",
        *(_property("prop", *values) for values in root),
        "<PlaneInfo>",
        *(_property("prop", *values) for values in plane),
        *(_property("custom-prop", *values) for values in custom),
        "</PlaneInfo>",
        "<SetInfo>",
        _property("prop", "number-of-planes", "int", 1),
        "</SetInfo>",
        "</MetaData>",
    ]
    return "\n".join(lines)


def _property(element: str, name: str, kind: str, value: object) -> str:
    # Six significant digits are what MetaXpress writes.
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f'<{element} id="{name}" type="{kind}" value="{text.translate(_ESCAPES)}"/>'


def _htd(spec: PlateSpec) -> list[str]:
    """Write the plan of an export; its description has the vendor's own line separators."""
    rows, columns = spec.plate_rows, spec.plate_columns
    chosen = {well_position(well) for well in spec.wells}
    lines = [
        '"HTSInfoFile", Version 1.0',
        f'"Description", "Synthetic plate{_SEPARATOR}seed {spec.seed}{_SEPARATOR}20x, binning 2"',
        f'"PlateType", {_PLATE_TYPES.get(rows * columns, 6)}',
        f'"TimePoints", {spec.t}',
        f'"ZSeries", {_bool(spec.z > 1)}',
        f'"ZSteps", {spec.z if spec.z > 1 else 0}',
        f'"ZProjection", {_bool(spec.projections != ())}',
        f'"XWells", {columns}',
        f'"YWells", {rows}',
        *(
            f'"WellsSelection{row + 1}", '
            + ", ".join(_bool((row, col) in chosen) for col in range(columns))
            for row in range(rows)
        ),
        f'"Sites", {_bool(spec.fields > 1)}',
    ]
    if spec.fields > 1:
        lines += [
            f'"XSites", {spec.grid[1]}',
            f'"YSites", {spec.grid[0]}',
            *(
                f'"SiteSelection{y + 1}", ' + ", ".join(["TRUE"] * spec.grid[1])
                for y in range(spec.grid[0])
            ),
        ]
    lines += [
        f'"Waves", {_bool(len(spec.channels) > 1)}',
        f'"NWavelengths", {len(spec.channels)}',
        *(f'"WaveName{n + 1}", "{name}"' for n, name in enumerate(spec.channels)),
        *(f'"WaveCollect{n + 1}", 1' for n in range(len(spec.channels))),
        f'"UniquePlateIdentifier", "{guid(spec, "plate")}"',
        '"EndFile"',
    ]
    return lines


def _bool(value: bool) -> str:
    return "TRUE" if value else "FALSE"
