"""Outlet: how a value of a stream becomes a message, and where it leaves."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import FrameError
from zmqruntime.data._feed import Feed
from zmqruntime.router._codecs import encode
from zmqruntime.router._errors import Raised
from zmqruntime.router._messages import StreamHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from zmqruntime._server import ZMQServer
    from zmqruntime.router._messages import Timestamp
    from zmqruntime.router._streams import Stream

    Message = tuple[bytes, Sequence[Buffer]]
    Write = Callable[[], Message]

__all__ = ["Outlet", "compose", "write_message"]


class Outlet:
    """Where the messages of all streams leave; any thread.

    Parameters
    ----------
    server
        A started server, whose data port is used.

    Notes
    -----
    Sending never waits. A follower that keeps the newest data gets the newest; one that keeps all
    has its own queue at the server, and a gap where that was full.
    """

    def __init__(self, server: ZMQServer) -> None:
        self._feed = Feed(server)
        self._lock = threading.Lock()
        self._retained: set[str] = set()

    def send(self, topic: str, write: Write, *, retain: bool) -> None:
        """Send a message to who follows a stream; it is not even written if nobody does.

        Parameters
        ----------
        topic
            Name of the stream.
        write
            Returns header and buffers.
        retain
            Keep it for those who come later.
        """
        if retain:
            with self._lock:
                if topic not in self._retained:
                    self._retained.add(topic)
                    self._feed.retain(topic)
        elif not self._feed.subscribers(topic):
            return
        header, buffers = write()
        self._feed.publish(topic, header, buffers)

    def forget(self, topic: str) -> None:
        """Keep nothing of a stream that was removed."""
        with self._lock:
            self._retained.discard(topic)
        self._feed.forget(topic)

    def close(self) -> None:
        """Send everybody away; twice is harmless."""
        self._feed.close()


def write_message(stream: Stream, value: Any, raised: Raised | None, at: Timestamp) -> Message:
    """Write a value of a stream, or what its function raised.

    A value that cannot travel becomes a failure as well, so that followers hear of it.

    Parameters
    ----------
    stream
        Where it belongs.
    value, raised
        What its function returned, or what it raised.
    at
        When.

    Returns
    -------
    tuple[bytes, Sequence[Buffer]]
        Header and buffers.
    """
    frames: tuple[Buffer, ...] = ()
    code = "exception"
    if raised is None:
        try:
            frames = encode(value, stream.encoding, stream.serializer).frames
        except FrameError as error:
            code, raised = "invalid", Raised.from_exception(error)
        except Exception as error:  # noqa: BLE001 - the serializer belongs to the application
            raised = Raised.from_exception(error, skip=2)
    return compose(stream, frames, at, raised=raised, code=code)


def compose(
    stream: Stream,
    frames: Sequence[Buffer],
    at: Timestamp,
    *,
    raised: Raised | None = None,
    code: str = "exception",
) -> Message:
    """Put a header to the frames of a value, or to what took its place."""
    header = StreamHeader(
        encoding=stream.encoding,
        wall_ns=at.wall_ns,
        mono_ns=at.mono_ns,
        server=at.server_id,
        path=(at.server_id,),
        raised=raised,
        code=code,
    )
    return msgspec.msgpack.encode(header), tuple(frames)
