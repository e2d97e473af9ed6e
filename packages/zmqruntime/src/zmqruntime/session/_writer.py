"""Writer: what a server says to one client, in the protocol that the two speak."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._errors import CommandError, EnvelopeError, StateRejectedError, code_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.session._parser import Hello
    from zmqruntime.session._shapes import ClientMark, Envelope
    from zmqruntime.session._state import Change, Entry

__all__ = ["Writer", "reject"]


def new_id() -> str:
    """Make a name that nobody else has."""
    return secrets.token_hex(8)


def reject(
    hello: Hello | None,
    code: str,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    wall: Callable[[], float] = time.time,
) -> Envelope:
    """Make the answer to a hello that is not accepted, or that never came.

    Parameters
    ----------
    hello
        What was said, or None if it could not be read.
    code, message, details
        Why.
    wall
        Seconds since the epoch.

    Returns
    -------
    Envelope
        In the form of the hello; that of protocol 1 when there is none.
    """
    extra = dict(details) if details else UNSET
    if hello is not None and hello.form == 2:
        return protocol2.Reject(
            version=2,
            frame_id=hello.frame_id or new_id(),
            timestamp=wall(),
            payload=protocol2.Refusal(code=code, message=message, details=extra),
        )
    return protocol1.Reject(
        id=(hello.id if hello is not None else None) or UNSET,
        frame_id=(hello.frame_id if hello is not None else None) or UNSET,
        timestamp=wall(),
        payload=protocol1.Refusal(code=code, message=message, details=extra),
    )


@dataclass(frozen=True, slots=True)
class Writer:
    """Makes the envelopes that a server sends to one client.

    Parameters
    ----------
    protocol
        1 or 2.
    session_id
        Name of the session.
    wall
        Seconds since the epoch.
    """

    protocol: int
    session_id: str
    wall: Callable[[], float] = time.time

    def frame(self, shape: type[Any], payload: Any, *, frame_id: str | None = None) -> Envelope:
        """Make an envelope of protocol 2 with a name of its own, or an answer's."""
        envelope: Envelope = shape(
            version=2,
            session=self.session_id,
            frame_id=frame_id or new_id(),
            timestamp=self.wall(),
            payload=payload,
        )
        return envelope

    def heartbeat(self) -> Envelope:
        """Ask for a sign of life."""
        return self.frame(protocol2.Heartbeat, protocol2.Empty())

    def heard(self, frame_id: str) -> Envelope:
        """Answer a heartbeat."""
        return self.frame(protocol2.Ack, protocol2.Empty(), frame_id=frame_id)

    def goodbye(self, code: str, message: str) -> Envelope:
        """Say that the session ends."""
        if self.protocol == 1:
            return self.session_error(code, message)
        payload = protocol2.Farewell(code=code, message=message, reason=code)
        return self.frame(protocol2.Goodbye, payload)

    def session_error(self, code: str, message: str, *, severity: str = "warning") -> Envelope:
        """Say what is wrong with a frame or with the session."""
        if self.protocol == 1:
            return protocol1.ErrorSession(
                timestamp=self.wall(),
                payload=protocol1.Failure(code=code_for(1, code), message=message),
            )
        return protocol2.NotifyError(
            version=2,
            session=self.session_id,
            timestamp=self.wall(),
            payload=protocol2.Trouble(
                domain="session", code=code, message=message, severity=severity
            ),
        )

    def malformed(self, error: EnvelopeError) -> Envelope:
        """Answer a frame that is no envelope, in kind as far as it could be read."""
        payload = error.payload
        if self.protocol == 1:
            if error.type_ == "notify.state":
                return self._error_state(error.code, error.message, payload)
            if error.type_.startswith("call.") and error.id:
                unknown = error.code == "unknown_type"
                code = "command.not_found" if unknown else "command.invalid"
                return self.command_error(error.id, CommandError(code, error.message))
            return self.session_error(error.code, error.message)
        if error.type_.startswith("call.") and error.id:
            unknown = error.code == "unknown_type"
            code = "command.not_found" if unknown else "command.invalid"
            return self.command_error(error.id, CommandError(code, error.message))
        return self.session_error(error.code, error.message)

    def state_accepted(self, in_reply_to: str, intent_id: str, entry: Entry) -> Envelope:
        """Acknowledge a change, in protocol 2."""
        payload = protocol2.AckPayload(
            intent_id=intent_id,
            in_reply_to=in_reply_to,
            status="accepted",
            applied_value=entry.value,
            version=entry.version,
        )
        return self.frame(protocol2.AckState, payload)

    def state_rejected(
        self,
        error: StateRejectedError,
        *,
        in_reply_to: str = "",
        intent_id: str = "",
        offending: Mapping[str, Any] | None = None,
    ) -> Envelope:
        """Refuse a change."""
        if self.protocol == 1:
            details = {**error.details}
            if error.conflict_with is not None:
                details["conflict_with"] = dict(error.conflict_with)
            return self._error_state(error.code, error.message, offending or {}, details)
        conflict = error.conflict_with
        payload = protocol2.AckPayload(
            intent_id=intent_id,
            in_reply_to=in_reply_to,
            status="rejected",
            error=protocol2.Failure(
                code=error.code, message=error.message, details=dict(error.details) or UNSET
            ),
            conflict_with=protocol2.Conflict(**conflict) if conflict is not None else UNSET,
        )
        return self.frame(protocol2.AckState, payload)

    def state(
        self,
        change: Change,
        entry: Entry,
        *,
        fields: Mapping[str, Any] | None = None,
        mark: ClientMark | None = None,
        own: bool = False,
    ) -> Envelope:
        """Say that a property changed, in protocol 1.

        Parameters
        ----------
        change, entry
            What was asked for and what is so.
        fields
            More fields of the payload, from the application.
        mark
            Which change of which client this is.
        own
            Whether the receiver is that client.
        """
        return protocol1.NotifyState(
            timestamp=self.wall(),
            payload=protocol1.StatePayload(
                scope=change.scope,
                target=change.target,
                key=change.key,
                value=entry.value,
                server_seq=entry.version,
                interaction_id=change.interaction_id or UNSET,
                phase=change.phase or UNSET,
                client=mark if mark is not None else UNSET,
                ack=True if own else UNSET,
                **(fields or {}),
            ),
        )

    def command_reply(self, call_id: str, result: Any, *, key: str | None = None) -> Envelope:
        """Answer a command that was done."""
        if self.protocol == 1:
            return protocol1.ReplyCommand(
                id=call_id,
                timestamp=self.wall(),
                payload=protocol1.CommandResult(status="ok", result=result),
            )
        payload = protocol2.CommandResult(
            in_reply_to=call_id, status="ok", result=result, idempotency_key=key or UNSET
        )
        return self.frame(protocol2.ReplyCommand, payload)

    def command_error(
        self, call_id: str, error: CommandError, *, key: str | None = None
    ) -> Envelope:
        """Answer a command that was not done."""
        if self.protocol == 1:
            return protocol1.ErrorCommand(
                id=call_id,
                timestamp=self.wall(),
                payload=protocol1.CommandFailure(
                    status="failed",
                    code=code_for(1, error.code),
                    message=error.message,
                    details=dict(error.details),
                ),
            )
        payload = protocol2.CommandFailure(
            in_reply_to=call_id,
            status="error",
            code=error.code,
            message=error.message,
            details=dict(error.details),
            idempotency_key=key or UNSET,
        )
        return self.frame(protocol2.ErrorCommand, payload)

    def _error_state(
        self,
        code: str,
        message: str,
        offending: Mapping[str, Any],
        details: Mapping[str, Any] | None = None,
    ) -> Envelope:
        known = {name: offending[name] for name in _OFFENDING if name in offending}
        return protocol1.ErrorState(
            timestamp=self.wall(),
            payload=protocol1.StateFailure(
                code=code_for(1, code),
                message=message,
                offending=protocol1.Offending(**known),
                details=dict(details) if details else UNSET,
            ),
        )


_OFFENDING = ("scope", "target", "key", "value")
