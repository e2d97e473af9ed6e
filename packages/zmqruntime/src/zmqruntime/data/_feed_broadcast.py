"""Broadcast: the newest small payload per key, told to whoever subscribes, without credit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from zmqruntime.data._outgoing import frozen
from zmqruntime.data._stream_messages import DATA_VERSION, TransportHeader

if TYPE_CHECKING:
    from zmqruntime.data._outgoing import Outgoing

__all__ = ["MOST_BROADCAST_BYTES", "Broadcast"]

MOST_BROADCAST_BYTES = 64 << 10
_MOST_KEYS = 1024


class Broadcast:
    """What is told to plain subscribers of a topic.

    Sans-IO and not safe for threads. Whoever subscribes has no credit and is owed nothing: a
    payload gives way to a newer one of its key until the next moment to send.

    Parameters
    ----------
    topic, epoch
        Name of the stream, and of this run of it.
    interval
        Shortest time between two sendings, in seconds.
    """

    def __init__(self, topic: str, *, epoch: str, interval: float) -> None:
        self.interval = interval
        self.due = 0.0
        """When the next sending may be, in monotonic seconds."""
        self.scheduled = False
        self.dropped = 0
        """Payloads that were too large, or gave way."""
        self._frame = topic.encode() + b"\0"
        self._epoch = epoch
        self._last = 0
        self._waiting: dict[str, Outgoing] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, payload: Outgoing) -> bool:
        """Let a payload wait for the next sending, and say whether it does.

        Parameters
        ----------
        payload
            What to tell; one of more than 64 KiB is left to those who have credit.
        """
        if payload.total > MOST_BROADCAST_BYTES:
            self.dropped += 1
            return False
        if self._waiting.pop(payload.key, None) is not None or len(self._waiting) >= _MOST_KEYS:
            self.dropped += 1
        if len(self._waiting) >= _MOST_KEYS:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[payload.key] = payload
        return True

    def take(self, *, now: float) -> list[list[bytes | memoryview]]:
        """Make the messages that are due, and begin to wait for the next moment."""
        self.due = now + self.interval
        waiting, self._waiting = self._waiting, {}
        return [self.message(payload) for payload in waiting.values()]

    def message(self, payload: Outgoing, *, retained: bool = False) -> list[bytes | memoryview]:
        """Make one message; a retained one repeats the last number."""
        if not retained:
            self._last += 1
        transport = TransportHeader(
            v=DATA_VERSION,
            epoch=self._epoch,
            seq=self._last,
            target="",
            key=payload.key,
            t_ns=time.time_ns(),
            mono_ns=time.monotonic_ns(),
            sizes=payload.sizes,
            retained=retained,
            state_version=payload.state_version,
        )
        chunks = [frozen(view) for view in payload.buffers if view.nbytes]
        return [self._frame, msgspec.msgpack.encode(transport), payload.header, *chunks]
