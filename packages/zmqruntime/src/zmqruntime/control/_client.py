"""ControlClient: a DEALER socket; requests with ids and deadlines, several at a time."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import LoopStoppedError, PeerLostError
from zmqruntime.control import _codec
from zmqruntime.control._asker import Asker
from zmqruntime.control._incoming import Incoming
from zmqruntime.control._link import ControlLink
from zmqruntime.control._messages import V_MAX, Reply, RequestMessage
from zmqruntime.control._pending import Pending
from zmqruntime.loop._polling import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import zmq

    from zmqruntime.loop._loop import IOThread

__all__ = ["ControlClient"]


class ControlClient:
    """Asks one server, over one connection that heals itself.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    url
        Where the server listens, ``tcp://127.0.0.1:5555``.
    token
        Token to show with every request, or None.
    secure
        Called with each socket before it connects, to give it its keys; None leaves it without.

    Notes
    -----
    Nothing is queued for a server that is not there: a request waits here until there is a
    connection or its deadline passes. When a connection breaks, requests under way fail with
    `PeerLostError`, because the server may or may not have carried them out; those that are
    idempotent, or carry a key, are sent again on the next connection, and also when the server
    answers that a later try may succeed (waits of 50 ms doubling to 2 s, within the deadline).

    While nobody else uses the connection, the thread that asks sends and receives itself.
    """

    def __init__(
        self,
        loop: IOThread,
        url: str,
        *,
        token: str | None = None,
        secure: Callable[[zmq.Socket[bytes]], object] | None = None,
    ) -> None:
        self.loop = loop
        self.url = url
        self.token = token
        self.secure = secure
        self._counters: Counter[str] = Counter()
        self._connected_callbacks: list[Callable[[], object]] = []
        self._lost_callbacks: list[Callable[[str], object]] = []
        self._refused_callbacks: list[Callable[[int], object]] = []
        self._link = ControlLink(
            loop,
            url,
            secure=self._secure,
            on_readable=self._on_readable,
            on_up=self._on_up,
            on_down=self._on_down,
            on_refused=self._on_refused,
        )
        self._incoming = Incoming(loop, url, self._link, self._counters)
        self._asker = Asker(loop, url, self._link, self._incoming, self._counters)
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4)
        self.closed = False
        self._opened = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection that completed its handshake."""
        return self._link.up

    @property
    def counters(self) -> Counter[str]:
        """Totals since the start.

        ``bad_frame`` counts messages that could not be read, ``late`` answers that nobody waited
        for any more, ``dropped`` notices without a connection, and ``failed_callbacks`` functions
        that raised on the loop, those of the application among them.
        """
        if self.loop.failed_callbacks:
            self._counters["failed_callbacks"] = self.loop.failed_callbacks
        return self._counters

    def open(self) -> None:
        """Make the socket and begin to connect; does not wait for the server."""
        self.loop.start()
        self._opened = True
        self.loop.on_interrupted(self._begin_anew)
        self.loop.on_stopped(self._asker.give_up)
        self.loop.submit(self._link.open).result()

    def close(self) -> None:
        """Close the connection; what waits for an answer fails. Twice is harmless."""
        if self.closed:
            return
        self.closed = self._asker.closed = True
        if self.loop.running:
            self.loop.submit(self._close).result()

    def request(
        self,
        type_: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout: float = 5.0,
        idempotent: bool = False,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Ask, and wait for the answer; any thread but the loop.

        Parameters
        ----------
        type_
            Type of the request.
        body
            Plain values.
        timeout
            Longest wait in seconds.
        idempotent
            Asking twice does no harm, so it may be sent again after a broken connection.
        key
            Name of this request; the server carries out a key once and answers repeats from
            its memory, so it may be sent again too.

        Returns
        -------
        dict
            Body of the answer.

        Raises
        ------
        ControlTimeout
            If no answer came in time.
        PeerLostError
            If the connection broke while a request that may not be repeated was under way.
        RequestError
            One of its leaves, if the server refused.
        FrameError
            If the body holds something that is not plain.
        RuntimeError
            If called on the loop, which must not wait: use `request_nowait` there.
        """
        reply = self.call(type_, body, timeout=timeout, idempotent=idempotent, key=key)
        return dict(reply.body)

    def call(
        self,
        type_: str,
        body: Mapping[str, Any] | None = None,
        *,
        attachments: Sequence[bytes] = (),
        timeout: float = 5.0,
        idempotent: bool = False,
        key: str | None = None,
    ) -> Reply:
        """Ask with frames attached, and return the whole answer; otherwise as `request`.

        Parameters
        ----------
        type_, body, timeout, idempotent, key
            As for `request`.
        attachments
            Frames to send after the message, at most 62.

        Returns
        -------
        Reply
            Type, body and attachments of the answer.

        Raises
        ------
        ZmqRuntimeError, RuntimeError
            As `request`.
        """
        if self.loop.on_loop:
            raise RuntimeError("request() would make the loop wait for itself: use request_nowait")
        pending = self._prepare(type_, body, attachments, timeout, idempotent, key)
        if not self._asker.ask_here(pending):
            pending.hand_over()
            self.loop.call_soon(self._asker.begin, pending)
        if pending.latch is not None:
            pending.latch.acquire()
        if isinstance(pending.outcome, Reply):
            return pending.outcome
        assert pending.outcome is not None
        raise pending.outcome

    def request_nowait(
        self,
        type_: str,
        body: Mapping[str, Any] | None = None,
        *,
        attachments: Sequence[bytes] = (),
        timeout: float = 5.0,
        idempotent: bool = False,
        key: str | None = None,
    ) -> Future[Reply]:
        """Ask, and return what will hold the answer; any thread.

        Parameters
        ----------
        type_, body, attachments, timeout, idempotent, key
            As for `call`.

        Returns
        -------
        Future
            Holds the `Reply`, or an error that `request` would raise. It is completed on the
            loop, so its callbacks must not block.

        Raises
        ------
        FrameError
            If the body holds something that is not plain, or an attachment is not contiguous bytes.
        PeerLostError
            If the client was not opened yet.
        LoopStoppedError
            If the client or its loop has been stopped.
        """
        pending = self._prepare(type_, body, attachments, timeout, idempotent, key)
        future: Future[Reply] = Future()
        pending.future = future
        if self.loop.on_loop:
            self._asker.begin(pending)
        else:
            self.loop.call_here(self._asker.begin, pending)
        return future

    def notify(self, type_: str, body: Mapping[str, Any] | None = None) -> None:
        """Tell the server something and want no answer; any thread.

        Without a connection it is a counted drop.

        Parameters
        ----------
        type_
            Type of the request.
        body
            Plain values.

        Raises
        ------
        FrameError
            If the body holds something that is not plain.
        """
        frames = (b"", self._encode(type_, body, id_="", timeout=5.0, key=None))
        self.loop.call_here(self._notify, frames)

    def on_push(self, type_: str, callback: Callable[[dict[str, Any]], object]) -> None:
        """Call a function, on the loop, with the body of each push of a type.

        Parameters
        ----------
        type_
            Type of the message.
        callback
            Must not block.
        """
        self._incoming.on_push(type_, callback)

    def on_json(self, callback: Callable[[bytes], object]) -> None:
        """Call a function, on the loop, with each JSON message: they are of another protocol.

        Parameters
        ----------
        callback
            Must not block.
        """
        self._incoming.on_json(callback)

    def post(self, frame: bytes) -> bool:
        """Send a message of another protocol; on the loop.

        Parameters
        ----------
        frame
            The message.

        Returns
        -------
        bool
            False when there is no connection, or the server does not read its messages.
        """
        return self.connected and self._link.send((b"", frame))

    def on_connected(self, callback: Callable[[], object]) -> None:
        """Call a function, on the loop, whenever a connection is there."""
        self._connected_callbacks.append(callback)

    def on_lost(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the loop, with a reason, whenever a connection broke."""
        self._lost_callbacks.append(callback)

    def on_refused(self, callback: Callable[[int], object]) -> None:
        """Call a function, on the loop, with libzmq's event, whenever a handshake failed."""
        self._refused_callbacks.append(callback)

    def reopen(self) -> None:
        """Connect with a new socket, because the old one's keys are not right; on the loop."""
        self._link.reopen("the connection is made anew")

    def hold_until_admitted(self) -> None:
        """Send nothing but hello and ping over a connection until `admit` is called for it.

        A server that starts again has a new token: what is sent before its welcome is refused.
        """
        self._asker.holds = True

    def admit(self) -> None:
        """Send what was held back: the server has answered the hello; on the loop."""
        self._asker.admit()

    def declare_lost(self, reason: str) -> None:
        """Treat the connection as broken, because somebody knows; on the loop, or handed to it.

        Parameters
        ----------
        reason
            What is known, for the errors of those who wait.
        """
        if not self.loop.on_loop:
            self.loop.call_soon(self.declare_lost, reason)
            return
        self._link.declare_down(reason)

    def _encode(
        self,
        type_: str,
        body: Mapping[str, Any] | None,
        *,
        id_: str,
        timeout: float,
        key: str | None,
    ) -> bytes:
        return _codec.encode(
            RequestMessage(
                v=V_MAX,
                type=type_,
                id=id_,
                body=dict(body or {}),
                deadline_ms=max(1, int(timeout * 1000)),
                token=self.token,
                key=key,
            )
        )

    def _prepare(
        self,
        type_: str,
        body: Mapping[str, Any] | None,
        attachments: Sequence[bytes],
        timeout: float,
        idempotent: bool,
        key: str | None,
    ) -> Pending:
        if self.closed:
            raise LoopStoppedError(f"the connection to {self.url} was closed here")
        if not self._opened:
            raise PeerLostError(f"not connected to {self.url}: call connect() or open() first")
        _codec.check_attachments(attachments)
        id_ = f"{self._prefix}-{next(self._ids)}"
        frame = self._encode(type_, body, id_=id_, timeout=timeout, key=key)
        return Pending(
            id=id_,
            type=type_,
            frames=(b"", frame, *attachments),
            deadline=Deadline(timeout),
            again=idempotent or key is not None,
            timeout=timeout,
        )

    def _close(self) -> None:
        self._asker.give_up()
        self._link.close()

    def _secure(self, socket: zmq.Socket[bytes]) -> None:
        if self.secure is not None:
            self.secure(socket)

    def _begin_anew(self) -> None:
        """Make the socket again, because half a message may be in it."""
        reason = "the program was interrupted while it used the connection"
        self._link.reopen(reason, linger_ms=0)

    def _notify(self, frames: Sequence[bytes]) -> None:
        if not self._asker.notify(frames):
            self._counters["dropped"] += 1

    def _on_up(self) -> None:
        for callback in self._connected_callbacks:
            self.loop.call_soon(callback)
        self._asker.connected()

    def _on_down(self, reason: str) -> None:
        self._asker.disconnected(reason)
        for callback in self._lost_callbacks:
            self.loop.call_soon(callback, reason)

    def _on_refused(self, event: int) -> None:
        for callback in self._refused_callbacks:
            self.loop.call_soon(callback, event)

    def _on_readable(self) -> bool:
        """Take one message; False when there is none."""
        frames = self._incoming.read()
        message = self._incoming.decode(frames) if frames else None
        if message is not None:
            if message.id:
                self._asker.receive(message, frames)
            else:
                self._incoming.tell(message)
        return bool(frames)
