"""The metadata of an OME-Zarr plate: what is where, written once before any image.

Tasks that write images in different wells share nothing but folders, so that any number of
processes may do so at once.

Notes
-----
OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5/), sections on plates and wells.
"""

from __future__ import annotations

import json
import re
import string
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from polystore._components import sort_key
from polystore._errors import LayoutError, NotStoredError, UnreadableError
from polystore.backends._atomic import write_json, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Acquisition",
    "ImageSlot",
    "PlateLayout",
    "create_plate",
    "extend_plate",
    "read_group",
    "read_plate",
    "settle_plate",
    "well_path",
    "write_group",
]

OME_VERSION = "0.5"
_NAME = re.compile(r"[A-Za-z0-9]+")
_WELL = re.compile(r"([A-Z]{1,2})0*([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One run of a microscope, or one way of looking at it, over the plate."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ImageSlot:
    """A place for one image in a well: the name of its group, and whose acquisition it is."""

    path: str
    acquisition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateLayout:
    """What a plate holds, before its images are there.

    Attributes
    ----------
    name
        Of the plate.
    rows, columns
        Names of all physical rows and columns, also those without images: ``"A"``, ``"1"``.
    wells
        Images of each well that has any, by name as ``"B03"``.
    acquisitions
        Those that the images refer to.

    Raises
    ------
    LayoutError
        If a name is not of letters and digits, is there twice, or a well is not on the plate.
    """

    name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    wells: Mapping[str, tuple[ImageSlot, ...]]
    acquisitions: tuple[Acquisition, ...] = field(default=(Acquisition(0, "0"),))

    def __post_init__(self) -> None:
        wells = {well: tuple(self.wells[well]) for well in sorted(self.wells, key=sort_key)}
        object.__setattr__(self, "wells", MappingProxyType(wells))
        _check_names("rows", self.rows)
        _check_names("columns", self.columns)
        if not wells:
            raise LayoutError(f"plate {self.name!r} has no wells")
        ids = [acquisition.id for acquisition in self.acquisitions]
        if len(set(ids)) != len(ids) or any(number < 0 for number in ids):
            raise LayoutError(f"acquisitions need ids of their own, from 0: {ids}")
        for well, images in wells.items():
            row, column = well_path(well).split("/")
            if row not in self.rows or column not in self.columns:
                raise LayoutError(
                    f"well {well} is not on a plate of {len(self.rows)} rows and "
                    f"{len(self.columns)} columns"
                )
            _check_names(f"images of well {well}", [image.path for image in images])
            for image in images:
                if image.acquisition not in ids:
                    raise LayoutError(
                        f"image {image.path} of well {well} is of acquisition "
                        f"{image.acquisition}, there are {ids}"
                    )

    @classmethod
    def regular(
        cls,
        name: str,
        *,
        rows: int,
        columns: int,
        wells: Iterable[str],
        images: Iterable[ImageSlot | str],
        acquisitions: Iterable[Acquisition] = (Acquisition(0, "0"),),
    ) -> PlateLayout:
        """Lay out a plate with the same images in every well.

        Parameters
        ----------
        name
            Of the plate.
        rows, columns
            How many the plate has physically, as 8 and 12.
        wells
            Those with images, as ``"B03"``.
        images
            Groups of each well; a bare name is of acquisition 0.
        acquisitions
            Those that `images` refer to.

        Raises
        ------
        LayoutError
            If the layout is not possible.
        """
        slots = tuple(ImageSlot(image) if isinstance(image, str) else image for image in images)
        return cls(
            name=name,
            rows=tuple(_row_name(number) for number in range(rows)),
            columns=tuple(str(number + 1) for number in range(columns)),
            wells=dict.fromkeys(wells, slots),
            acquisitions=tuple(acquisitions),
        )


_Count = Annotated[int, msgspec.Meta(ge=1)]
_Time = Annotated[int, msgspec.Meta(ge=0)]
_Part = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]+$")]


class _Named(msgspec.Struct, frozen=True):
    name: _Part


class _PlateWell(msgspec.Struct, frozen=True, rename="camel"):
    path: str
    row_index: Annotated[int, msgspec.Meta(ge=0)]
    column_index: Annotated[int, msgspec.Meta(ge=0)]


class _PlateAcquisition(msgspec.Struct, frozen=True):
    id: Annotated[int, msgspec.Meta(ge=0)]
    name: str | None = None
    maximumfieldcount: _Count | None = None
    starttime: _Time | None = None
    endtime: _Time | None = None


class _WellImage(msgspec.Struct, frozen=True):
    path: _Part
    acquisition: int = 0


class _Well(msgspec.Struct, frozen=True):
    images: Annotated[tuple[_WellImage, ...], msgspec.Meta(min_length=1)]


class _Plate(msgspec.Struct, frozen=True):
    """What a plate's metadata have to say, by the specification."""

    rows: Annotated[tuple[_Named, ...], msgspec.Meta(min_length=1)]
    columns: Annotated[tuple[_Named, ...], msgspec.Meta(min_length=1)]
    wells: Annotated[tuple[_PlateWell, ...], msgspec.Meta(min_length=1)]
    acquisitions: tuple[_PlateAcquisition, ...] = ()
    name: str | None = None
    field_count: _Count | None = None

    def check(self) -> None:
        """Check what one field alone cannot say.

        Raises
        ------
        LayoutError
            If a well is there twice, or not where its path says.
        """
        if len(set(self.wells)) != len(self.wells):
            raise LayoutError("a well is listed twice")
        for well in self.wells:
            if well.row_index >= len(self.rows) or well.column_index >= len(self.columns):
                raise LayoutError(f"well {well.path} is not on the plate")
            expected = f"{self.rows[well.row_index].name}/{self.columns[well.column_index].name}"
            if well.path != expected:
                raise LayoutError(f"the well at {expected} has the path {well.path}")


def well_path(well: str) -> str:
    """Path of a well in a plate: ``"A/1"`` for ``"A01"``.

    Raises
    ------
    LayoutError
        If `well` is no name of a well.
    """
    match = _WELL.fullmatch(well)
    if match is None:
        raise LayoutError(f"{well!r} is no well: a well is letters and a number, as B03")
    return f"{match[1]}/{match[2]}"


def create_plate(
    path: Path | str, layout: PlateLayout, *, attributes: Mapping[str, Any] | None = None
) -> None:
    """Write the metadata of a plate, its rows and its wells.

    Called once, before any image is written. Opening an equal plate again changes nothing.

    Parameters
    ----------
    path
        ``something.zarr``, in a folder that exists.
    layout
        What the plate will hold.
    attributes
        JSON to be kept beside the metadata of the format, by name.

    Raises
    ------
    LayoutError
        If another plate is there, with how it differs; `extend_plate` adds to it.
    NotWrittenError
        If it cannot be written.
    """
    root = Path(path)
    if (root / "zarr.json").exists():
        there = read_plate(root)
        if there != layout:
            raise LayoutError(
                f"{root} is another plate already ({_difference(there, layout)}): choose another "
                "folder, or extend it"
            )
    # the plate itself comes last: a plate that can be opened has all its wells
    _write_wells(root, layout, layout.wells)
    _write_plate(root, layout, attributes or {})


def extend_plate(path: Path | str, layout: PlateLayout) -> PlateLayout:
    """Add wells, images and acquisitions to a plate.

    Called by one process at a time, while images may be written by others.

    Parameters
    ----------
    path
        Of the plate.
    layout
        What is to be there; what is there already need not be named again.

    Returns
    -------
    PlateLayout
        All that is there now.

    Raises
    ------
    NotStoredError
        If there is no plate.
    LayoutError
        If the plate has another name, other rows or columns, or an acquisition of the same id and
        another name.
    NotWrittenError
        If it cannot be written.
    """
    root = Path(path)
    there = read_plate(root)
    if (there.name, there.rows, there.columns) != (layout.name, layout.rows, layout.columns):
        raise LayoutError(f"{root} is another plate ({_difference(there, layout)})")
    acquisitions = {acquisition.id: acquisition for acquisition in there.acquisitions}
    for acquisition in layout.acquisitions:
        if acquisitions.setdefault(acquisition.id, acquisition) != acquisition:
            raise LayoutError(
                f"{root}: acquisition {acquisition.id} is "
                f"{acquisitions[acquisition.id].name!r}, not {acquisition.name!r}"
            )
    wells = dict(there.wells)
    for well, images in layout.wells.items():
        old = {image.path: image for image in wells.get(well, ())}
        wells[well] = tuple((old | {image.path: image for image in images}).values())
    both = PlateLayout(
        name=there.name,
        rows=there.rows,
        columns=there.columns,
        wells=wells,
        acquisitions=tuple(acquisitions.values()),
    )
    changed = [well for well, images in both.wells.items() if there.wells.get(well) != images]
    _write_wells(root, both, changed)
    _write_plate(root, both, _own_attributes(read_group(root)))
    return both


def settle_plate(path: Path | str) -> PlateLayout:
    """Take out of the metadata what was planned and never written.

    Called when a run is over, so that readers do not trip over the images of wells that failed.

    Parameters
    ----------
    path
        Of the plate.

    Returns
    -------
    PlateLayout
        What is there. If there is no image at all, nothing is changed.

    Raises
    ------
    NotStoredError
        If there is no plate.
    NotWrittenError
        If it cannot be written.
    """
    root = Path(path)
    planned = read_plate(root)
    written = {
        well: tuple(
            image
            for image in images
            if (root / well_path(well) / image.path / "zarr.json").exists()
        )
        for well, images in planned.wells.items()
    }
    wells = {well: images for well, images in written.items() if images}
    if not wells or wells == dict(planned.wells):
        return planned
    used = {image.acquisition for images in wells.values() for image in images}
    settled = PlateLayout(
        name=planned.name,
        rows=planned.rows,
        columns=planned.columns,
        wells=wells,
        acquisitions=tuple(each for each in planned.acquisitions if each.id in used),
    )
    _write_plate(root, settled, _own_attributes(read_group(root)))
    changed = [well for well, images in wells.items() if planned.wells[well] != images]
    _write_wells(root, settled, changed)
    return settled


def read_plate(path: Path | str) -> PlateLayout:
    """Read what a plate holds.

    Parameters
    ----------
    path
        Of an OME-Zarr 0.5 plate.

    Raises
    ------
    NotStoredError
        If there is no plate.
    UnreadableError
        If its metadata are not those of a plate.
    """
    root = Path(path)
    try:
        plate = msgspec.convert(_ome(root).get("plate"), _Plate)
        plate.check()
        wells = {}
        for well in plate.wells:
            images = msgspec.convert(_ome(root / well.path).get("well"), _Well).images
            row, column = well.path.split("/")
            name = f"{row}{int(column):02d}" if column.isdigit() else f"{row}{column}"
            wells[name] = tuple(ImageSlot(image.path, image.acquisition) for image in images)
        return PlateLayout(
            name=plate.name or root.stem,
            rows=tuple(row.name for row in plate.rows),
            columns=tuple(column.name for column in plate.columns),
            wells=wells,
            acquisitions=tuple(
                Acquisition(each.id, each.name or str(each.id)) for each in plate.acquisitions
            )
            or (Acquisition(0, "0"),),
        )
    except (msgspec.ValidationError, LayoutError) as error:
        raise UnreadableError(f"{root} is no OME-Zarr 0.5 plate: {error}") from error


def read_group(path: Path) -> dict[str, Any]:
    """Read the attributes of a Zarr v3 group.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not JSON, or not of a group.
    """
    file = path / "zarr.json"
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise NotStoredError(f"{path}: there is no Zarr group (no zarr.json)") from error
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{file} cannot be read: {error}") from error
    attributes = document.get("attributes", {}) if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or document.get("zarr_format") != 3:
        raise UnreadableError(f"{file} does not describe a group of Zarr version 3")
    return attributes


def write_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write the metadata of a Zarr v3 group; its folder has to exist.

    Raises
    ------
    NotWrittenError
        If they cannot be written.
    """
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    write_json(path / "zarr.json", document)


def _ome(path: Path) -> dict[str, Any]:
    ome = read_group(path).get("ome")
    if not isinstance(ome, dict):
        raise UnreadableError(f"{path} has no OME-Zarr 0.5 metadata")
    return ome


def _own_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != "ome"}


def _write_plate(root: Path, layout: PlateLayout, attributes: Mapping[str, Any]) -> None:
    wells = []
    for well in layout.wells:
        row, column = well_path(well).split("/")
        wells.append(
            {
                "path": f"{row}/{column}",
                "rowIndex": layout.rows.index(row),
                "columnIndex": layout.columns.index(column),
            }
        )
    counts = {
        acquisition.id: max(
            sum(image.acquisition == acquisition.id for image in images)
            for images in layout.wells.values()
        )
        for acquisition in layout.acquisitions
    }
    plate = {
        "name": layout.name,
        "version": OME_VERSION,
        "field_count": max(map(len, layout.wells.values())),
        "acquisitions": [
            {"id": each.id, "name": each.name, "maximumfieldcount": max(1, counts[each.id])}
            for each in layout.acquisitions
        ],
        "rows": [{"name": name} for name in layout.rows],
        "columns": [{"name": name} for name in layout.columns],
        "wells": wells,
    }
    with writing(root):
        root.mkdir(exist_ok=True)
    _write_if_new(root, {**attributes, "ome": {"version": OME_VERSION, "plate": plate}})


def _write_wells(root: Path, layout: PlateLayout, wells: Iterable[str]) -> None:
    with writing(root):
        root.mkdir(exist_ok=True)
    for well in wells:
        folder = root / well_path(well)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _write_if_new(folder.parent, {})
        images = [
            {"path": image.path, "acquisition": image.acquisition} for image in layout.wells[well]
        ]
        ome = {"version": OME_VERSION, "well": {"version": OME_VERSION, "images": images}}
        _write_if_new(folder, {"ome": ome})


def _write_if_new(folder: Path, attributes: Mapping[str, Any]) -> None:
    try:
        if read_group(folder) == attributes:
            return
    except (NotStoredError, UnreadableError):
        pass
    write_group(folder, attributes)


def _check_names(what: str, names: Iterable[str]) -> None:
    names = list(names)
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong or len(set(names)) != len(names) or not names:
        raise LayoutError(
            f"{what} need names of letters and digits, each once, and at least one: {names}"
        )


def _row_name(number: int) -> str:
    letters = string.ascii_uppercase
    return letters[number] if number < 26 else letters[number // 26 - 1] + letters[number % 26]


def _difference(there: PlateLayout, wanted: PlateLayout) -> str:
    for what in ("name", "rows", "columns", "wells", "acquisitions"):
        if getattr(there, what) != getattr(wanted, what):
            return f"its {what} differ"
    return "it is the same"
