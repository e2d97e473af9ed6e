"""Connection: a client's session on its carrier, from hello to loss, again and again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from zmqruntime.loop._polling import Backoff
from zmqruntime.session import protocol2
from zmqruntime.session._envelopes import encode
from zmqruntime.session._errors import SessionClosedError
from zmqruntime.session._instructions import (
    NORMAL,
    PROTOCOL_ERROR,
    Close,
    Deliver,
    Heard,
    Instruction,
    Malformed,
    Pulse,
    Welcomed,
)
from zmqruntime.session._machine import ClientMachine, State
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.session import protocol1
    from zmqruntime.session._carrier import Carrier
    from zmqruntime.session._errors import EnvelopeError
    from zmqruntime.session._introduction import Introduction
    from zmqruntime.session._sequence import Sequences
    from zmqruntime.session._shapes import Body, Envelope

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

_TERMINAL = frozenset({"auth_failed", "protocol_mismatch", "unsupported_client", "invalid_payload"})


class Connection:
    """Says hello on a carrier whenever it can, and keeps the session alive; used on its loop.

    Parameters
    ----------
    carrier
        How envelopes travel; it heals by itself.
    introduction
        What a hello says.
    sequences
        What the client has of each topic.
    token
        Proof of who the client is; None shows the token that the carrier knows.
    clock
        Monotonic seconds.
    on_welcomed
        Called with the welcome when the session is open.
    on_received
        Called with each envelope that follows.
    on_interrupted
        Called with the reason when the session is not open any more.
    on_refused
        Called when a hello was not welcomed; when that is final, `closed` is true.
    """

    def __init__(
        self,
        carrier: Carrier,
        introduction: Introduction,
        sequences: Sequences,
        *,
        token: str | None,
        clock: Callable[[], float],
        on_welcomed: Callable[[protocol1.Welcome | protocol2.Welcome], object],
        on_received: Callable[[Envelope], object],
        on_interrupted: Callable[[str], object],
        on_refused: Callable[[Exception], object],
    ) -> None:
        self.loop = carrier.loop
        self.counters: Counter[str] = Counter()
        self.closed = False
        """Whether it is over for good."""
        self._carrier = carrier
        self._introduction = introduction
        self._sequences = sequences
        self._token = token
        self._clock = clock
        self._on_welcomed = on_welcomed
        self._on_received = on_received
        self._on_interrupted = on_interrupted
        self._on_refused = on_refused
        self._machine: ClientMachine | None = None
        self._timer: TimerHandle | None = None
        self._again = Backoff(first=0.05, longest=5.0)

    @property
    def connected(self) -> bool:
        """Whether the session is open."""
        return self._machine is not None and self._machine.state is State.OPEN

    @property
    def protocol(self) -> int:
        """What is spoken, 0 before the welcome."""
        return self._machine.protocol if self._machine is not None else 0

    @property
    def session_id(self) -> str:
        """Name of the session, empty before the welcome."""
        return self._machine.session_id if self._machine is not None else ""

    def open(self) -> None:
        """Connect, and go on connecting; any thread."""
        self._carrier.open(self._up, self._received, self._down)

    def send(self, envelope: Envelope) -> bool:
        """Send an envelope; False when it was not."""
        if self._carrier.send(encode(envelope)):
            return True
        self.counters["unsent"] += 1
        return False

    def frame(self, shape: type[Any], payload: Body, *, frame_id: str | None = None) -> Envelope:
        """Make an envelope of protocol 2 in this session."""
        envelope: Envelope = shape(
            version=2,
            session=self.session_id,
            frame_id=frame_id or new_id(),
            timestamp=time.time(),
            payload=payload,
        )
        return envelope

    def renew(self, reason: str, *, code: int = PROTOCOL_ERROR) -> None:
        """Give the connection up, and begin again with what there is, after a while."""
        self._down(reason)
        if not self.closed:
            self.loop.call_later(self._again.next(), lambda: self._begin_again(code, reason))

    def end(self) -> None:
        """Say goodbye; nothing is sent or taken any more."""
        self.closed = True
        if self.connected and self.protocol == 2:
            self._say_goodbye("bye", "the client ends")
        if self._timer is not None:
            self._timer.cancel()

    def _up(self) -> None:
        if self.closed:
            return
        token = self._token if self._token is not None else self._carrier.token
        name, hello = self._introduction.hello(token=token, tokens=self._sequences.tokens)
        self._machine = ClientMachine(name, clock=self._clock)
        self.send(hello)
        self._arm()

    def _received(self, data: bytes | str) -> None:
        machine = self._machine
        if machine is None or self.closed:
            return
        self._run(machine.received(data))
        self._arm()

    def _down(self, reason: str) -> None:
        machine, self._machine = self._machine, None
        if machine is None:
            return
        was_open = machine.state is State.OPEN or bool(machine.session_id)
        machine.close()
        if was_open:
            self._on_interrupted(reason)

    def _begin_again(self, code: int, reason: str) -> None:
        if not self.closed and (self._machine is None or self._machine.state is State.CLOSED):
            self._carrier.renew(code, reason[:100])

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._machine.due if self._machine is not None else None
        if due is not None and not self.closed:
            self._timer = self.loop.call_later(due - self._clock(), self._tick)

    def _tick(self) -> None:
        if self._machine is not None:
            self._run(self._machine.tick())
            self._arm()

    def _run(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Welcomed(envelope):
                    self._again.reset()
                    self._on_welcomed(envelope)
                case Deliver(envelope):
                    self._on_received(envelope)
                case Heard(frame_id):
                    self.send(self.frame(protocol2.Ack, protocol2.Empty(), frame_id=frame_id))
                case Pulse():
                    self.send(self.frame(protocol2.Heartbeat, protocol2.Empty()))
                case Malformed(error):
                    self._take_malformed(error)
                case Close() as close:
                    self._close(close)
                case _:
                    raise AssertionError("only servers are greeted")

    def _take_malformed(self, error: EnvelopeError) -> None:
        self.counters["malformed"] += 1
        logger.warning("the server sent what is no envelope for this session: %s", error)
        if error.code == "unexpected_message":
            self.renew("the server speaks of another session")

    def _close(self, close: Close) -> None:
        """Take in that the server ended the session or did not open it, or that it must end."""
        machine = self._machine
        rejection = machine.rejection if machine is not None else None
        if not close.silent and self.protocol == 2:
            self._say_goodbye(close.word, close.message)
        if rejection is not None and rejection.code in _TERMINAL:
            self.closed = True  # asking again would be answered the same
            self._on_refused(rejection)
            self.loop.call_soon(self._carrier.close, NORMAL, "rejected")
            return
        if machine is not None and not machine.session_id:
            self._on_refused(rejection or SessionClosedError(close.word, close.message))
        self.renew(close.message, code=close.code)

    def _say_goodbye(self, word: str, message: str) -> None:
        farewell = protocol2.Farewell(code=word, message=message, reason=word)
        self.send(self.frame(protocol2.Goodbye, farewell))
