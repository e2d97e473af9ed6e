"""Requests: what the client of an open session asks for, and how each is answered."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._commands import Command, Outcome
from zmqruntime.session._envelopes import type_of
from zmqruntime.session._errors import CommandError, EnvelopeError, StateRejectedError
from zmqruntime.session._machine import State

if TYPE_CHECKING:
    from collections import Counter

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.session._changes import Changes
    from zmqruntime.session._commands import CommandTable
    from zmqruntime.session._legacy import LegacyNames
    from zmqruntime.session._session import ServerSession
    from zmqruntime.session._shapes import Envelope

__all__ = ["Requests"]

logger = logging.getLogger(__name__)


class Requests:
    """Hands what clients ask for to the changes and commands; used on the loop.

    Parameters
    ----------
    loop
        Where answers are given.
    changes
        Makes changes, and acknowledges them.
    commands
        Carries calls out.
    legacy
        Reads names from before the envelopes; None refuses them.
    counters
        Where they are counted.
    """

    def __init__(
        self,
        loop: IOThread,
        changes: Changes,
        commands: CommandTable,
        *,
        legacy: LegacyNames | None,
        counters: Counter[str],
    ) -> None:
        self._loop = loop
        self._changes = changes
        self._commands = commands
        self._legacy = legacy
        self._counters = counters

    def take(self, session: ServerSession, envelope: Envelope) -> None:
        """Do what an envelope asks for."""
        match envelope:
            case protocol1.NotifyState(payload=payload):
                self._changes.ask_1(session, payload)
            case protocol2.StateUpdate():
                self._changes.ask_2(session, envelope)
            case protocol1.CallCommand(id=call_id, payload=call1):
                self._call(session, call_id, call1.name, kwargs=call1.args)
            case protocol2.CallCommand(frame_id=call_id, payload=call2):
                self._call(
                    session,
                    call_id,
                    call2.command,
                    args=tuple(call2.args),
                    kwargs=call2.kwargs,
                    origin=call2.origin,
                    key=call2.idempotency_key if call2.idempotency_key is not UNSET else None,
                    timeout_ms=call2.timeout_ms if call2.timeout_ms is not UNSET else None,
                )
            case protocol2.CallCancel(payload=cancel, frame_id=frame_id):
                accepted = self._commands.cancel(session.id, cancel.command_id)
                result = protocol2.CancelResult(command_id=cancel.command_id, accepted=accepted)
                session.send(session.writer.frame(protocol2.ReplyCancel, result, frame_id=frame_id))
            case protocol2.NotifyTelemetry():
                self._counters["telemetry"] += 1
            case _:
                raise AssertionError(f"{type_of(envelope)} was let through")

    def refuse(self, session: ServerSession, error: EnvelopeError) -> None:
        """Answer what is no envelope, or read it as an old name."""
        self._counters[f"malformed.{error.code}"] += 1
        logger.debug("session %s sent what is no envelope: %s", session.id, error)
        if session.machine.state is State.HELLO or session.grant is None:
            return  # the reject that follows says it
        if self._legacy is not None and session.protocol == 1 and self._legacy.knows(error.type_):
            self._take_legacy(session, self._legacy, error.raw)
            return
        if error.type_ == "state.update" and session.protocol == 2 and error.id:
            intent = error.intent_id
            if intent:
                refused = StateRejectedError("state.invalid", error.message)
                session.send(
                    session.writer.state_rejected(refused, in_reply_to=error.id, intent_id=intent)
                )
                return
        session.send(session.writer.malformed(error))

    def _take_legacy(
        self, session: ServerSession, legacy: LegacyNames, message: dict[str, Any]
    ) -> None:
        try:
            changes = legacy.read(message)
        except EnvelopeError as error:
            session.send(session.writer.malformed(error))
            return
        for payload in changes:
            self._changes.ask_1(session, payload)

    def _call(
        self,
        session: ServerSession,
        call_id: str,
        name: str,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any],
        origin: str = "",
        key: str | None = None,
        timeout_ms: int | None = None,
    ) -> None:
        def respond(outcome: Outcome) -> None:
            if outcome.error is not None:
                self._counters[f"commands.{outcome.error.code}"] += 1
                session.send(session.writer.command_error(call_id, outcome.error, key=key))
            else:
                session.send(session.writer.command_reply(call_id, outcome.result, key=key))

        def report(fraction: float | None, message: str | None) -> None:
            progress = protocol2.ProgressPayload(
                command_id=call_id,
                fraction=fraction if fraction is not None else UNSET,
                message=message if message is not None else UNSET,
            )
            if self._loop.on_loop:
                session.notify(progress)
            else:
                self._loop.call_soon(session.notify, progress)

        self._counters["commands"] += 1
        try:
            self._commands.authorise(name, session.grant)
        except CommandError as error:
            respond(Outcome(error=error))
            return
        due = float("inf") if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        command = Command(
            name=name,
            args=args,
            kwargs=kwargs,
            session_id=session.id,
            principal=session.principal,
            origin=origin,
            due=due,
            report=report,
        )
        self._commands.begin(command, call_id, respond, key=key)
