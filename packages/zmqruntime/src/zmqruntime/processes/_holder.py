"""Holder: which program listens on a port, where the system lets us see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Holder", "holder_of"]

_LISTENS = "0A"  # TCP_LISTEN, as the kernel prints it


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port.

    Attributes
    ----------
    pid
        Process id; enough to show, not enough to signal.
    name
        Name of the program, at most 15 characters.
    """

    pid: int
    name: str


def holder_of(port: int) -> Holder | None:
    """Say who listens on a TCP port of this computer.

    Parameters
    ----------
    port
        1 to 65535.

    Returns
    -------
    Holder or None
        None when nobody does, when it is a process of another user, and where there is no /proc.

    Notes
    -----
    The kernel's table (``man 5 proc``, /proc/net/tcp) says which socket listens, and the
    descriptors of a process which sockets it has. This reads a link for each descriptor of this
    user's processes, some milliseconds: for messages, not for loops.
    """
    wanted = {f"socket:[{inode}]" for inode in _listening(port)}
    if not wanted:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if _holds(process, wanted):
            try:
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
            except OSError:  # it ended just now
                continue
            return Holder(int(process.name), name)
    return None


def _listening(port: int) -> Iterator[str]:
    """Find the inodes of sockets that listen on a port, whatever the address."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holds(process: Path, wanted: set[str]) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # another user's, or it ended
        return False
    for descriptor in descriptors:
        try:
            if str(descriptor.readlink()) in wanted:
                return True
        except OSError:  # closed meanwhile
            continue
    return False
