"""Zarr stores in a plate folder: which folders are arrays, and in what state their chunks are.

A store has a file for each chunk, and a plate may have millions of them. They are never listed one
by one as files of the plate: an array is one entry, with the state of as many of its chunks as are
cheap to look at.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["DOCUMENTS", "ArrayState", "array_state", "is_array"]

DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata"})
"""Names of the files that make a folder one of Zarr."""

LOOKED_AT = 256
"""Chunks of an array, and folders of them, that are looked at. A shard of polystore takes six."""

_DOCUMENT_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayState:
    """What was seen of the chunks of an array.

    Parameters
    ----------
    size
        Bytes of the chunks seen.
    mtime_ns
        Time of the latest change seen, of a chunk or of a folder of them.
    digest
        Hash over all that was seen.
    complete
        Whether every chunk was seen.
    """

    size: int
    mtime_ns: int
    digest: str
    complete: bool


def is_array(folder: str, files: Collection[str], folders: Collection[str]) -> bool:
    """Say whether a folder is an array of Zarr, and not a group or no folder of Zarr.

    Parameters
    ----------
    folder
        Path.
    files, folders
        Names of what is directly in it.

    Returns
    -------
    bool
        By ``.zarray``, or by what ``zarr.json`` says. Where that cannot be read, a folder of
        chunks and nothing else makes it an array.
    """
    if ".zarray" in files:
        return True
    if "zarr.json" not in files:
        return False
    try:
        with open(f"{folder}/zarr.json", "rb") as file:  # noqa: PTH123  # a path costs as much as a read
            document = json.loads(file.read(_DOCUMENT_MOST_BYTES))
        return bool(document["node_type"] == "array")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return bool(folders) and not set(folders) - {"c"}


def array_state(folder: str) -> ArrayState:
    """Look at the chunks of an array, as far as there are few.

    Parameters
    ----------
    folder
        Path of the array.

    Returns
    -------
    ArrayState
        Of every chunk with its size and time where the array has at most 256 chunks and folders of
        them; else of the folders nearest to the array, whose times change when something directly
        in them is added, removed or replaced.

    Raises
    ------
    OSError
        If a folder cannot be listed.

    Notes
    -----
    What this does not see: a chunk of a larger array that is overwritten in place. Seen are writers
    that put a new file in a chunk's place, as zarr does, while there are at most 256 folders; and
    those that replace the whole image, as polystore does.
    """
    chunks: dict[str, tuple[int, int]] = {}
    folders = {"": os.stat(folder).st_mtime_ns}  # noqa: PTH116
    level = [""]
    left = LOOKED_AT
    while level and left >= 0:
        found: dict[str, tuple[int, int]] = {}
        below: dict[str, int] = {}
        for part in level:
            left = _look(f"{folder}/{part}", part, left, found, below)
            if left < 0:
                break
        else:
            chunks |= found
            folders |= below
            level = list(below)
    complete = left >= 0
    # a copy has other times of folders, which say nothing where every chunk was seen
    seen = chunks if complete else chunks | {path: (-1, at) for path, at in folders.items()}
    digest = hashlib.blake2b(digest_size=16)
    for path, (size, at) in sorted(seen.items()):
        digest.update(f"{path}\0{size}\0{at}\n".encode("utf-8", "surrogateescape"))
    return ArrayState(
        size=sum(size for size, _ in chunks.values()),
        mtime_ns=max((at for _, at in seen.values()), default=folders[""]),
        digest=digest.hexdigest(),
        complete=complete,
    )


def _look(
    place: str,
    part: str,
    left: int,
    chunks: dict[str, tuple[int, int]],
    folders: dict[str, int],
) -> int:
    """List one folder of chunks; gives how many more may be looked at, negative when too many."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name in DOCUMENTS:
                continue
            left -= 1
            if left < 0:
                break
            path = f"{part}{entry.name}"
            stat = entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                folders[f"{path}/"] = stat.st_mtime_ns
            else:
                chunks[path] = stat.st_size, stat.st_mtime_ns
    return left
