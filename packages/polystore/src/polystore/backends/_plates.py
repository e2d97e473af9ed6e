"""The metadata of an OME-Zarr plate: what is where, written once before any image.

Tasks that write images in different wells share nothing but folders, so that any number of
processes may do so at once.

Notes
-----
OME-Zarr 0.5 (https://ngff.openmicroscopy.org/0.5/), sections on plates and wells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from polystore._errors import LayoutError, NotStoredError, UnreadableError
from polystore.backends._align import align_images
from polystore.backends._atomic import writing
from polystore.backends._groups import OME_VERSION, read_group, read_ome, write_group
from polystore.backends._layout import Acquisition, ImageSlot, PlateLayout, difference, well_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["create_plate", "extend_plate", "read_plate", "settle_plate"]

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
                f"{root} is another plate already ({difference(there, layout)}): choose another "
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
        raise LayoutError(f"{root} is another plate ({difference(there, layout)})")
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
    """Leave a plate as readers want it, when a run is over.

    What was planned and never written is taken out of the metadata, so that readers do not trip
    over wells that failed. All images of one name, and their labels, get the stored size of the
    largest by filling up with 0, so that viewers can lay the wells side by side; `ImageReader`
    leaves the filling out again. Called while nobody writes.

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
    UnreadableError
        If the metadata of an image cannot be read.
    NotWrittenError
        If something cannot be written.
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
    if not wells:
        return planned
    if wells == dict(planned.wells):
        align_images(root, planned)
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
    align_images(root, settled)
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
        plate = msgspec.convert(read_ome(root).get("plate"), _Plate)
        plate.check()
        wells = {}
        for well in plate.wells:
            images = msgspec.convert(read_ome(root / well.path).get("well"), _Well).images
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
