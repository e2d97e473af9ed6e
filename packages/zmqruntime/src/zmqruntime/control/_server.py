"""ControlServer: a ROUTER socket, a handler per type of request, and always an answer."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import (
    ForbiddenError,
    FrameError,
    FrameTooLargeError,
    RequestError,
    UnavailableError,
    request_error,
)
from zmqruntime.control import _codec
from zmqruntime.control._codec import Encoding, Limits
from zmqruntime.control._doorkeeper import Doorkeeper
from zmqruntime.control._handlers import Handlers
from zmqruntime.control._messages import V_MAX, V_MIN, PushMessage, Reply, Request
from zmqruntime.control._peer import NOWHERE
from zmqruntime.control._peer_roll import PeerRoll
from zmqruntime.control._return_address import ReturnAddress
from zmqruntime.control._socket import ControlSocket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zmqruntime.control._handlers import Handler
    from zmqruntime.control._handshake import Hello
    from zmqruntime.control._peer import Peer, Source
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.security._gate import Gate

    Identify = Callable[[str | None], Peer]
    Diversion = Callable[[tuple[bytes, ...], Sequence[bytes], Identify], bool]

__all__ = ["ControlServer"]

logger = logging.getLogger(__name__)

_OPEN_TYPES = frozenset({"ping", "hello"})
_MOST_ENVELOPE = 8


class ControlServer:
    """Answers requests of many peers on one ROUTER socket.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    url
        Where to bind, ``tcp://127.0.0.1:5555``.
    token
        Owner token; who shows it is the owner.
    open_to_all
        Serve peers without the token too (they are still not the owner).
    limits
        Caps on what peers may send.
    workers
        Most slow handlers at a time.
    gate
        Decides who is let in and what each may do; None for a server that only this computer
        reaches.

    Notes
    -----
    A handler runs on a worker thread unless it was registered for the loop, so requests of one
    peer may finish in another order than they came. It returns the body of an ``ok`` reply, a
    `Reply`, or None for an empty body; it refuses by raising a `RequestError`. Any other
    exception is logged with its traceback and answered with ``internal``. One that would have to
    wait may return a `concurrent.futures.Future` of any of these instead, which takes no thread;
    where it is not done by the deadline of the request, ``deadline`` is answered, and the future
    is cancelled.

    Replies copy the envelope of the request up to its empty delimiter, so plain REQ sockets and
    proxies in between work. Requests of a peer that has not said hello carry the token each.
    """

    def __init__(
        self,
        loop: IOThread,
        url: str,
        *,
        token: str,
        open_to_all: bool = False,
        limits: Limits | None = None,
        workers: int = 4,
        gate: Gate | None = None,
    ) -> None:
        self.loop = loop
        self.url = url
        self.gate = gate
        self.limits = limits or Limits()
        self._counters: Counter[str] = Counter()
        self._door = Doorkeeper(token, open_to_all=open_to_all, gate=gate)
        self._handlers: Handlers[ReturnAddress] = Handlers(
            loop, self._door, self._conclude, workers=workers
        )
        self._socket = ControlSocket(
            loop,
            url,
            most_bytes=self.limits.request_bytes + 64 * 1024,
            gate=gate,
            counters=self._counters,
            on_message=self._receive,
            on_gone=self._on_gone,
            on_disconnected=self._on_disconnected,
        )
        self._roll = PeerRoll(
            loop, self._counters, send=self._socket.send, see_ends=self._socket.see_ends
        )
        self._diversion: Diversion | None = None
        self.handle("ping", self._on_ping, on_loop=True)
        if gate is not None:
            gate.on_changed(self._roll.part)

    def open(self) -> None:
        """Bind and begin to answer, on a loop that is started if it was not.

        Raises
        ------
        EndpointInUse
            If another program listens there.
        InvalidEndpointError
            If the address does not belong to this computer.
        """
        self.loop.start()
        self.loop.submit(self._socket.open).result()

    def close(self) -> None:
        """Answer no more; what was answered already is still delivered. Twice is harmless."""
        self._handlers.close()
        if self.loop.running:
            self.loop.submit(self._socket.close).result()

    def handle(
        self,
        type_: str,
        handler: Handler,
        *,
        on_loop: bool = False,
        capability: str | None = None,
    ) -> None:
        """Answer a type of request.

        Parameters
        ----------
        type_
            Type of the request; registering it again replaces the handler.
        handler
            Called with the request and its peer.
        on_loop
            Run on the I/O thread, in the order of arrival, instead of on a worker. Only for
            handlers that take less than 5 ms and wait for nothing.
        capability
            What the peer needs, for example ``service:shutdown``; others are refused. None lets
            every permitted peer ask.
        """
        self._handlers.add(type_, handler, on_loop=on_loop, capability=capability)

    @property
    def counters(self) -> Counter[str]:
        """Totals since the start.

        ``received`` counts messages, ``answered`` replies, ``refused.`` and a code errors that were
        answered, ``pushed`` what was sent unasked, ``dropped`` what could not be sent, and
        ``failed_callbacks`` functions that raised on the loop, those of the application among them.
        """
        if self.loop.failed_callbacks:
            self._counters["failed_callbacks"] = self.loop.failed_callbacks
        return self._counters

    @property
    def types(self) -> frozenset[str]:
        """The types of request that are answered."""
        return self._handlers.types

    def on_peer_lost(self, callback: Callable[[Peer], object]) -> None:
        """Call a function, on the loop, when a peer that said hello is gone.

        Parameters
        ----------
        callback
            Called once per lost peer.
        """
        self._roll.on_lost(callback)

    def divert_json(self, receive: Diversion) -> None:
        """Show JSON messages to another protocol on the same socket before they are requests.

        Parameters
        ----------
        receive
            Called on the loop with the envelope of the message, its frames, and a function that
            says who its sender is when it shows a token (None for no token). Returns whether it
            took the message; it checks its own caps, and answers by `post`.
        """
        self._diversion = receive

    def on_disconnected(self, callback: Callable[[], object]) -> None:
        """Call a function, on the loop, when some connection ended, whosever it was."""
        self._roll.on_disconnected(callback)

    def post(self, envelope: Sequence[bytes], frame: bytes) -> bool:
        """Send a message of another protocol; on the loop.

        Parameters
        ----------
        envelope
            As given to the diversion.
        frame
            The message.

        Returns
        -------
        bool
            False when the peer does not read its messages and this one was not sent.

        Raises
        ------
        PeerLostError
            If the peer is gone, or the server is closed.
        """
        return self._socket.post([*envelope, frame])

    def push(self, peer_id: bytes, type_: str, body: Mapping[str, Any] | None = None) -> None:
        """Send a peer something it did not ask for; any thread.

        Parameters
        ----------
        peer_id
            `Peer.id` of a peer that said hello. One that is gone is a counted drop.
        type_
            Type of the message.
        body
            Plain values.

        Raises
        ------
        FrameError
            If the body holds something that is not plain.
        """
        message = PushMessage(v=V_MAX, type=type_, body=dict(body or {}))
        self.loop.call_here(self._roll.push, peer_id, message)

    def admit(self, peer: Peer, hello: Hello) -> Peer:
        """Remember a peer that said hello; on the loop.

        Parameters
        ----------
        peer
            As handed to the handler.
        hello
            What it said.

        Returns
        -------
        Peer
            The peer as it is known from now on.

        Raises
        ------
        BusyError
            If too many peers are known already.
        """
        return self._roll.admit(peer, hello)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers that said hello and are not known to be gone."""
        return tuple(self._roll.peers.values())

    def _receive(self, frames: Sequence[bytes], source: Source = NOWHERE) -> None:
        """Serve one message; whatever is wrong with it is answered or counted."""
        self._counters["received"] += 1
        try:
            end = frames.index(b"", 1, 1 + _MOST_ENVELOPE) + 1
        except ValueError:
            end = 1
        content = frames[end:]
        envelope = frames[:end] if end > 1 else (frames[0], b"")
        first = content[0] if content else b""
        back = ReturnAddress(envelope=envelope, encoding=_codec.encoding_of(first))
        if end == 1 or not content:
            self._refuse(back, FrameError("expected an empty delimiter, then a message"))
            return
        try:
            self._serve(content, back, source)
        except (FrameError, RequestError) as error:
            self._refuse(back, error)

    def _serve(self, content: Sequence[bytes], back: ReturnAddress, source: Source) -> None:
        peer_id = back.envelope[0]
        known = self._roll.peers.get(peer_id)
        # Routing ids that begin with a zero byte are given by libzmq and never given again;
        # one that a peer chose itself proves nothing.
        if peer_id[:1] != b"\0" or (known is not None and known.source.key != source.key):
            known = None
        authenticated = self._door.keyed
        longest = max(map(len, content))
        if authenticated and longest > self.limits.stranger_bytes:
            self._door.require_admission(source)
        if self._is_diverted(content, back, known, source):
            return
        if not authenticated and (known is None or not known.permitted):
            if longest > self.limits.stranger_bytes and not self._permits(content):
                raise FrameTooLargeError(
                    f"frame of {longest} bytes: at most {self.limits.stranger_bytes} are allowed "
                    "without a valid token"
                )
            if len(content) > self.limits.frames:
                raise FrameTooLargeError(f"{len(content)} frames: too many")
        message = _codec.decode_request(content[0])
        back.id, back.trace, back.wanted = message.id, message.trace, bool(message.id)
        try:
            peer = self._door.identify(
                peer_id, back.encoding, message.token, known=known, source=source
            )
            _codec.check_lengths(content, type_=message.type, limits=self.limits)
            _codec.check_counts(message.body, self.limits)
            request = Request(
                type=message.type,
                body=message.body,
                attachments=tuple(content[1:]),
                id=message.id,
                key=message.key,
                trace=message.trace,
                due=time.monotonic() + message.deadline_ms / 1000,
            )
            self._require_leave(request, peer, version=message.v, shown=message.token)
            self._handlers.carry_out(request, peer, back)
        except (FrameError, RequestError) as error:
            self._refuse(back, error)

    def _is_diverted(
        self, content: Sequence[bytes], back: ReturnAddress, known: Peer | None, source: Source
    ) -> bool:
        """Show a JSON message to the other protocol on this socket, if there is one."""
        if self._diversion is None or back.encoding is not Encoding.JSON:
            return False
        if self._door.keyed:
            self._door.require_admission(source)  # with each message: keys are revoked meanwhile

        def identify(token: str | None) -> Peer:
            return self._door.identify(
                back.envelope[0], back.encoding, token, known=known, source=source
            )

        return self._diversion(tuple(back.envelope), content, identify)

    def identify(self, token: str | None) -> Peer:
        """Say who shows a token on a connection that is not of this socket.

        Parameters
        ----------
        token
            What was shown, or None. On a server with keys it is the owner's, or one that the
            server has lent to whoever holds it.

        Raises
        ------
        ForbiddenError
            If the token is not good.
        """
        return self._door.identify_bearer(token)

    def _require_leave(
        self, request: Request, peer: Peer, *, version: int, shown: str | None
    ) -> None:
        """Refuse who speaks another version, or has shown nothing yet, all but two requests."""
        if request.type not in _OPEN_TYPES and not V_MIN <= version <= V_MAX:
            raise UnavailableError(
                f"protocol {version} is not spoken here: {V_MIN} to {V_MAX}",
                code="unsupported_version",
                details={"v_min": V_MIN, "v_max": V_MAX},
            )
        if request.type not in _OPEN_TYPES and not peer.permitted:
            raise ForbiddenError(
                "show the token of this server first: its file is readable by its owner only"
                if shown is None
                else "that is not the token of this server, which has a new one after each start",
                code="unauthenticated",
            )

    def _on_ping(self, request: Request, peer: Peer) -> Reply:  # noqa: ARG002 - a handler
        return Reply({"ready": True, "v_min": V_MIN, "v_max": V_MAX}, "pong")

    def _permits(self, content: Sequence[bytes]) -> bool:
        """Read no more than the token of a long message, and say whether it is good."""
        if len(content[0]) > self.limits.request_bytes or len(content) > self.limits.frames:
            return self._door.permits(None)
        return self._door.permits(_codec.decode_envelope(content[0]).token)

    def _conclude(self, back: ReturnAddress, outcome: Reply | RequestError) -> None:
        if not isinstance(outcome, Reply):
            self._refuse(back, outcome)
            return
        if not back.wanted:
            return
        try:
            frames = back.reply(outcome)
        except FrameError as error:
            logger.error("reply %r cannot be sent: %s", outcome.type, error)  # noqa: TRY400 - told
            self._refuse(back, request_error("internal", str(error)))
            return
        self._counters["answered"] += 1
        self._socket.send(frames)

    def _refuse(self, back: ReturnAddress, error: FrameError | RequestError) -> None:
        if isinstance(error, FrameError):
            code = "too_large" if isinstance(error, FrameTooLargeError) else "bad_frame"
            error = request_error(code, str(error))
        self._counters[f"refused.{error.code}"] += 1
        logger.debug("refused %r: %s", error.code, error)
        if back.wanted:
            self._socket.send(back.refusal(error))

    def _on_gone(self, peer_id: bytes) -> None:
        self._roll.forget(peer_id)

    def _on_disconnected(self) -> None:
        self._roll.disconnected()
