"""The plate of results as a whole: its layout in OME-Zarr."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openhcs._errors import PlateError, ResultFolderError
from openhcs.execution._resume import slots
from openhcs.plates import IndexShards
from polystore import PolystoreError
from polystore.omezarr import PlateLayout, create_plate, extend_plate

if TYPE_CHECKING:
    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import Plan
    from openhcs.plates import PlateIndex

__all__ = ["check_plate", "lay_out"]


def check_plate(plan: Plan, folder: ResultFolder) -> None:
    """Refuse a folder with the results of another plate, before anything in it is touched.

    A plate stays the same in its place, and elsewhere as long as it holds a file that was there.

    Raises
    ------
    ResultFolderError
        If the results in the folder are of another plate.
    """
    there = (folder.read_run() or {}).get("plate", {})
    root = str(plan.index.root)
    if there.get("path", root) == root or there.get("identity") == plan.index.identity:
        return
    try:
        earlier = _files(IndexShards(folder.work / "plate").whole())
    except (PlateError, OSError):
        earlier = frozenset()
    if earlier.isdisjoint(_files(plan.plate)):
        message = (
            f"{folder.root} holds the results of another plate, {there['path']}: choose another "
            f"folder for those of {root}"
        )
        raise ResultFolderError(message)


def _files(index: PlateIndex) -> frozenset[tuple[Any, ...]]:
    columns = (index.column(name).tolist() for name in ("path", "file_size", "mtime_ns"))
    return frozenset(zip(*columns, strict=True))


def lay_out(plan: Plan, folder: ResultFolder) -> None:
    """Write the metadata of the plate of results, for all wells that will have images.

    Raises
    ------
    ResultFolderError
        If the folder holds the results of another plate, or cannot be written to.
    """
    wells = slots(plan)
    if not wells:
        return
    index = plan.index
    empty = PlateLayout.regular(
        index.name, rows=index.rows, columns=index.columns, wells=["A01"], images=["0"]
    )
    layout = replace(empty, wells=wells)
    try:
        if (folder.plate / "zarr.json").exists():
            extend_plate(folder.plate, layout)
        else:
            create_plate(folder.plate, layout)
    except PolystoreError as error:
        message = f"{folder.plate} cannot hold the results: {error}"
        raise ResultFolderError(message) from error
