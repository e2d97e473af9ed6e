"""Groups of OME-Zarr that say what they have to, and say it rightly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polystore._errors import UnreadableError
from polystore.omezarr._attributes import metadata_problems
from polystore.omezarr._groups import OmeVersion, read_group

if TYPE_CHECKING:
    from polystore.omezarr._groups import Group
    from polystore.omezarr._places import Where

__all__ = ["read_valid"]


def read_valid(where: Where, key: str) -> Group:
    """Read a group that has to say something of the format, and to say it rightly.

    How channels are shown (``omero``) may be said wrongly: pixels mean the same.

    Parameters
    ----------
    where
        The group is.
    key
        What it has to say, as ``"plate"``.

    Raises
    ------
    NotStoredError
        If there is no group.
    UnreadableError
        If it does not say it, or it is not valid; the message says where.
    """
    group = read_group(where)
    v05 = group.version is OmeVersion.V05
    if v05 and not group.ome and "multiscales" in group.others:
        raise UnreadableError(f"{group.file} has the metadata of OME-Zarr 0.4 in Zarr v3")
    attributes = {"ome": group.ome} if v05 else group.ome
    problems = tuple(
        problem
        for problem in metadata_problems(attributes, version=group.version)
        if not problem.path.startswith(("$.omero", "$.ome.omero"))
    )
    if not problems and key not in group.ome:
        hint = ""
        if "bioformats2raw.layout" in group.ome:
            hint = ", but a collection of bioformats2raw: open one of the images in it"
        elif "plate" in group.ome:
            hint = ", but a plate: open one of its wells"
        raise UnreadableError(f"{group.file} does not describe what is asked for ({key}){hint}")
    if problems:
        more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UnreadableError(
            f"{group.file} is not valid OME-Zarr {group.version}: {problems[0]}{more}"
        )
    return group
