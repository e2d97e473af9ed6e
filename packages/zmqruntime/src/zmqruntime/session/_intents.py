"""Intents: the changes that a client asked for and that have no answer yet."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from zmqruntime.loop._polling import Backoff
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._errors import EnvelopeError, SessionClosedError, StateRejectedError
from zmqruntime.session._shapes import ClientMark
from zmqruntime.session._state import Replica
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.session._connection import Connection
    from zmqruntime.session._shapes import Envelope

__all__ = ["Intent", "Intents", "StateAck"]

_MOST_ACK_WAIT_S = 5.0
_MOST_WAITING = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAck:
    """What became of a change that was accepted.

    Attributes
    ----------
    applied_value
        What the property is now, which may differ from what was asked for.
    version
        Of the property now.
    """

    applied_value: Any
    version: int


@dataclass(slots=True, eq=False)
class Intent:
    id: str
    payload: protocol2.Update
    backoff: Backoff
    future: Future[StateAck] = field(default_factory=Future)
    mark: int = 0
    timer: TimerHandle | None = None


class Intents:
    """Asks for changes until each has its answer; used on the loop.

    Parameters
    ----------
    connection
        Session by which they are asked for.
    """

    def __init__(self, connection: Connection) -> None:
        self.replica = Replica()
        self.ack_timeout_s = 0.25
        self._connection = connection
        self._intents: dict[str, Intent] = {}
        self._mark_id = new_id()
        self._marks = 0

    def __len__(self) -> int:
        return len(self._intents)

    def make(self, payload: protocol2.Update) -> Intent:
        """Give a change its name; any thread."""
        backoff = Backoff(first=self.ack_timeout_s, longest=_MOST_ACK_WAIT_S)
        return Intent(new_id(), payload, backoff)

    def propose(self, intent: Intent) -> None:
        """Show a change at once, and ask for it."""
        if self._connection.closed:
            closed = SessionClosedError("session_closed", "this client was closed")
            self._drop(intent, closed)
            return
        if len(self._intents) >= _MOST_WAITING:
            text = f"{_MOST_WAITING} changes have no answer yet: wait for theirs, or reconnect"
            self._drop(intent, StateRejectedError("state.busy", text))
            return
        self._marks += 1  # here, so that they grow in the order in which changes are sent
        intent.mark = self._marks
        payload = intent.payload
        property_ = (payload.scope, payload.target, payload.key)
        self._intents[intent.id] = intent
        self.replica.propose(intent.id, property_, payload.value)
        self._transmit(intent)

    def resume(self) -> None:
        """Ask again for everything that has no answer: there is another connection."""
        for intent in tuple(self._intents.values()):
            self._transmit(intent)

    def pause(self) -> None:
        """Ask for nothing until there is another connection."""
        for intent in tuple(self._intents.values()):
            if intent.timer is not None:
                intent.timer.cancel()

    def fail(self, error: Exception) -> None:
        """Give everything up that has no answer."""
        for intent in tuple(self._intents.values()):
            self._drop(intent, error)

    def acknowledged(self, ack: protocol2.AckPayload) -> None:
        """Take in an answer of protocol 2."""
        intent = self._intents.get(ack.intent_id)
        if intent is None:
            self._connection.counters["late_acks"] += 1
            return
        if ack.status == "accepted" and ack.version is not UNSET:
            value = ack.applied_value if ack.applied_value is not UNSET else intent.payload.value
            self._settle(intent, StateAck(applied_value=value, version=ack.version))
            return
        failure = ack.error
        assert failure is not UNSET
        error = StateRejectedError(
            failure.code,
            failure.message,
            failure.details if failure.details is not UNSET else None,
        )
        if ack.conflict_with is not UNSET:
            error.conflict_with = msgspec.to_builtins(ack.conflict_with)
        self._drop(intent, error)

    def echoed(self, state: protocol1.StatePayload) -> None:
        """Take in what a server of protocol 1 says of a property; it may be an answer."""
        version = state.server_seq if state.server_seq is not UNSET else None
        self.replica.confirm((state.scope, state.target, state.key), state.value, version)
        mark = state.client
        if state.ack is not True or mark is UNSET or mark.id != self._mark_id:
            return
        for intent in tuple(self._intents.values()):
            if intent.mark == mark.seq:
                self._settle(intent, StateAck(applied_value=state.value, version=version or 0))

    def refused(self, failure: protocol1.StateFailure) -> None:
        """Find, in protocol 1, whose refusal this is: the oldest change that asked for the same."""
        offending = failure.offending
        wanted = (offending.scope, offending.target, offending.key)
        for intent in tuple(self._intents.values()):
            payload = intent.payload
            if (payload.scope, payload.target, payload.key) == wanted and (
                payload.value == offending.value
            ):
                details = failure.details if failure.details is not UNSET else None
                self._drop(intent, StateRejectedError(failure.code, failure.message, details))
                return

    def _transmit(self, intent: Intent) -> None:
        """Send a change, and again when no acknowledgement comes; the server makes it once."""
        if not self._connection.connected or intent.id not in self._intents:
            return
        try:
            self._connection.send(self._envelope_of(intent))
        except EnvelopeError as error:
            self._drop(intent, error)
            return
        if intent.timer is not None:
            intent.timer.cancel()
        if self._connection.protocol == 2:
            wait = intent.backoff.next()
            again = partial(self._transmit_again, intent)
            intent.timer = self._connection.loop.call_later(wait, again)

    def _transmit_again(self, intent: Intent) -> None:
        if intent.id in self._intents and self._connection.connected:
            self._connection.counters["resent"] += 1
            self._transmit(intent)

    def _envelope_of(self, intent: Intent) -> Envelope:
        payload = intent.payload
        if self._connection.protocol == 1:
            return protocol1.NotifyState(
                timestamp=time.time(),
                payload=protocol1.StatePayload(
                    scope=payload.scope,
                    target=payload.target,
                    key=payload.key,
                    value=payload.value,
                    interaction_id=payload.interaction_id,
                    phase=payload.phase,
                    client=ClientMark(id=self._mark_id, seq=intent.mark),
                ),
            )
        return protocol2.StateUpdate(
            version=2,
            session=self._connection.session_id,
            frame_id=new_id(),
            timestamp=time.time(),
            intent_id=intent.id,
            payload=payload,
        )

    def _settle(self, intent: Intent, ack: StateAck) -> None:
        self._forget(intent)
        self.replica.settle(intent.id, accepted=True, value=ack.applied_value, version=ack.version)
        if intent.future.set_running_or_notify_cancel():
            intent.future.set_result(ack)

    def _drop(self, intent: Intent, error: Exception) -> None:
        self._forget(intent)
        self.replica.settle(intent.id, accepted=False)
        if intent.future.set_running_or_notify_cancel():
            intent.future.set_exception(error)

    def _forget(self, intent: Intent) -> None:
        self._intents.pop(intent.id, None)
        if intent.timer is not None:
            intent.timer.cancel()
