"""Calls: the commands that a client called and that have no answer yet."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._errors import CommandError, EnvelopeError
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.session._connection import Connection
    from zmqruntime.session._shapes import Envelope

__all__ = ["Call", "Calls"]

_MOST_WAITING = 10_000


@dataclass(slots=True, eq=False)
class Call:
    """A command that was called.

    Attributes
    ----------
    future
        Holds its result, or a `CommandError`.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    key: str | None
    timeout_ms: int | None
    future: Future[Any] = field(default_factory=Future)
    id: str = ""
    abandon: Callable[[], object] = lambda: None

    def cancel(self) -> None:
        """Tell the server that the result is not wanted any more; what comes of it, comes."""
        self.abandon()


class Calls:
    """Calls commands, and matches their answers; used on the loop.

    Parameters
    ----------
    connection
        Session by which they are called.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._calls: dict[str, Call] = {}

    def begin(self, call: Call) -> None:
        """Call a command; one without a session and without a key fails at once."""
        if self._connection.closed or (not self._connection.connected and call.key is None):
            text = f"there is no session: {call.name} was not sent, because only a key lets it wait"
            self._finish(call, error=CommandError("command.session_closed", text))
            return
        if len(self._calls) >= _MOST_WAITING:
            text = f"{_MOST_WAITING} commands have no answer yet, so {call.name} was not sent"
            self._finish(call, error=CommandError("command.busy", f"{text}: wait for theirs"))
            return
        call.id = new_id()
        self._calls[call.id] = call
        self._transmit_call(call)

    def resume(self) -> None:
        """Call everything again that has a key: there is another connection."""
        for call in tuple(self._calls.values()):
            self._transmit_call(call)

    def interrupt(self, reason: str, *, keyed_too: bool) -> None:
        """Fail what cannot be called again.

        Parameters
        ----------
        reason
            Why the session was interrupted.
        keyed_too
            Whether that is everything.
        """
        for call in tuple(self._calls.values()):
            if call.key is None or keyed_too:
                text = f"{reason} while {call.name} was under way; it may have been carried out"
                self._finish(call, error=CommandError("command.session_closed", text))

    def cancel(self, call: Call) -> None:
        """Tell the server that a result is not wanted any more."""
        if call.id not in self._calls or not self._connection.connected:
            return
        if self._connection.protocol == 2:
            payload = protocol2.Cancel(command_id=call.id)
            self._connection.send(self._connection.frame(protocol2.CallCancel, payload))
            return
        cancelled = CommandError("command.cancelled", f"{call.name} was given up here")
        self._finish(call, error=cancelled)

    def answered(
        self, call_id: str, *, result: Any = None, error: CommandError | None = None
    ) -> None:
        """Take in an answer."""
        call = self._calls.get(call_id)
        if call is None:
            self._connection.counters["late_answers"] += 1
        else:
            self._finish(call, result=result, error=error)

    def _transmit_call(self, call: Call) -> None:
        if not self._connection.connected:
            return
        try:
            sent = self._connection.send(self._call_envelope(call))
        except EnvelopeError as error:
            self._finish(call, error=CommandError("command.invalid", error.message))
            return
        if not sent and call.key is None:
            text = f"{call.name} was not sent: the server does not read"
            self._finish(call, error=CommandError("command.send_failed", text))

    def _call_envelope(self, call: Call) -> Envelope:
        if self._connection.protocol == 1:
            named = {str(n): value for n, value in enumerate(call.args)} | dict(call.kwargs)
            return protocol1.CallCommand(
                id=call.id,
                timestamp=time.time(),
                payload=protocol1.CommandCall(name=call.name, args=named),
            )
        payload = protocol2.CommandCall(
            command=call.name,
            args=list(call.args),
            kwargs=dict(call.kwargs),
            idempotency_key=call.key if call.key is not None else UNSET,
            timeout_ms=call.timeout_ms if call.timeout_ms is not None else UNSET,
        )
        return self._connection.frame(protocol2.CallCommand, payload, frame_id=call.id)

    def _finish(self, call: Call, *, result: Any = None, error: CommandError | None = None) -> None:
        self._calls.pop(call.id, None)
        if not call.future.set_running_or_notify_cancel():
            return
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)
