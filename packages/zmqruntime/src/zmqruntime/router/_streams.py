"""Streams of a server: functions called at a rate, and values that the application sends itself.

One thread per rate calls the functions of all streams of that rate, one after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import LoopStoppedError, NotAttachedError
from zmqruntime.router._errors import ExposeError, Raised
from zmqruntime.router._expose import return_type
from zmqruntime.router._messages import Timestamp
from zmqruntime.router._schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.router._codecs import Serializer

    Publish = Callable[["Stream", Any, "Raised | None"], object]

__all__ = ["ManualStream", "PeriodicStream", "Rate", "Stream", "StreamFunction"]

logger = logging.getLogger(__name__)

_SETTLE_S = 5.0
_MOST_RETAINED_HZ = 5.0


@dataclass(slots=True, kw_only=True, eq=False)
class Stream:
    """What every stream of the application has.

    Attributes
    ----------
    name
        Its topic.
    encoding, serializer
        How its values are written.
    retain
        Whether the last value is kept for those who come later.
    sent
        Values and failures that were handed over for sending.
    failed
        Failures among them.
    """

    name: str
    encoding: str = "msgpack"
    serializer: Serializer | None = None
    retain: bool = True
    sent: int = 0
    failed: int = 0

    def counters(self) -> dict[str, int]:
        """Count what became of it."""
        return {"sent": self.sent, "failed": self.failed}


@dataclass(slots=True, kw_only=True, eq=False)
class ManualStream(Stream):
    """A stream that the application sends when it likes."""


@dataclass(slots=True, kw_only=True, eq=False)
class PeriodicStream(Stream):
    """A function that is called at a rate.

    Attributes
    ----------
    hz
        Calls per second.
    function
        What to call.
    source
        Object and attribute it comes from, or the name it is registered under, or None.
    enabled
        Whether it is called.
    missed
        Calls that were skipped because earlier work took too long.
    """

    hz: float
    function: Callable[[], Any]
    source: tuple[str, str] | str | None = None
    enabled: bool = True
    missed: int = 0
    return_type: str = field(default="")

    def __post_init__(self) -> None:
        self.return_type = self.return_type or return_type(self.function)
        self.retain = self.hz <= _MOST_RETAINED_HZ  # of a faster one the next value comes at once

    def counters(self) -> dict[str, int]:
        """Count what became of it."""
        return {"sent": self.sent, "failed": self.failed, "missed": self.missed}


class StreamFunction:
    """Sends data of one stream; any thread may call it, several at a time.

    Parameters
    ----------
    stream
        The stream.
    send
        Sends a value with a timestamp.
    offered
        Says whether the stream is still there.
    server_id
        Says whose clocks the timestamps are of.
    set_timestamp
        Whether the caller gives the timestamp.
    """

    def __init__(
        self,
        stream: ManualStream,
        send: Callable[[ManualStream, Any, Timestamp], object],
        *,
        offered: Callable[[ManualStream], bool],
        server_id: Callable[[], str],
        set_timestamp: bool,
    ) -> None:
        self.name = stream.name
        self._stream = stream
        self._send = send
        self._offered = offered
        self._server_id = server_id
        self._set_timestamp = set_timestamp
        self._counting = threading.Lock()

    def __call__(self, data: Any, timestamp: Timestamp | int | None = None) -> None:
        """Send data.

        Parameters
        ----------
        data
            What the stream's encoding can hold. It may be changed once this returns.
        timestamp
            When it was true: a `Timestamp`, or nanoseconds since the epoch. Given exactly when
            the function was asked for with ``set_timestamp=True``.

        Raises
        ------
        TypeError
            If there is a timestamp and should be none, or the other way round.
        FrameError
            If the encoding cannot hold the data. What a serializer raises is passed on.
        PayloadTooLargeError
            If it is larger than 4 GiB.
        ExposeError
            If the stream was removed.
        NotAttachedError
            If the server was stopped.
        """
        if (timestamp is not None) != self._set_timestamp:
            raise TypeError(
                f"stream {self.name!r} takes {'a' if self._set_timestamp else 'no'} timestamp: "
                "see set_timestamp of get_stream_fn()"
            )
        if not self._offered(self._stream):
            raise ExposeError(f"stream {self.name!r} was removed")
        now = Timestamp.now(self._server_id())
        if isinstance(timestamp, int):
            age = now.wall_ns - timestamp
            now = Timestamp(timestamp, now.mono_ns - age, now.server_id)
        elif timestamp is not None:
            now = timestamp
        self._send(self._stream, data, now)
        with self._counting:
            self._stream.sent += 1


class Rate:
    """The thread of one rate.

    It sleeps until the next call is due, and without limit while no stream is enabled. A call
    that takes longer than its period delays the others of the same rate and no one else.

    Parameters
    ----------
    hz
        Calls per second.
    publish
        Called, on the thread, with a stream, what its function returned, and what it raised.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, hz: float, *, publish: Publish, clock: Callable[[], float] = time.monotonic
    ) -> None:
        Schedule(hz, start=0.0)  # raises for what is no rate
        self.hz = hz
        self._publish = publish
        self._clock = clock
        self._changed = threading.Condition()
        self._streams: dict[str, PeriodicStream] = {}
        self._running: PeriodicStream | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"streams-{hz:g}-hz", daemon=True)

    def add(self, stream: PeriodicStream) -> None:
        """Call a stream from now on, if it is enabled."""
        with self._changed:
            self._streams[stream.name] = stream
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    def set_enabled(self, stream: PeriodicStream, *, enabled: bool) -> None:
        """Call a stream, or do not; no call begins after this returns with `enabled` False.

        Nothing changes if it is so already. A call that is under way is waited for, up to 5 s,
        unless it is that call which asks.
        """
        with self._changed:
            stream.enabled = enabled
            self._changed.notify_all()
            if not enabled:
                self._settle(stream)

    def remove(self, stream: PeriodicStream) -> None:
        """Forget a stream, as `set_enabled` with False; the thread ends with the last one."""
        with self._changed:
            self._streams.pop(stream.name, None)
            stream.enabled = False
            self._closed = self._closed or not self._streams
            self._changed.notify_all()
            self._settle(stream)

    def close(self, timeout: float) -> bool:
        """End the thread, and say whether it ended in time; a function that hangs keeps it."""
        with self._changed:
            self._closed = True
            self._streams.clear()
            self._changed.notify_all()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _settle(self, stream: PeriodicStream) -> None:
        if self._thread is threading.current_thread():
            return
        if not self._changed.wait_for(lambda: self._running is not stream, _SETTLE_S):
            logger.warning("stream %r: its function has not returned yet", stream.name)

    def _run(self) -> None:
        schedule: Schedule | None = None
        while True:
            with self._changed:
                if self._closed:
                    return
                if not any(stream.enabled for stream in self._streams.values()):
                    schedule = None  # the next one to be enabled is called at once
                    self._changed.wait()
                    continue
                if schedule is None:
                    schedule = Schedule(self.hz, start=self._clock())
                left = schedule.due - self._clock()
                if left > 0:
                    self._changed.wait(left)
                    continue
                missed = schedule.take(self._clock())
                streams = [stream for stream in self._streams.values() if stream.enabled]
                for stream in streams:
                    stream.missed += missed
            for stream in streams:
                self._turn(stream)

    def _turn(self, stream: PeriodicStream) -> None:
        with self._changed:
            if not stream.enabled or self._closed:
                return
            self._running = stream
        try:
            publish_result(stream, self._publish, stream.function)
        except (LoopStoppedError, NotAttachedError):
            logger.debug("stream %r: the server has stopped", stream.name)
        except Exception:
            stream.failed += 1
            logger.exception("stream %r cannot be sent", stream.name)
        finally:
            with self._changed:
                self._running = None
                self._changed.notify_all()


def publish_result(stream: Stream, publish: Publish, function: Callable[[], Any]) -> None:
    """Call a function and hand over what it returns or raises; sys.exit() too ends nothing."""
    try:
        value = function()
    except BaseException as error:  # noqa: BLE001 - belongs to the application; published as data
        raised = Raised.from_exception(error, skip=1)
        stream.failed += 1
        publish(stream, None, raised)
    else:
        publish(stream, value, None)
    stream.sent += 1
