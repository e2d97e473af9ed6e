"""What is said about a group of a plate: ``zarr.json``, or ``.zgroup`` and ``.zattrs``.

OME-Zarr 0.5 is kept in Zarr v3 with everything under the attribute ``ome``; 0.4 is kept in Zarr
v2, with its keys beside whatever else there is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from polystore._errors import NotStoredError, UnreadableError
from polystore.files._atomic import write_json
from polystore.omezarr._places import as_place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from polystore.omezarr._places import Place, Where

__all__ = ["Group", "OmeVersion", "group_exists", "read_document", "read_group", "write_group"]

_KEYS = frozenset(
    {"plate", "well", "multiscales", "omero", "labels", "image-label", "series"}
    | {"bioformats2raw.layout"}
)
_DOCUMENT_MOST_BYTES = 64 * 1024**2
_SURROGATE = re.compile(rb"\\u[dD][89abAB]|\xed[\xa0-\xbf]")
_VERSIONED = ("plate", "well", "image-label")


class OmeVersion(StrEnum):
    """A version of OME-Zarr that is written and read."""

    V04 = "0.4"
    """In Zarr v2: each chunk is a file."""
    V05 = "0.5"
    """In Zarr v3: many chunks are one file."""


@dataclass(frozen=True, slots=True)
class Group:
    """The attributes of a group.

    Attributes
    ----------
    place
        Where the group is.
    version
        That of OME-Zarr that goes with the group's version of Zarr.
    ome
        Those of the format; empty where there are none.
    others
        All others, by name.
    """

    place: Place
    version: OmeVersion
    ome: dict[str, Any]
    others: dict[str, Any]

    @property
    def file(self) -> str:
        """File that the attributes are in, as messages call it."""
        return f"{self.place}/{self.file_name}"

    @property
    def file_name(self) -> str:
        """Name of that file."""
        return "zarr.json" if self.version is OmeVersion.V05 else ".zattrs"

    @property
    def own(self) -> Mapping[str, Any] | None:
        """What polystore says about what it wrote; None where it did not.

        Raises
        ------
        UnreadableError
            If the attribute is damaged.
        """
        own = self.others.get("polystore")
        if own is not None and not isinstance(own, dict):
            raise UnreadableError(f"{self.file}: the attribute polystore is damaged")
        return own

    @property
    def valid_px(self) -> tuple[int, int] | None:
        """Height and width that an image really has, or None where polystore did not write it.

        Raises
        ------
        UnreadableError
            If the attribute is damaged.
        """
        own = self.own
        if own is None:
            return None
        try:
            height, width = own["valid_px"]
            return int(height), int(width)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableError(
                f"{self.file}: the attribute polystore.valid_px is damaged"
            ) from error


def read_group(where: Where) -> Group:
    """Read the attributes of a group.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not JSON, or not of a group.
    """
    place = as_place(where)
    document = read_document(place, "zarr.json")
    if document is not None:
        attributes = document.get("attributes", {})
        group = document.get("zarr_format") == 3 and document.get("node_type", "group") == "group"
        if not group or not isinstance(attributes, dict):
            raise UnreadableError(f"{place}/zarr.json does not describe a group of Zarr v3")
        ome = attributes.get("ome", {})
        if not isinstance(ome, dict):
            raise UnreadableError(f"{place}/zarr.json: attributes.ome is no object")
        others = {name: value for name, value in attributes.items() if name != "ome"}
        return Group(place, OmeVersion.V05, ome, others)
    document = read_document(place, ".zgroup")
    if document is None:
        raise NotStoredError(f"{place}: there is no Zarr group (neither zarr.json nor .zgroup)")
    if document.get("zarr_format") != 2:
        raise UnreadableError(f"{place}/.zgroup does not describe a group of Zarr v2")
    attributes = read_document(place, ".zattrs") or {}
    ome = {name: value for name, value in attributes.items() if name in _KEYS}
    others = {name: value for name, value in attributes.items() if name not in _KEYS}
    return Group(place, OmeVersion.V04, ome, others)


def group_exists(where: Where) -> bool:
    """Say whether there is a group, whatever it is of."""
    place = as_place(where)
    return place.has("zarr.json") or place.has(".zgroup")


def write_group(
    path: Path,
    version: OmeVersion,
    ome: Mapping[str, Any] | None = None,
    others: Mapping[str, Any] | None = None,
) -> None:
    """Write the metadata of a group; its folder has to exist.

    Parameters
    ----------
    path
        Of the group.
    version
        Of the format; said wherever the format wants it.
    ome
        What the format says, without its version.
    others
        All other attributes.

    Raises
    ------
    NotWrittenError
        If they cannot be written.
    """
    said = _stamped(version, ome) if ome else {}
    others = others or {}
    if version is OmeVersion.V05:
        attributes = {**others, "ome": said} if said else dict(others)
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_json(path / "zarr.json", document)
        return
    # the group last: what has no .zgroup is no group yet
    write_json(path / ".zattrs", {**others, **said})
    if not (path / ".zgroup").exists():
        write_json(path / ".zgroup", {"zarr_format": 2})


def _stamped(version: OmeVersion, ome: Mapping[str, Any]) -> dict[str, Any]:
    stamped = {
        name: {**value, "version": str(version)} if name in _VERSIONED else value
        for name, value in ome.items()
        if name != "version"
    }
    if version is OmeVersion.V05:
        # the text of 0.5 wants it in plate and well as well, its schema does not
        return {"version": str(version), **stamped}
    if "multiscales" in ome:
        stamped["multiscales"] = [
            {**each, "version": str(version)} for each in stamped["multiscales"]
        ]
    return stamped


def read_document(place: Place, file: str) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no such file.

    Raises
    ------
    UnreadableError
        If it is too large, too deeply nested, or no JSON object.
    AccessDeniedError, UnreachableError
        If it is remote, and not to be had.
    """
    content = place.content(file, _DOCUMENT_MOST_BYTES)
    if content is None:
        return None
    try:
        document = json.loads(content)
    except RecursionError as error:
        raise UnreadableError(f"{place}/{file} cannot be read: it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(f"{place}/{file} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise UnreadableError(f"{place}/{file} cannot be read: it holds no JSON object")
    if _SURROGATE.search(content) and not _is_unicode(document):
        raise UnreadableError(f"{place}/{file} cannot be read: it holds half a character of two")
    return document


def _is_unicode(document: dict[str, Any]) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True
