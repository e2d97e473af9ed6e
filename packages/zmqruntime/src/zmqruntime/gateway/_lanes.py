"""LaneFrame: what travels on the pixel lane, and how it is told from what is forged or old."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import FrameError, FrameTooLargeError
from zmqruntime._typed import from_msgpack

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LaneFrame", "LaneReader", "LaneRecord", "lane_key", "pack_frame"]

_LENGTH = struct.Struct(">I")
_MAC_BYTES = 32
_MOST_HEADER = 64 * 1024
_MOST_PARTS = 62


class LaneHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Transport header of a frame; `mac` is the last field."""

    v: int
    topic: str
    seq: int
    t_ns: int
    mono_ns: int
    key: str = ""
    state_version: int | None = None
    sizes: list[int]
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFrame:
    """A frame as it was received.

    Attributes
    ----------
    topic
        What it belongs to, for example ``pixels``.
    seq
        Number on its lane, from 1; a jump means that frames were left out.
    time_ns, monotonic_ns
        When it was sent, by the server's clocks.
    key
        Name of what it shows, from the application.
    state_version
        Version of the state that it depicts, or None.
    header
        Header of the payload, opaque.
    parts
        Buffers of the payload; views into the message.
    skipped
        How many frames were left out before it.
    """

    topic: str
    seq: int
    time_ns: int
    monotonic_ns: int
    key: str
    state_version: int | None
    header: memoryview
    parts: tuple[memoryview, ...]
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRecord:
    """What is known of a lane, for programs that watch.

    Attributes
    ----------
    session_id
        Whose it is.
    address
        Where it leads to.
    sent, superseded
        Frames that were handed to the connection, and those that were left out because it had
        no room; none of those was encoded.
    waiting
        Frames that are on their way.
    """

    session_id: str
    address: str
    sent: int
    superseded: int
    waiting: int


def lane_key(ticket: str, nonce: bytes) -> bytes:
    """Make the key of a lane from its ticket and the nonce that the server answered.

    Parameters
    ----------
    ticket
        As shown.
    nonce
        16 bytes.
    """
    return hashlib.blake2b(ticket.encode(), key=nonce, digest_size=32).digest()


def pack_frame(
    parts: Sequence[bytes | bytearray | memoryview],
    *,
    topic: str,
    seq: int,
    time_ns: int,
    monotonic_ns: int,
    secret: bytes,
    key: str = "",
    state_version: int | None = None,
) -> bytes:
    """Write a frame.

    Parameters
    ----------
    parts
        Header of the payload, then its buffers.
    topic, seq, time_ns, monotonic_ns, key, state_version
        See `LaneFrame`.
    secret
        From `lane_key`.

    Returns
    -------
    bytes
        Length of the transport header (u32, big-endian), the header (msgpack), the parts.

    Raises
    ------
    FrameTooLargeError
        If the header has more than 64 KiB, or there are more than 62 parts.
    """
    if not 1 <= len(parts) <= _MOST_PARTS:
        raise FrameTooLargeError(f"{len(parts)} parts: expected 1 to {_MOST_PARTS}")
    views = [memoryview(part).cast("B") for part in parts]
    header = msgspec.msgpack.encode(
        LaneHeader(
            v=1,
            topic=topic,
            seq=seq,
            t_ns=time_ns,
            mono_ns=monotonic_ns,
            key=key,
            state_version=state_version,
            sizes=[view.nbytes for view in views],
            mac=bytes(_MAC_BYTES),
        )
    )
    if len(header) > _MOST_HEADER:
        raise FrameTooLargeError(f"header of {len(header)} bytes: at most {_MOST_HEADER}")
    signed = header[:-_MAC_BYTES] + _mac(secret, header, views)
    return b"".join((_LENGTH.pack(len(signed)), signed, *views))


class LaneReader:
    """Reads the frames of one lane, and refuses those that are forged, repeated or old.

    Parameters
    ----------
    secret
        From `lane_key`.

    Notes
    -----
    The code covers the header and a digest of every part, each keyed BLAKE2b, and is compared in
    constant time. Numbers grow on a lane, and the key is of this lane alone, so nothing that was
    sent once is taken twice.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._last = 0

    def read(self, message: bytes) -> LaneFrame:
        """Read a frame.

        Parameters
        ----------
        message
            One binary message of the lane.

        Returns
        -------
        LaneFrame
            With views into the message.

        Raises
        ------
        FrameError
            If it is none, was changed on its way, or is not newer than the last one.
        """
        view = memoryview(message)
        if len(view) < _LENGTH.size:
            raise FrameError("a lane message begins with the length of its header")
        (length,) = _LENGTH.unpack(view[: _LENGTH.size])
        if length > _MOST_HEADER or length + _LENGTH.size > len(view) or length <= _MAC_BYTES:
            raise FrameError(f"a header of {length} bytes cannot be in {len(view)} bytes")
        raw = view[_LENGTH.size : _LENGTH.size + length]
        header = _decode(bytes(raw))
        parts, at = [], _LENGTH.size + length
        for size in header.sizes:
            if size < 0 or at + size > len(view):
                raise FrameError("the parts of a lane message are longer than the message")
            parts.append(view[at : at + size])
            at += size
        if at != len(view) or not 1 <= len(parts) <= _MOST_PARTS:
            raise FrameError("the parts of a lane message are not the whole of it")
        if not hmac.compare_digest(_mac(self._secret, bytes(raw), parts), header.mac):
            raise FrameError("a lane message was changed on its way, or is not of this lane")
        if header.seq <= self._last:
            raise FrameError(f"lane message {header.seq} comes after {self._last}: a repeat")
        skipped, self._last = header.seq - self._last - 1, header.seq
        return LaneFrame(
            topic=header.topic,
            seq=header.seq,
            time_ns=header.t_ns,
            monotonic_ns=header.mono_ns,
            key=header.key,
            state_version=header.state_version,
            header=parts[0],
            parts=tuple(parts[1:]),
            skipped=skipped,
        )


def _decode(raw: bytes) -> LaneHeader:
    try:
        header = from_msgpack(raw, LaneHeader)
    except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError) as error:
        raise FrameError(f"not the header of a lane message: {error}") from error
    if len(header.mac) != _MAC_BYTES or raw[-_MAC_BYTES:] != header.mac:
        raise FrameError("the code of a lane message is not at the end of its header")
    return header


def _mac(secret: bytes, header: bytes, parts: Sequence[memoryview | Any]) -> bytes:
    """Sign a header, of which the last 32 bytes count as zero, and every part."""
    mac = hashlib.blake2b(key=secret, digest_size=_MAC_BYTES)
    mac.update(header[:-_MAC_BYTES] + bytes(_MAC_BYTES))
    for part in parts:
        mac.update(hashlib.blake2b(part, key=secret, digest_size=_MAC_BYTES).digest())
    return mac.digest()
