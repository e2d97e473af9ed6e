"""ControlClient: a DEALER socket; requests with ids and deadlines, several at a time."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter, defaultdict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from zmqruntime import _codec
from zmqruntime._control_link import ControlLink
from zmqruntime._errors import (
    ControlTimeout,
    FrameError,
    LoopStoppedError,
    PeerLostError,
    RequestError,
    request_error,
)
from zmqruntime._frames import receive_frames
from zmqruntime._messages import V_MAX, Reply, RequestMessage
from zmqruntime._pending import Pending
from zmqruntime._polling import Backoff, Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import zmq

    from zmqruntime._loop import IOThread, TimerHandle
    from zmqruntime._messages import ReplyMessage

__all__ = ["ControlClient"]

logger = logging.getLogger(__name__)

_FULL_RETRY_S = 0.01
_BEFORE_WELCOME = frozenset({"hello", "ping"})


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
        self.counters: Counter[str] = Counter()
        self._pending: dict[str, Pending] = {}
        self._pushes: defaultdict[str, list[Callable[[dict[str, Any]], object]]] = defaultdict(list)
        self._connected_callbacks: list[Callable[[], object]] = []
        self._lost_callbacks: list[Callable[[str], object]] = []
        self._refused_callbacks: list[Callable[[int], object]] = []
        self._envelope_callbacks: list[Callable[[bytes], object]] = []
        self._link = ControlLink(
            loop,
            url,
            secure=self._secure,
            on_readable=self._on_readable,
            on_up=self._on_up,
            on_down=self._on_down,
            on_refused=self._on_refused,
        )
        self._flushing: TimerHandle | None = None
        self._ids = itertools.count(1)
        self._prefix = secrets.token_hex(4)
        self.closed = False
        self._opened = False
        self._holds = self._admitted = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection that completed its handshake."""
        return self._link.up

    def open(self) -> None:
        """Make the socket and begin to connect; does not wait for the server."""
        self.loop.start()
        self._opened = True
        self.loop.on_interrupted(self._begin_anew)
        self.loop.on_stopped(self._give_up)
        self.loop.submit(self._link.open).result()

    def close(self) -> None:
        """Close the connection; what waits for an answer fails. Twice is harmless."""
        if self.closed:
            return
        self.closed = True
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
        if not self._ask_here(pending):
            pending.hand_over()
            self.loop.call_soon(self._begin, pending)
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
            self._begin(pending)
        else:
            self.loop.call_here(self._begin, pending)
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
        self._pushes[type_].append(callback)

    def on_json(self, callback: Callable[[bytes], object]) -> None:
        """Call a function, on the loop, with each JSON message: they are of another protocol.

        Parameters
        ----------
        callback
            Must not block.
        """
        self._envelope_callbacks.append(callback)

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
        self._holds = True

    def admit(self) -> None:
        """Send what was held back: the server has answered the hello; on the loop."""
        if self.connected:
            self._admitted = True
            self._flush()

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
            raise self._closed_here()
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

    def _closed_here(self) -> LoopStoppedError:
        return LoopStoppedError(f"the connection to {self.url} was closed here")

    def _close(self) -> None:
        self._give_up()
        self._link.close()

    def _give_up(self) -> None:
        """Tell whoever waits for an answer that there will be none."""
        for pending in tuple(self._pending.values()):
            self._settle(pending, self._closed_here())

    def _secure(self, socket: zmq.Socket[bytes]) -> None:
        if self.secure is not None:
            self.secure(socket)

    def _begin_anew(self) -> None:
        """Make the socket again, because half a message may be in it."""
        reason = "the program was interrupted while it used the connection"
        self._link.reopen(reason, linger_ms=0)

    def _ask_here(self, pending: Pending) -> bool:
        """Send a request and wait for its answer on this thread, while the sockets are idle.

        Returns
        -------
        bool
            False when nothing was sent. When other work came in between, the loop goes on with the
            request.
        """
        borrowed = clean = True
        try:
            borrowed = self.loop.borrow()
            if not borrowed:
                return False
            clean = False
            self._transmit(pending)
            socket = self._link.socket
            if pending.sent and socket is not None:
                self._pending[pending.id] = pending
                while pending.outcome is None:
                    clean = True  # nothing is under way while we wait
                    ready = self.loop.wait(socket, pending.deadline.remaining())
                    clean = False
                    if pending.outcome is not None:
                        break  # a signal handler has closed the client meanwhile
                    if ready is None:
                        pending.hand_over()
                        self.loop.call_soon(self._adopt, pending)
                        break
                    if ready:
                        self._receive_mine(pending)
                    else:
                        self._expire(pending)
            clean = True
        finally:
            if borrowed:
                try:
                    if not pending.handed_over:
                        self._pending.pop(pending.id, None)
                    self.loop.give_back(clean=clean)
                except BaseException:  # Ctrl-C, and just here
                    self.loop.give_back(clean=False)
                    raise
        return pending.sent

    def _receive_mine(self, pending: Pending) -> None:
        """Take one message; what is not the plain answer to a request is left to the loop."""
        frames = self._read()
        message = self._decode(frames) if frames else None
        if message is None:
            return
        if message.id == pending.id and message.type not in ("error", "reject"):
            pending.settle(Reply(message.body, message.type, tuple(frames[2:])))
        else:
            self.loop.call_soon(self._receive, message, frames)

    def _adopt(self, pending: Pending) -> None:
        """Go on with a request whose thread had to give the sockets back."""
        if not pending.settled:
            pending.timer = self.loop.call_later(
                pending.deadline.remaining(), lambda: self._expire(pending)
            )

    def _begin(self, pending: Pending) -> None:
        if self.closed:
            pending.settle(self._closed_here())
            return
        self._pending[pending.id] = pending
        self._transmit(pending)
        self._adopt(pending)

    def _transmit(self, pending: Pending) -> None:
        """Send a request, if there is a connection; else the next connection sends it."""
        if pending.settled or pending.sent or not self._may_send(pending.type):
            return
        if self._link.send(pending.frames):
            pending.sent = True
        elif not pending.handed_over:
            return  # its thread hands it to the loop
        elif self._flushing is None or self._flushing.cancelled:
            self._flushing = self.loop.call_later(_FULL_RETRY_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for pending in tuple(self._pending.values()):
            self._transmit(pending)

    def _notify(self, frames: Sequence[bytes]) -> None:
        if not (self._may_send("") and self._link.send(frames)):
            self.counters["dropped"] += 1

    def _may_send(self, type_: str) -> bool:
        held = self._holds and not self._admitted and type_ not in _BEFORE_WELCOME
        return self.connected and not held

    def _expire(self, pending: Pending) -> None:
        if pending.sent:
            what = f"{self.url} did not answer {pending.type!r} within {pending.timeout:g} s"
        else:
            what = (
                f"no connection to {self.url} within {pending.timeout:g} s, "
                f"so {pending.type!r} was not sent: is the service running there?"
            )
        self._settle(pending, ControlTimeout(what))

    def _settle(self, pending: Pending, outcome: Reply | Exception) -> None:
        """Forget a request, and tell whoever still waits for it."""
        self._pending.pop(pending.id, None)
        if pending.timer is not None:
            pending.timer.cancel()
        if not pending.settled:
            pending.settle(outcome)

    def _on_up(self) -> None:
        for callback in self._connected_callbacks:
            self.loop.call_soon(callback)
        self._flush()

    def _on_down(self, reason: str) -> None:
        self._admitted = False
        for pending in tuple(self._pending.values()):
            if not pending.sent:
                continue
            pending.sent = False
            if not pending.again:
                self._settle(
                    pending,
                    PeerLostError(
                        f"{self.url}: {reason} while {pending.type!r} was under way; "
                        "it may or may not have been carried out"
                    ),
                )
        for callback in self._lost_callbacks:
            self.loop.call_soon(callback, reason)

    def _on_refused(self, event: int) -> None:
        for callback in self._refused_callbacks:
            self.loop.call_soon(callback, event)

    def _on_readable(self) -> bool:
        """Take one message; False when there is none."""
        frames = self._read()
        message = self._decode(frames) if frames else None
        if message is not None:
            self._receive(message, frames)
        return bool(frames)

    def _read(self) -> list[bytes]:
        socket = self._link.socket
        return [] if socket is None else receive_frames(socket)

    def _tell_envelope(self, frame: bytes) -> None:
        for callback in self._envelope_callbacks:
            try:
                callback(frame)
            except Exception:
                logger.exception("callback for a JSON message failed")

    def _decode(self, frames: Sequence[bytes]) -> ReplyMessage | None:
        """Read a message; those of another protocol go to whoever speaks it."""
        if self._envelope_callbacks and len(frames) == 2 and frames[1][:1] == b"{":
            self.loop.call_soon(self._tell_envelope, frames[1])  # another thread may read
            return None
        try:
            return _codec.decode_reply(frames[1] if len(frames) > 1 else b"")
        except FrameError as error:
            self.counters["bad_frame"] += 1
            logger.warning("%s sent what is no message: %s", self.url, error)
            return None

    def _receive(self, message: ReplyMessage, frames: Sequence[bytes]) -> None:
        if not message.id:
            self._on_unasked(message)
            return
        pending = self._pending.get(message.id)
        if pending is None:
            self.counters["late"] += 1
            return
        if message.type in ("error", "reject"):
            text, details, again = message.message, message.details, message.retryable
            refusal = request_error(message.code, text, details=details, retryable=again)
            self._on_refusal(pending, refusal)
        else:
            self._settle(pending, Reply(message.body, message.type, tuple(frames[2:])))

    def _on_unasked(self, message: ReplyMessage) -> None:
        if message.type == "error":
            self.counters["bad_frame"] += 1
            logger.warning("%s refused a frame of ours: %s", self.url, message.message)
            return
        for callback in self._pushes.get(message.type, ()):
            try:
                callback(message.body)
            except Exception:
                logger.exception("callback for push %r failed", message.type)

    def _on_refusal(self, pending: Pending, error: RequestError) -> None:
        pending.backoff = pending.backoff or Backoff()
        wait = pending.backoff.next()
        if not (error.retryable and pending.again and wait < pending.deadline.remaining()):
            self._settle(pending, error)
            return

        def again() -> None:
            pending.sent = False
            self._transmit(pending)

        self.loop.call_later(wait, again)
