"""Roots: the folders that a service shows, and nothing beside them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zmqruntime._errors import ForbiddenError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zmqruntime.control._peer import Peer

__all__ = ["Roots"]

_LONGEST = 4096


class Roots:
    """Folders that peers may read, by name.

    Parameters
    ----------
    folders
        Name and folder of each; none means that nothing can be listed or read.

    Raises
    ------
    ValueError
        If a folder is not absolute.
    """

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self._folders = {}
        for name, folder in (folders or {}).items():
            if not folder.is_absolute():
                raise ValueError(f"the folder of {name!r} is not absolute: {folder}")
            self._folders[name] = folder.resolve()

    def visible_to(self, peer: Peer) -> tuple[str, ...]:
        """Return the names of the roots that a peer may read, sorted."""
        return tuple(sorted(name for name in self._folders if peer.holds(f"fs:{name}:read")))

    def resolve(self, peer: Peer, name: str, path: str) -> Path:
        """Find what a peer names, if it may read it.

        Parameters
        ----------
        peer
            Who asks; it needs ``fs:{name}:read``.
        name
            Which root.
        path
            Relative to it; links are followed and must stay inside.

        Returns
        -------
        Path
            Absolute, without links.

        Raises
        ------
        ForbiddenError
            If the peer may not, which says nothing about what is there.
        InvalidRequestError
            If the path is absolute, too long, or leads out of the root.
        NotFoundError
            If there is nothing.
        """
        if not peer.may(f"fs:{name}:read") or name not in self._folders:
            raise ForbiddenError(
                f"{peer} may not read {name!r}: it needs fs:{name}:read, and a root of that name",
                details={"capability": f"fs:{name}:read"},
            )
        if len(path) > _LONGEST or "\0" in path or os.path.isabs(path):  # noqa: PTH117 - text
            raise InvalidRequestError("a path is relative to its root, and has no zero byte")
        root = self._folders[name]
        try:
            found = (root / path).resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise NotFoundError(f"there is no {path!r} in {name!r}") from error
        if not found.is_relative_to(root):
            raise InvalidRequestError(f"{path!r} leads out of {name!r}")
        if not found.exists():
            raise NotFoundError(f"there is no {path!r} in {name!r}")
        return found
