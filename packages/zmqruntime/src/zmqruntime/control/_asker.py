"""Asker: sends requests, again if need be, and brings whoever asked what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqruntime._errors import (
    ControlTimeout,
    LoopStoppedError,
    PeerLostError,
    RequestError,
    request_error,
)
from zmqruntime.control._messages import Reply
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from zmqruntime.control._incoming import Incoming
    from zmqruntime.control._link import ControlLink
    from zmqruntime.control._messages import ReplyMessage
    from zmqruntime.control._pending import Pending
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["Asker"]

_FULL_RETRY_S = 0.01
_BEFORE_WELCOME = frozenset({"hello", "ping"})


class Asker:
    """Has the requests of one client that have no answer yet.

    Parameters
    ----------
    loop
        Thread that goes on with what the asking thread does not do itself.
    url
        Where the server is, for errors.
    link
        The connection.
    incoming
        Reads what comes over it.
    counters
        Where ``late`` answers are counted.

    Attributes
    ----------
    closed
        Whether there are to be no more requests.
    holds
        Whether a new connection carries nothing but hello and ping until `admit` is called.

    Notes
    -----
    A request is carried by the thread that asks, while nobody else uses the loop's sockets
    (`ask_here`), or else by the loop (`begin`); the first becomes the second when anything comes in
    between. Everything but `ask_here` is called on the loop.
    """

    def __init__(
        self,
        loop: IOThread,
        url: str,
        link: ControlLink,
        incoming: Incoming,
        counters: Counter[str],
    ) -> None:
        self.closed = False
        self.holds = False
        self._loop = loop
        self._url = url
        self._link = link
        self._incoming = incoming
        self._counters = counters
        self._pending: dict[str, Pending] = {}
        self._admitted = False
        self._flushing: TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def ask_here(self, pending: Pending) -> bool:
        """Send a request and wait for its answer on this thread, while the sockets are idle.

        Parameters
        ----------
        pending
            The request; its outcome is known when it was sent and not handed over.

        Returns
        -------
        bool
            False when nothing was sent. When other work came in between, the loop goes on with the
            request.
        """
        turn = self._loop.turn
        borrowed = clean = True
        try:
            borrowed = turn.borrow()
            if not borrowed:
                return False
            clean = False
            self._transmit(pending)
            socket = self._link.socket
            if pending.sent and socket is not None:
                self._pending[pending.id] = pending
                while pending.outcome is None:
                    clean = True  # nothing is under way while we wait
                    ready = turn.wait(socket, pending.deadline.remaining())
                    clean = False
                    if pending.outcome is not None:
                        break  # a signal handler has closed the client meanwhile
                    if ready is None:
                        pending.hand_over()
                        self._loop.call_soon(self._adopt, pending)
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
                    turn.give_back(clean=clean)
                except BaseException:  # Ctrl-C, and just here
                    turn.give_back(clean=False)
                    raise
        return pending.sent

    def begin(self, pending: Pending) -> None:
        """Send a request, now or with the next connection, and go on with it."""
        if self.closed:
            pending.settle(self._closed_here())
            return
        self._pending[pending.id] = pending
        self._transmit(pending)
        self._adopt(pending)

    def notify(self, frames: Sequence[bytes]) -> bool:
        """Send what wants no answer; False when it cannot be sent now."""
        return self._may_send("") and self._link.send(frames)

    def receive(self, message: ReplyMessage, frames: Sequence[bytes]) -> None:
        """Take an answer; one that nobody waits for any more is counted.

        Parameters
        ----------
        message
            The answer.
        frames
            The whole message, whose attachments are from the third on.
        """
        pending = self._pending.get(message.id)
        if pending is None:
            self._counters["late"] += 1
            return
        if message.type in ("error", "reject"):
            text, details, again = message.message, message.details, message.retryable
            refusal = request_error(message.code, text, details=details, retryable=again)
            self._on_refusal(pending, refusal)
        else:
            self._settle(pending, Reply(message.body, message.type, tuple(frames[2:])))

    def connected(self) -> None:
        """Send what waits for a connection: there is one."""
        self._flush()

    def admit(self) -> None:
        """Send what was held back: the server has answered the hello."""
        if self._link.up:
            self._admitted = True
            self._flush()

    def disconnected(self, reason: str) -> None:
        """Give up what may not be sent twice; the rest waits for the next connection.

        Parameters
        ----------
        reason
            What happened to the connection.
        """
        self._admitted = False
        for pending in tuple(self._pending.values()):
            if not pending.sent:
                continue
            pending.sent = False
            if not pending.again:
                self._settle(
                    pending,
                    PeerLostError(
                        f"{self._url}: {reason} while {pending.type!r} was under way; "
                        "it may or may not have been carried out"
                    ),
                )

    def give_up(self) -> None:
        """Tell whoever waits for an answer that there will be none."""
        for pending in tuple(self._pending.values()):
            self._settle(pending, self._closed_here())

    def _receive_mine(self, pending: Pending) -> None:
        """Take one message; what is not the plain answer to a request is left to the loop."""
        frames = self._incoming.read()
        message = self._incoming.decode(frames) if frames else None
        if message is None:
            return
        if message.id == pending.id and message.type not in ("error", "reject"):
            pending.settle(Reply(message.body, message.type, tuple(frames[2:])))
        elif message.id:
            self._loop.call_soon(self.receive, message, frames)
        else:
            self._loop.call_soon(self._incoming.tell, message)

    def _adopt(self, pending: Pending) -> None:
        """Go on with a request whose thread had to give the sockets back."""
        if not pending.settled:
            pending.timer = self._loop.call_later(
                pending.deadline.remaining(), lambda: self._expire(pending)
            )

    def _transmit(self, pending: Pending) -> None:
        """Send a request, if there is a connection; else the next connection sends it."""
        if pending.settled or pending.sent or not self._may_send(pending.type):
            return
        if self._link.send(pending.frames):
            pending.sent = True
        elif not pending.handed_over:
            return  # its thread hands it to the loop
        elif self._flushing is None or self._flushing.cancelled:
            self._flushing = self._loop.call_later(_FULL_RETRY_S, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        for pending in tuple(self._pending.values()):
            self._transmit(pending)

    def _may_send(self, type_: str) -> bool:
        held = self.holds and not self._admitted and type_ not in _BEFORE_WELCOME
        return self._link.up and not held

    def _expire(self, pending: Pending) -> None:
        if pending.sent:
            what = f"{self._url} did not answer {pending.type!r} within {pending.timeout:g} s"
        else:
            what = (
                f"no connection to {self._url} within {pending.timeout:g} s, "
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

    def _on_refusal(self, pending: Pending, error: RequestError) -> None:
        pending.backoff = pending.backoff or Backoff()
        wait = pending.backoff.next()
        if not (error.retryable and pending.again and wait < pending.deadline.remaining()):
            self._settle(pending, error)
            return

        def again() -> None:
            pending.sent = False
            self._transmit(pending)

        self._loop.call_later(wait, again)

    def _closed_here(self) -> LoopStoppedError:
        return LoopStoppedError(f"the connection to {self._url} was closed here")
