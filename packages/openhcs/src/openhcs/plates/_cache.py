"""Stored indices of plates that were opened before, outside the plates' folders."""

from __future__ import annotations

import hashlib
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._storage import VERSION, read_index, write_index

if TYPE_CHECKING:
    from openhcs.plates._findings import DuplicatePolicy
    from openhcs.plates._index import PlateIndex

__all__ = ["cache_file", "load", "store"]

_log = logging.getLogger(__name__)
_MOST = 64
"""Indices kept; the ones not used for longest go."""


def cache_file(
    root: Path,
    identity: str,
    choice: str | None,
    *,
    deep: bool,
    described: str = "",
    duplicates: DuplicatePolicy = "error",
    include_unlisted: bool = False,
) -> Path:
    """Say where the index of a plate is kept.

    Parameters
    ----------
    root
        The plate's folder, or the file that was opened in its place, absolute.
    identity
        Hash over all its files.
    choice
        The format that was asked for; None when it was found out.
    deep
        Whether all headers were opened.
    described
        Fingerprint of what a person said about the plate, empty without.
    duplicates, include_unlisted
        What was decided about doubled and unlisted files.

    Returns
    -------
    Path
        In ``$XDG_CACHE_HOME/openhcs/plates``, or ``~/.cache`` in its place. Another state of the
        plate, and another version of this package, whose readers may see more, have another file.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache"
    said = (str(deep), described, duplicates, str(include_unlisted))
    ours = f"{version('openhcs')} {VERSION}"
    key = "\0".join((ours, str(root), identity, choice or "", *said))
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return base / "openhcs" / "plates" / f"{digest}.npz"


def load(path: Path) -> PlateIndex | None:
    """Read a stored index.

    Parameters
    ----------
    path
        What `cache_file` said.

    Returns
    -------
    PlateIndex | None
        None when there is none, or it is damaged: then it is made again.
    """
    try:
        index = read_index(path)
        os.utime(path)
    except FileNotFoundError:
        return None
    except (PlateError, OSError) as error:
        _log.info("the stored index is made again: %s", error)
        return None
    return index


def store(path: Path, index: PlateIndex) -> None:
    """Keep an index; a cache that cannot be written is not an error.

    Parameters
    ----------
    path
        What `cache_file` said.
    index
        What to keep.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_index(index, path)
        kept = sorted(path.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[:-_MOST]:
            old.unlink(missing_ok=True)
    except OSError as error:
        _log.info("the index of %s is not kept: %s", index.root, error)
