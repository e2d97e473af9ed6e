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
from zmqruntime.processes._identity import current_identity, identity_of

SHARED_MEMORY = Path("/dev/shm")
SHAPE = re.compile(
    r"zr-(?P<uid>0|[1-9][0-9]{0,9})-(?P<pid>[1-9][0-9]{0,9})"
    r"-(?P<start>0|[1-9][0-9]{0,19})-(?P<token>[0-9a-f]{16})"
)


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
        ServiceError
            If the system does not tell when this process started.
        """
        owner = current_identity()
        return cls(
            uid=os.getuid(),
            pid=owner.pid,
            start_ticks=owner.start_time,
            token=secrets.token_hex(8),
        )

    def owner_lives(self) -> bool:
        """Say whether the process that owns the segment still exists.

        Returns
        -------
        bool
            True while pid and start time are those of a running process.
        """
        owner = identity_of(self.pid)
        return owner is not None and owner.start_time == self.start_ticks
