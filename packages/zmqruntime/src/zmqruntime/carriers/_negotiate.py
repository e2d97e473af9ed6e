"""Which carrier a peer gets: shared memory where the same host is proved, chunks elsewhere.

A host's name proves nothing: tunnels, containers and port forwards lie. Two processes share memory
if they run on one boot of one kernel, are one user's, and one can read what the other just wrote.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sys
from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated

import msgspec

from zmqruntime._errors import DescriptorError
from zmqruntime.carriers._layout import own_pid_namespace
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._segment import create_segment, open_segment
from zmqruntime.processes._identity import current_identity, host_digest

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

ARENA_FROM_BYTES = 64 << 10
"""Payloads below this many bytes travel inline in any case."""

_PROBE_BYTES = 64
_NONCE_BYTES = 32
_MOST_PID = (1 << 31) - 1  # what a C int holds; the system refuses others by another error


class Carrier(StrEnum):
    """How the bytes of a payload travel."""

    ARENA = "arena"
    INLINE = "inline"


class CarrierReason(StrEnum):
    """Why a peer has the carrier that it has."""

    PROVED = "proved"
    OTHER_BOOT = "other_boot"
    PROBE_UNREADABLE = "probe_unreadable"
    UID = "uid"
    DISABLED = "disabled"
    PLATFORM = "platform"
    NO_ROOM = "no_room"

    @property
    def carrier(self) -> Carrier:
        """The carrier that follows."""
        return Carrier.ARENA if self is CarrierReason.PROVED else Carrier.INLINE


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process runs, as it says itself.

    Attributes
    ----------
    digest
        Hash of the kernel's boot id; empty where there is none.
    uid
        User of the process, -1 where there is none.
    pid, start_ticks
        The process; ticks are 0 where the platform does not tell.
    pid_namespace
        In which the pid counts, 0 where there is none.
    """

    digest: str
    uid: int
    pid: Annotated[int, msgspec.Meta(ge=0, le=_MOST_PID)]
    start_ticks: int
    pid_namespace: int

    @classmethod
    def mine(cls) -> HostIdentity:
        """Describe this process.

        Returns
        -------
        HostIdentity
            What to tell a peer.
        """
        if sys.platform != "linux":
            return cls(digest="", uid=-1, pid=os.getpid(), start_ticks=0, pid_namespace=0)
        process = current_identity()
        return cls(
            digest=host_digest(),
            uid=os.getuid(),
            pid=process.pid,
            start_ticks=process.start_time,
            pid_namespace=own_pid_namespace(),
        )

    def sees_pid_of(self, other: HostIdentity) -> bool:
        """Say whether the other's pid means the same process here."""
        return self.digest == other.digest != "" and self.pid_namespace == other.pid_namespace


class Probe:
    """The sender's half of the proof: a small segment with a secret in it.

    Parameters
    ----------
    directory
        Where segments lie; a tmpfs.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    def __init__(self, *, directory: Path = SHARED_MEMORY) -> None:
        self._nonce = secrets.token_bytes(_NONCE_BYTES)
        name, descriptor = create_segment(_PROBE_BYTES, directory=directory)
        try:
            os.pwrite(descriptor, self._nonce, 0)
        finally:
            os.close(descriptor)
        self.name = str(name)
        self.challenge = secrets.token_hex(16)
        self._path = directory / self.name

    def verify(self, answer: str) -> bool:
        """Say whether the answer shows that the peer has read the secret.

        Parameters
        ----------
        answer
            What the peer sent; anything.
        """
        expected = _answer(self._nonce, self.challenge)
        return hmac.compare_digest(expected.encode(), answer.encode())

    def close(self) -> None:
        """Unlink the segment; a second call does nothing."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer_probe(name: str, *, challenge: str, directory: Path = SHARED_MEMORY) -> str:
    """Give the receiver's half of the proof: read the secret.

    Parameters
    ----------
    name
        The probe's segment, as the sender named it.
    challenge
        The sender's word that binds the answer to this exchange; 1 to 64 bytes.
    directory
        Where segments lie; a tmpfs.

    Returns
    -------
    str
        The answer; the secret itself is not sent.

    Raises
    ------
    DescriptorError
        If this is no probe of a process of this user, or the challenge is unusable.
    """
    if not 1 <= len(challenge.encode()) <= 64:
        raise DescriptorError("a challenge has 1 to 64 bytes; refused")
    _, descriptor, size = open_segment(name, directory=directory)
    try:
        nonce = os.pread(descriptor, _NONCE_BYTES, 0)
    finally:
        os.close(descriptor)
    if size != _PROBE_BYTES or len(nonce) != _NONCE_BYTES:
        raise DescriptorError(f"segment {name} has {size} bytes and is no probe; refused")
    return _answer(nonce, challenge)


def _answer(nonce: bytes, challenge: str) -> str:
    return blake2b(nonce, key=challenge.encode()).hexdigest()


def shared_memory_available(directory: Path = SHARED_MEMORY) -> bool:
    """Say whether this platform has what the arena needs."""
    return sys.platform == "linux" and os.access(directory, os.W_OK | os.X_OK)


def judge(mine: HostIdentity, theirs: HostIdentity, *, proved: bool) -> CarrierReason:
    """Choose the carrier for a peer.

    Parameters
    ----------
    mine, theirs
        Where both ends run, as they say.
    proved
        Whether the peer gave the right answer to the probe.

    Returns
    -------
    CarrierReason
        Why, from which the carrier follows.
    """
    if not mine.digest or not theirs.digest:
        return CarrierReason.PLATFORM
    if mine.digest != theirs.digest:
        return CarrierReason.OTHER_BOOT
    if mine.uid != theirs.uid:
        return CarrierReason.UID
    return CarrierReason.PROVED if proved else CarrierReason.PROBE_UNREADABLE
