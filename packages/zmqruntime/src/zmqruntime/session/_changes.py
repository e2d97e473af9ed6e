"""Changes: what clients ask for is checked, made, written down, acknowledged, and told."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from zmqruntime._typed import from_json
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._application import Applied, check_applied, numbered, plain_notices
from zmqruntime.session._errors import StateRejectedError
from zmqruntime.session._journal import ANSWERS_KEPT_S, Stored
from zmqruntime.session._state import Change

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from zmqruntime.session._application import Reducer
    from zmqruntime.session._broadcast import Broadcast
    from zmqruntime.session._journal import Journal
    from zmqruntime.session._session import ServerSession
    from zmqruntime.session._shapes import ClientMark, Envelope
    from zmqruntime.session._state import Ledger

__all__ = ["Changes"]

logger = logging.getLogger(__name__)

_MOST_MARKS = 10_000


class Changes:
    """Makes the changes that clients ask for; used on the loop.

    Parameters
    ----------
    ledger
        Says which may be made, and numbers them.
    journal
        Where they are written down before anybody is told.
    broadcast
        Tells the others.
    counters
        Where refusals and repeats are counted.
    wall
        Seconds since the epoch.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        broadcast: Broadcast,
        *,
        counters: Counter[str],
        wall: Callable[[], float],
    ) -> None:
        self.counters = counters
        self._ledger = ledger
        self._journal = journal
        self._broadcast = broadcast
        self._wall = wall
        self._reducers: dict[str, Reducer] = {}

    def add(self, scope: str, reducer: Reducer) -> None:
        """Let clients change the properties of a scope."""
        self._reducers[scope] = reducer

    def ask_1(self, session: ServerSession, payload: protocol1.StatePayload) -> None:
        """Make a change that a client of protocol 1 asks for, or refuse it."""
        mark = payload.client if payload.client is not UNSET else None
        if mark is not None:
            place = (mark.id, payload.scope, payload.target, payload.key)
            if session.marks.get(place, -1) >= mark.seq:
                self.counters["stale"] += 1  # a repeat, or overtaken by a newer one
                return
            if len(session.marks) >= _MOST_MARKS:
                session.marks.clear()
            session.marks[place] = mark.seq
        change = _change_of(payload, session.id)
        try:
            applied = self._apply(session, change)
        except StateRejectedError as error:
            self.counters[f"refused.{error.code}"] += 1
            offending = {
                "scope": change.scope,
                "target": change.target,
                "key": change.key,
                "value": change.value,
            }
            session.send(session.writer.state_rejected(error, offending=offending))
            return
        self.record(change, applied, sender=session, mark=mark)

    def ask_2(self, session: ServerSession, envelope: protocol2.StateUpdate) -> None:
        """Make a change that a client of protocol 2 asks for, once, or refuse it."""
        intent = envelope.intent_id
        known = self._journal.answer("state", session.principal, intent)
        if known is not None:
            self.counters["repeated"] += 1
            payload = from_json(known, protocol2.AckPayload)
            payload = msgspec.structs.replace(payload, in_reply_to=envelope.frame_id)
            session.send(session.writer.frame(protocol2.AckState, payload))
            return
        change = _change_of(envelope.payload, session.id)
        try:
            applied = self._apply(session, change)
        except StateRejectedError as error:
            self.counters[f"refused.{error.code}"] += 1
            ack = session.writer.state_rejected(
                error, in_reply_to=envelope.frame_id, intent_id=intent
            )
            with self._journal.writing():
                self._journal.write_answer(self._stored(session, intent, ack))
            session.send(ack)
            return
        self.record(change, applied, sender=session, intent=(intent, envelope.frame_id))

    def record(
        self,
        change: Change,
        applied: Applied,
        *,
        sender: ServerSession | None = None,
        mark: ClientMark | None = None,
        intent: tuple[str, str] | None = None,
    ) -> int:
        """Give a change that was made its number; write it down, acknowledge it, tell others."""
        entry = self._ledger.commit(change, applied.value)
        notices = applied.notices
        if notices is None:
            notices = plain_notices(change, applied.value)
        notices = [numbered(notice, entry.version) for notice in notices]
        intent_id = intent[0] if intent is not None else None
        ack = None
        with self._journal.writing():
            self._journal.write_property(change.property, entry)
            deltas = [self._broadcast.append(notice, intent_id) for notice in notices]
            if sender is not None and intent is not None:
                ack = sender.writer.state_accepted(intent[1], intent[0], entry)
                self._journal.write_answer(self._stored(sender, intent[0], ack))
        if ack is not None and sender is not None:
            sender.send(ack)
        self._broadcast.state_changed(change, entry, applied, sender=sender, mark=mark)
        for notice, delta in zip(notices, deltas, strict=True):
            self._broadcast.tell(notice, delta, intent_id)
        return entry.version

    def _apply(self, session: ServerSession, change: Change) -> Applied:
        """Let the application make a change, or say why not."""
        name = "/".join(map(_escaped, change.property))
        assert session.grant is not None
        if not session.grant.may(f"state:{name}:write"):
            raise StateRejectedError("state.forbidden", f"{name} is not for this client to change")
        reducer = self._reducers.get(change.scope)
        if reducer is None:
            scopes = ", ".join(sorted(self._reducers)) or "none"
            raise StateRejectedError(
                "state.unsupported", f"no scope {change.scope[:80]!r} here; there are: {scopes}"
            )
        self._ledger.check(change)
        try:
            applied = reducer(replace(change, version=self._ledger.version + 1))
            check_applied(applied)
        except StateRejectedError:
            raise
        except Exception as error:
            logger.exception("reducer of scope %r failed", change.scope)
            raise StateRejectedError("state.error", f"{type(error).__name__}: {error}") from error
        return applied

    def _stored(self, session: ServerSession, intent_id: str, ack: Envelope) -> Stored:
        return Stored(
            kind="state",
            client=session.principal,
            key=intent_id,
            answer=msgspec.json.encode(getattr(ack, "payload", None)),
            expires=self._wall() + ANSWERS_KEPT_S,
        )


def _change_of(payload: protocol1.StatePayload | protocol2.Update, client: str) -> Change:
    expected = getattr(payload, "expected_version", UNSET)
    return Change(
        scope=payload.scope,
        target=payload.target,
        key=payload.key,
        value=payload.value,
        client=client,
        expected_version=expected if expected is not UNSET else None,
        interaction_id=payload.interaction_id if payload.interaction_id is not UNSET else None,
        phase=payload.phase if payload.phase is not UNSET else None,
    )


def _escaped(part: str) -> str:
    """Keep a name from reaching into the next part of a capability."""
    return part.replace("%", "%25").replace("/", "%2F")
