"""Names of shared-memory segments, which say whose they are.

``zr-{uid}-{pid}-{start_time}-{16 hex}``: a pid alone is reused by the system, a pid together with
the start time of its process is not. The name is therefore enough to tell whether the owner lives.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from zmqruntime._errors import DescriptorError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system's shared memory, not a temporary file
SHAPE = re.compile(
    r"zr-(?P<uid>0|[1-9][0-9]{0,9})-(?P<pid>[1-9][0-9]{0,9})"
    r"-(?P<start>0|[1-9][0-9]{0,19})-(?P<token>[0-9a-f]{16})"
)


def process_start_ticks(pid: int) -> int | None:
    """Say when a process started.

    Parameters
    ----------
    pid
        Number of the process.

    Returns
    -------
    int | None
        Clock ticks between boot and start; None if there is no such process.

    Raises
    ------
    OSError
        If the system's process table cannot be read at all.

    Notes
    -----
    Field 22 of ``/proc/{pid}/stat``, proc(5). The name of the program, field 2, is in brackets and
    may itself hold brackets and blanks, hence the split at the last one. A zombie has ended for our
    purposes: it holds no memory any more.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentName:
    """The parts of a segment's name.

    Attributes
    ----------
    uid
        User that owns the segment.
    pid, start_ticks
        Process that owns the segment, and when it started (clock ticks since boot).
    token
        16 random hexadecimal digits.
    """

    uid: int
    pid: int
    start_ticks: int
    token: str

    def __str__(self) -> str:
        return f"zr-{self.uid}-{self.pid}-{self.start_ticks}-{self.token}"

    @classmethod
    def parse(cls, text: str) -> SegmentName:
        """Take a name apart.

        Parameters
        ----------
        text
            A file name, or what a peer says is one.

        Returns
        -------
        SegmentName
            Its parts.

        Raises
        ------
        DescriptorError
            If the text does not have the shape of our names, whatever else it is.
        """
        found = SHAPE.fullmatch(text)
        if found is None:
            msg = (
                f"{text[:80]!r} is not the name of a segment of ours "
                "(zr-uid-pid-start-16 hex digits); refused"
            )
            raise DescriptorError(msg)
        return cls(
            uid=int(found["uid"]),
            pid=int(found["pid"]),
            start_ticks=int(found["start"]),
            token=found["token"],
        )

    @classmethod
    def mine(cls) -> SegmentName:
        """Make a new name owned by this process.

        Returns
        -------
        SegmentName
            A name that no segment has yet.

        Raises
        ------
        OSError
            If the system does not tell when this process started (no ``/proc``).
        """
        pid = os.getpid()
        start = process_start_ticks(pid)
        if start is None:
            msg = "/proc does not list this process; shared-memory segments need it"
            raise OSError(msg)
        return cls(uid=os.getuid(), pid=pid, start_ticks=start, token=secrets.token_hex(8))

    def owner_lives(self) -> bool:
        """Say whether the process that owns the segment still exists.

        Returns
        -------
        bool
            True while pid and start time are those of a running process.

        Raises
        ------
        OSError
            If the system's process table cannot be read.
        """
        return process_start_ticks(self.pid) == self.start_ticks
