"""The metadata of an OME-Zarr plate: what is where, written once before any image.

Tasks that write images in different wells share nothing but folders, so that any number of
processes may do so at once.

Notes
-----
OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org), sections on plates and wells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polystore._errors import LayoutError, NotStoredError, UnreadableError
from polystore.files._atomic import writing
from polystore.files._locks import LOCK_TIMEOUT_S, exclusive
from polystore.omezarr._align import align_images
from polystore.omezarr._groups import OmeVersion, group_exists, read_group, write_group
from polystore.omezarr._layout import PlateLayout, difference, well_path
from polystore.omezarr._places import local_path
from polystore.omezarr._plate_read import PlateReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["create_plate", "extend_plate", "settle_plate"]


def create_plate(
    path: Path | str,
    layout: PlateLayout,
    *,
    version: OmeVersion | str = OmeVersion.V05,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata of a plate, its rows and its wells.

    Called once, before any image is written. Opening an equal plate again changes nothing.

    Parameters
    ----------
    path
        ``something.zarr``, in a folder that exists.
    layout
        What the plate will hold.
    version
        Of OME-Zarr, ``"0.5"`` or ``"0.4"``. All that is written into the plate is in it. In 0.4
        each chunk is a file: tens of times as many.
    attributes
        JSON to be kept beside the metadata of the format, by name.

    Raises
    ------
    LayoutError
        If another plate is there, with how it differs; `extend_plate` adds to it. Or if there is
        no such version.
    NotWrittenError
        If it cannot be written.
    """
    root = local_path(path)
    try:
        version = OmeVersion(version)
    except ValueError as error:
        raise LayoutError(f"{root}: {version!r} is not 0.4 or 0.5, which are written") from error
    if group_exists(root):
        reader = PlateReader(root)
        if reader.version is not version:
            raise LayoutError(
                f"{root} is a plate of OME-Zarr {reader.version} already, not of {version}: choose "
                "another folder"
            )
        there = reader.layout()
        if there != layout:
            raise LayoutError(
                f"{root} is another plate already ({difference(there, layout)}): choose another "
                "folder, or extend it"
            )
    # the plate itself comes last: a plate that can be opened has all its wells
    _write_wells(root, version, layout, layout.wells)
    _write_plate(root, version, layout, attributes or {})


def extend_plate(path: Path | str, layout: PlateLayout) -> PlateLayout:
    """Add wells, images and acquisitions to a plate.

    Several processes may do so at once, while others write images.

    Parameters
    ----------
    path
        Of the plate.
    layout
        What is to be there; what is there already need not be named again. Where all images of a
        well are named they have this order, else new ones come last.

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
    root = local_path(path)
    read_group(root)  # without a folder there is nothing to lock
    with exclusive(root / "plate", timeout_s=LOCK_TIMEOUT_S):
        return _extended(root, layout)


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
    root = local_path(path)
    reader = PlateReader(root)
    planned = reader.layout()
    written = {
        well: tuple(image for image in images if group_exists(reader.folder(well) / image.path))
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
    # wells first, so that none refers to an acquisition that the plate has not, whenever this is
    # interrupted
    changed = [well for well, images in wells.items() if planned.wells[well] != images]
    _write_wells(root, reader.version, settled, changed)
    _write_plate(root, reader.version, settled, reader.attributes)
    align_images(root, settled)
    return settled


def _extended(root: Path, layout: PlateLayout) -> PlateLayout:
    reader = PlateReader(root)
    there = reader.layout()
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
        named = {image.path: image for image in images}
        old = {image.path: image for image in wells.get(well, ())}
        wells[well] = tuple((named if old.keys() <= named.keys() else old | named).values())
    both = PlateLayout(
        name=there.name,
        rows=there.rows,
        columns=there.columns,
        wells=wells,
        acquisitions=tuple(acquisitions.values()),
    )
    changed = [well for well, images in both.wells.items() if there.wells.get(well) != images]
    # new wells are there before the plate lists them, and new acquisitions before wells refer to
    # them, so that the plate can be read whenever this is interrupted
    _write_wells(root, reader.version, both, [each for each in changed if each not in there.wells])
    _write_plate(root, reader.version, both, reader.attributes)
    _write_wells(root, reader.version, both, [each for each in changed if each in there.wells])
    return both


def _write_plate(
    root: Path, version: OmeVersion, layout: PlateLayout, attributes: Mapping[str, Any]
) -> None:
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
    _write_if_new(root, version, {"plate": plate}, attributes)


def _write_wells(
    root: Path, version: OmeVersion, layout: PlateLayout, wells: Iterable[str]
) -> None:
    with writing(root):
        root.mkdir(exist_ok=True)
    for well in wells:
        folder = root / well_path(well)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _write_if_new(folder.parent, version, {}, {})
        images = [
            {"path": image.path, "acquisition": image.acquisition} for image in layout.wells[well]
        ]
        _write_if_new(folder, version, {"well": {"images": images}}, {})


def _write_if_new(
    folder: Path, version: OmeVersion, ome: Mapping[str, Any], others: Mapping[str, Any]
) -> None:
    try:
        there = read_group(folder)
        unversioned = {name: _unversioned(value) for name, value in there.ome.items()}
        unversioned.pop("version", None)
        if (there.version, unversioned, there.others) == (version, ome, others):
            return
    except (NotStoredError, UnreadableError):
        pass
    write_group(folder, version, ome, others)


def _unversioned(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: each for name, each in value.items() if name != "version"}
