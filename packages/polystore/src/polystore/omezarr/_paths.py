"""Paths that metadata name, kept inside of what is read.

A store may come from anyone: a path with ``..`` in it, or a link that leads elsewhere, would have
files read that nobody meant.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from polystore._errors import UnreadableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["inside", "is_relative"]


def is_relative(path: str) -> bool:
    """Say whether a path of a store stays below where it starts, by its text."""
    parts = path.split("/")
    return "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(parts)


def inside(root: Path, path: str) -> Path:
    """Give the place of `path` below `root`.

    Raises
    ------
    UnreadableError
        If it is not below it: by ``..``, by being absolute, or by a symbolic link.
    """
    if not is_relative(path):
        raise UnreadableError(f"{root}: the path {path!r} in its metadata may not be followed")
    place = root / path
    if not _has_link(root, path):
        return place
    try:
        real = place.resolve()
        kept = real.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
        raise UnreadableError(f"{root}: the path {path[:80]!r} cannot be followed") from error
    if not kept:
        raise UnreadableError(
            f"{place} is a link to {real}, outside of {root}: open what it leads to instead"
        )
    return place


def _has_link(root: Path, path: str) -> bool:
    """Say whether a folder below `root`, on the way to `path`, is a link.

    Without one the place is where its text says, which need not be resolved: that asks for every
    folder from the top of the disk on, twice.
    """
    place = os.fspath(root)
    for part in path.split("/"):
        place = f"{place}/{part}"
        try:
            if os.path.islink(place):  # noqa: PTH114  # a plate has ten thousand of them
                return True
        except ValueError:  # a name that no file can have
            return True
    return False
