"""What is said about a folder in its ``zarr.json``: groups and arrays of Zarr v3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from polystore._errors import NotStoredError, UnreadableError
from polystore.backends._atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["OME_VERSION", "read_array", "read_group", "read_ome", "valid_px", "write_group"]

OME_VERSION = "0.5"
"""Version of the format that is written and read."""


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


def read_ome(path: Path) -> dict[str, Any]:
    """Read the OME-Zarr 0.5 metadata of a group.

    Raises
    ------
    NotStoredError
        If there is no such group.
    UnreadableError
        If it has none.
    """
    ome = read_group(path).get("ome")
    if not isinstance(ome, dict):
        raise UnreadableError(f"{path} has no OME-Zarr 0.5 metadata")
    return ome


def valid_px(attributes: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width that an image really has, or None where polystore did not write it.

    Raises
    ------
    UnreadableError
        If the attribute is damaged.
    """
    own = attributes.get("polystore")
    if own is None:
        return None
    try:
        height, width = own["valid_px"]
        return int(height), int(width)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(f"the attribute polystore.valid_px is damaged: {own}") from error


def read_array(folder: Path) -> dict[str, Any]:
    """Read the metadata of a Zarr v3 array.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not those of an array.
    """
    file = folder / "zarr.json"
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise NotStoredError(f"{folder}: there is no array") from error
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("shape"), list):
        raise UnreadableError(f"{file} does not describe an array")
    return document
