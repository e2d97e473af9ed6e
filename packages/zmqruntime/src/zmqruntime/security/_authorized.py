"""AuthorizedKeys: the keys that a server lets in, as they are at this moment."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zmqruntime._errors import ExposedKeyError, KeyFileError
from zmqruntime.security._capabilities import Role, capabilities_of, check_capabilities
from zmqruntime.security._curve import check_key
from zmqruntime.security._key_files import AuthorizedFile, check_name, decode_file
from zmqruntime.security._private import read_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AuthorizedKey", "AuthorizedKeys", "read_authorized"]

logger = logging.getLogger(__name__)

_SETTLED_NS = 50_000_000  # file systems stamp changes by the tick of the kernel, 10 ms at most


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKey:
    """A key that a server lets in.

    Attributes
    ----------
    name
        What the server's user calls whoever has the key.
    public
        The key, 40 characters of Z85; it is the identity.
    role
        Viewer, operator, admin, or None when only `capabilities` count.
    capabilities
        What it may do besides, in the notation of `fnmatch`.
    since
        When it was let in, ISO 8601; empty when unknown.
    """

    name: str
    public: str
    role: Role | None = None
    capabilities: frozenset[str] = frozenset()
    since: str = ""
    grants: frozenset[str] = field(init=False)
    """All that it may do: of the role, and besides."""

    def __post_init__(self) -> None:
        of_role = capabilities_of(self.role) if self.role is not None else frozenset()
        object.__setattr__(self, "grants", of_role | check_capabilities(self.capabilities))


class AuthorizedKeys:
    """The authorised keys as they are now; looked up with every message.

    Parameters
    ----------
    folder
        ``authorized`` of a `KeyFolder`.

    Notes
    -----
    A look-up asks the kernel when the folder was last changed, about 2 µs, and reads the files
    again when that is not what it was.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int] | None = None
        self._keys: dict[str, AuthorizedKey] = {}

    def find(self, public: str) -> AuthorizedKey | None:
        """Return what a key may do; None when it is not, or no longer, let in."""
        try:
            status = os.stat(self._folder)  # noqa: PTH116 - half the price of Path.stat
        except OSError as error:
            if self._keys or not isinstance(error, FileNotFoundError):  # no folder: nobody yet
                logger.warning("nobody is let in: %s cannot be read: %s", self._folder, error)
            self._stamp, self._keys = None, {}
            return None
        if self._stamp != (status.st_mtime_ns, status.st_ino):
            self.reload()
            # a change within the same tick of the clock would leave the same stamp
            settled = time.time_ns() - status.st_mtime_ns > _SETTLED_NS
            self._stamp = (status.st_mtime_ns, status.st_ino) if settled else None
        return self._keys.get(public)

    def reload(self) -> None:
        """Read the files again, whatever the folder says."""
        self._stamp = None
        self._keys = {key.public: key for key in read_authorized(self._folder)}


def read_authorized(folder: Path) -> list[AuthorizedKey]:
    """Read all files; one that cannot be relied on lets nobody in."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            file = decode_file(path, read_private(path), AuthorizedFile)
            found.append(
                AuthorizedKey(
                    name=check_name(file.name),
                    public=check_key(file.public),
                    role=file.role,
                    capabilities=file.capabilities,
                    since=file.since,
                )
            )
        except FileNotFoundError:
            continue  # revoked just now
        except (KeyFileError, ExposedKeyError) as error:
            logger.warning("an authorised key is left out: %s", error)
    return found
