"""The files of an order are looked at once more when its run begins: it may have waited long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._errors import PlateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["check_places"]


def check_places(places: Mapping[str, str], roots: Mapping[str, Path]) -> None:
    """Refuse files and folders that lie in no root, or hold a link that leads out of theirs.

    Parameters
    ----------
    places
        Absolute path of each file or folder, without links, by the name that the submitter knows.
    roots
        What the server allows now, by name.

    Raises
    ------
    PlateError
        If one is gone, was replaced by a link, or holds a link to what lies elsewhere.
    OSError
        If a folder cannot be listed.

    Notes
    -----
    A link is made by somebody who writes to the plates, and not by who submits. One folder is one
    system call, and one more for each link.
    """
    for name, place in places.items():
        path, root = Path(place), name.partition("/")[0]
        inside = roots[root].resolve() if root in roots else None
        if inside is None or not path.is_relative_to(inside):
            message = f"{name} lies in no root of this server any more"
            raise PlateError(message)
        if not path.exists():
            message = f"{name} is not there any more: was it moved, or is its disk not mounted?"
            raise PlateError(message)
        if path.resolve() != path:
            message = f"{name} was replaced by a link after it was submitted: submit it again"
            raise PlateError(message)
        for link in _links(path):
            if not Path(os.path.realpath(link)).is_relative_to(inside):  # links may run in circles
                message = (
                    f"{name} holds a link that leads out of the root {root!r}: "
                    f"{link.relative_to(path)}. Put what it leads to in its place, or take it away"
                )
                raise PlateError(message)


def _links(folder: Path) -> Iterator[Path]:
    pending = [str(folder)] if folder.is_dir() else []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
