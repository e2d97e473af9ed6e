"""Machines of a session: hello, welcome or reject, open, closed; no input or output of their own.

Both take in bytes and the passing of time, and give back what is to be done.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._envelopes import type_of
from zmqruntime.session._errors import EnvelopeError, SessionRejectedError
from zmqruntime.session._instructions import (
    INTERNAL,
    NORMAL,
    POLICY,
    PROTOCOL_ERROR,
    TOO_BIG,
    Close,
    Deliver,
    Greet,
    Heard,
    Instruction,
    Malformed,
    Pulse,
    Welcomed,
)
from zmqruntime.session._parser import EnvelopeLimits, Parsed, parse, parse_hello, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.session._shapes import Envelope

__all__ = ["ClientMachine", "ServerMachine", "State"]

_FROM_CLIENT: dict[int, tuple[type[Envelope], ...]] = {
    1: (protocol1.NotifyState, protocol1.CallCommand),
    2: (
        protocol2.StateUpdate,
        protocol2.CallCommand,
        protocol2.CallCancel,
        protocol2.NotifyTelemetry,
    ),
}


class State(StrEnum):
    """Where a session is."""

    HELLO = "hello"
    OPEN = "open"
    CLOSED = "closed"


class _Liveness:
    """Says when to send a heartbeat and when to give up; any frame of the session is life."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self._every_s = every_s
        self._clock = clock
        self._heard = self._asked = clock()
        self._pulsed = 0

    def heard(self) -> None:
        self._heard = self._asked = self._clock()
        self._pulsed = 0

    @property
    def due(self) -> float:
        return self._asked + self._every_s

    def tick(self) -> Pulse | Close | None:
        """Ask twice, with an interval to answer each time, however late this is called.

        Who was stopped for a minute itself has asked nobody meanwhile, and gives nobody up for it.
        """
        if self._clock() < self.due:
            return None
        if self._pulsed == 2:
            silent = self._clock() - self._heard
            return Close(
                INTERNAL, "timeout", f"two heartbeats were missed: silent for {silent:g} s"
            )
        self._pulsed += 1
        self._asked = self._clock()
        return Pulse()


class _Machine(ABC):
    """What both sides do alike: one wait for the other's first word, then frames and heartbeats."""

    def __init__(
        self,
        session_id: str,
        *,
        first_s: float,
        limits: EnvelopeLimits | None,
        clock: Callable[[], float],
    ) -> None:
        self.session_id = session_id
        self.state = State.HELLO
        self.protocol = 0
        self.counters: Counter[str] = Counter()
        self._limits = limits or EnvelopeLimits()
        self._clock = clock
        self._first_due = clock() + first_s
        self._liveness: _Liveness | None = None

    @property
    def due(self) -> float | None:
        """When `tick` is to be called next, or None."""
        if self.state is State.HELLO:
            return self._first_due
        if self.state is State.OPEN and self._liveness is not None:
            return self._liveness.due
        return None

    def received(self, data: bytes | str) -> list[Instruction]:
        """Take in a frame.

        Parameters
        ----------
        data
            As it came.
        """
        if self.state is State.CLOSED:
            return []
        if self.state is State.HELLO:
            return self._first(data)
        if self._liveness is not None:
            self._liveness.heard()
        try:
            parsed = parse(data, self.protocol, self._limits)
            self._check(parsed)
        except EnvelopeError as error:
            self.counters[f"malformed.{error.code}"] += 1
            return self._malformed(error)
        self.counters["received"] += 1
        if parsed.unknown:
            self.counters["unknown_keys"] += len(parsed.unknown)
        match parsed.envelope:
            case protocol2.Heartbeat(frame_id=frame_id):
                return [Heard(frame_id)]
            case protocol2.Ack():
                return []
            case protocol2.Goodbye(payload=payload):
                self.state = State.CLOSED
                return [Close(NORMAL, payload.code, payload.message, silent=True)]
            case envelope:
                return [Deliver(envelope)]

    def close(self) -> None:
        """Take in that the session has ended."""
        self.state = State.CLOSED

    def tick(self) -> list[Instruction]:
        """Take in that time has passed."""
        if self.state is State.HELLO and self._clock() >= self._first_due:
            self.state = State.CLOSED
            return [self._too_late()]
        if self.state is State.OPEN and self._liveness is not None:
            found = self._liveness.tick()
            if isinstance(found, Close):
                self.state = State.CLOSED
            return [found] if found is not None else []
        return []

    def _open(self, protocol: int, heartbeat_s: float | None) -> None:
        """Open the session, with heartbeats where there are any."""
        self.state, self.protocol = State.OPEN, protocol
        if heartbeat_s is not None:
            self._liveness = _Liveness(heartbeat_s, self._clock)

    @abstractmethod
    def _first(self, data: bytes | str) -> list[Instruction]:
        """Take in the frame by which a session begins."""

    @abstractmethod
    def _too_late(self) -> Close:
        """Say that it did not come."""

    @abstractmethod
    def _check(self, parsed: Parsed) -> None:
        """Raise `EnvelopeError` for an envelope that the other side may not send now."""

    @abstractmethod
    def _malformed(self, error: EnvelopeError) -> list[Instruction]:
        """Answer a frame that is none, or none that may come now; it is counted already."""


class ServerMachine(_Machine):
    """The server's side of one session.

    Parameters
    ----------
    session_id
        Name of the session; frames that name another are refused.
    hello_s
        Longest wait for the hello.
    heartbeat_s
        Silence after which a heartbeat is sent, in protocol 2.
    most_malformed
        Frames that are no envelope before the session is ended.
    limits
        Caps on envelopes.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        session_id: str,
        *,
        hello_s: float = 5.0,
        heartbeat_s: float = 15.0,
        most_malformed: int = 100,
        limits: EnvelopeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(session_id, first_s=hello_s, limits=limits, clock=clock)
        self._hello_s = hello_s
        self._heartbeat_s = heartbeat_s
        self._most_malformed = most_malformed

    def welcome(self, protocol: int) -> None:
        """Open the session: a hello was accepted.

        Parameters
        ----------
        protocol
            What is spoken from now on.
        """
        self._open(protocol, self._heartbeat_s if protocol >= 2 else None)

    def _first(self, data: bytes | str) -> list[Instruction]:
        try:
            return [Greet(parse_hello(data, self._limits))]
        except EnvelopeError as error:
            self.state = State.CLOSED
            code = TOO_BIG if error.code == "too_large" else PROTOCOL_ERROR
            return [Malformed(error), Close(code, error.code, error.message, hello=True)]

    def _too_late(self) -> Close:
        return Close(POLICY, "timeout", f"no session.hello within {self._hello_s:g} s", hello=True)

    def _check(self, parsed: Parsed) -> None:
        envelope = parsed.envelope
        own = getattr(envelope, "session", self.session_id)
        if own != self.session_id:
            raise EnvelopeError(
                "unexpected_message",
                "the frame names another session than that of its connection",
                msgspec.to_builtins(envelope),
            )
        life = (protocol2.Heartbeat, protocol2.Ack, protocol2.Goodbye)
        if not isinstance(envelope, (*_FROM_CLIENT[self.protocol], *life)):
            raise EnvelopeError(
                "unexpected_message",
                f"{type_of(envelope)} is not for a client to send in an open session",
                msgspec.to_builtins(envelope),
            )

    def _malformed(self, error: EnvelopeError) -> list[Instruction]:
        bad = sum(n for name, n in self.counters.items() if name.startswith("malformed."))
        if bad < self._most_malformed:
            return [Malformed(error)]
        self.state = State.CLOSED
        text = f"{bad} frames were no envelopes of this protocol"
        return [Malformed(error), Close(POLICY, error.code, text)]


class ClientMachine(_Machine):
    """The client's side of one connection.

    Parameters
    ----------
    hello_id
        `id` or `frame_id` of the hello that was sent; the answer echoes it.
    answer_s
        Longest wait for the answer.
    limits
        Caps on envelopes.
    clock
        Monotonic seconds.

    Notes
    -----
    Heartbeats are sent as the welcome says.
    """

    def __init__(
        self,
        hello_id: str,
        *,
        answer_s: float = 5.0,
        limits: EnvelopeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("", first_s=answer_s, limits=limits, clock=clock)
        self.rejection: SessionRejectedError | None = None
        self._hello_id = hello_id
        self._answer_s = answer_s

    def _first(self, data: bytes | str) -> list[Instruction]:
        try:
            envelope, protocol = self._read_answer(data)
        except EnvelopeError as error:
            self.state = State.CLOSED
            text = f"the answer to hello cannot be read: {error.message}"
            return [Close(PROTOCOL_ERROR, error.code, text, silent=True)]
        echo = getattr(envelope, "frame_id", UNSET) or getattr(envelope, "id", UNSET)
        if isinstance(envelope, protocol1.Reject | protocol2.Reject):
            self.state = State.CLOSED
            details = envelope.payload.details
            self.rejection = SessionRejectedError(
                envelope.payload.code,
                envelope.payload.message,
                details if details is not UNSET else None,
            )
            return [Close(NORMAL, envelope.payload.code, envelope.payload.message, silent=True)]
        if not isinstance(envelope, protocol1.Welcome | protocol2.Welcome) or (
            echo != self._hello_id
        ):
            self.state = State.CLOSED
            text = f"expected the answer to hello, got {type_of(envelope)}"
            return [Close(PROTOCOL_ERROR, "unexpected_message", text, silent=True)]
        if isinstance(envelope, protocol2.Welcome):
            self.session_id = envelope.session
            self._open(protocol, envelope.payload.session.heartbeat_s)
        else:
            self.session_id = envelope.payload.session.id
            self._open(protocol, None)
        return [Welcomed(envelope, protocol)]

    def _read_answer(self, data: bytes | str) -> tuple[Envelope, int]:
        value: Any = read_json(data, self._limits)
        protocol = 2 if isinstance(value, dict) and value.get("version") == 2 else 1
        return parse(data, protocol, self._limits).envelope, protocol

    def _too_late(self) -> Close:
        return Close(POLICY, "timeout", f"no answer to hello within {self._answer_s:g} s")

    def _check(self, parsed: Parsed) -> None:
        own = getattr(parsed.envelope, "session", self.session_id)
        if own != self.session_id:
            raise EnvelopeError("unexpected_message", f"frame of another session, {own!r}")

    def _malformed(self, error: EnvelopeError) -> list[Instruction]:
        if error.code == "unknown_type":
            return []  # a newer server may notify of more
        return [Malformed(error)]
