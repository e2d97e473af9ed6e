"""Broadcast: the numbered and plain notifications of a server, and who gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._typed import from_json
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._application import envelope_of
from zmqruntime.session._envelopes import type_of, types
from zmqruntime.session._machine import State
from zmqruntime.session._resume import Delta, History, Retention, Tokens
from zmqruntime.session._shapes import Body, Reference
from zmqruntime.session._state import Change

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.session._application import Applied, Baseline
    from zmqruntime.session._journal import Journal
    from zmqruntime.session._session import ServerSession
    from zmqruntime.session._shapes import ClientMark
    from zmqruntime.session._state import Entry, Ledger

__all__ = ["Broadcast"]

_STREAMS_KEPT = 32


class Broadcast:
    """Tells every session what it wants to know; used on the loop.

    Parameters
    ----------
    sessions
        All sessions by name, kept by their server.
    ledger
        Says which version a baseline shows.
    journal
        Where deltas are written down.
    baseline
        Everything as it is now.
    retention
        How many deltas are kept, and how long.
    wall
        Seconds since the epoch.
    """

    def __init__(
        self,
        sessions: dict[str, ServerSession],
        ledger: Ledger,
        journal: Journal,
        *,
        baseline: Callable[[], Baseline],
        retention: Retention,
        wall: Callable[[], float],
    ) -> None:
        self.tokens = Tokens(journal.key)
        self.baseline = baseline
        self._sessions = sessions
        self._ledger = ledger
        self._journal = journal
        self._wall = wall
        self._stream: protocol1.StreamPayload | None = None
        self.histories = {topic: self._restored(topic, retention) for topic in protocol2.SEQUENCED}

    def _restored(self, topic: str, retention: Retention) -> History:
        """Take in what the journal remembers of a topic."""
        if topic == "notify.stream":  # whoever comes needs the last one, however old
            retention = Retention(entries=_STREAMS_KEPT, seconds=float("inf"))
        history = History(retention, epoch=self._journal.epoch, clock=self._wall)
        for delta in self._journal.deltas(topic):
            history.restore(delta)
        return history

    @property
    def epoch(self) -> int:
        """Numbering of the deltas."""
        return self.histories["notify.layers"].epoch

    @property
    def version(self) -> int:
        """Version of the state that a baseline made now shows."""
        return self._ledger.version

    def open_sessions(
        self, protocol: int | None = None, *, first: ServerSession | None = None
    ) -> list[ServerSession]:
        """Return the open sessions, the one that asked before the others."""
        found = [
            each
            for each in tuple(self._sessions.values())  # any thread may look
            if each.machine.state is State.OPEN and protocol in (None, each.protocol)
        ]
        if first is not None:
            found.sort(key=lambda each: each is not first)
        return found

    def append(self, notice: Body, intent_id: str | None) -> Delta | None:
        """Give a notification its number and write it down, if its topic is numbered."""
        topic = type_of(envelope_of(notice))
        history = self.histories.get(topic)
        if history is None:
            return None
        delta = history.append(msgspec.json.encode(notice), intent_id=intent_id)
        self._journal.write_delta(topic, delta, oldest=history.oldest)
        return delta

    def state_changed(
        self,
        change: Change,
        entry: Entry,
        applied: Applied,
        *,
        sender: ServerSession | None,
        mark: ClientMark | None,
    ) -> None:
        """Tell the clients of protocol 1 that a property changed, the one that asked first."""
        for session in self.open_sessions(1, first=sender):
            own = session is sender
            envelope = session.writer.state(
                change, entry, fields=applied.fields, mark=mark, own=own
            )
            session.send(envelope, key=None if own else change.property, lossy=not own)

    def tell(self, notice: Body, delta: Delta | None, intent_id: str | None) -> None:
        """Tell the clients of protocol 2."""
        topic = type_of(envelope_of(notice))
        for session in self.open_sessions(2):
            if delta is not None:
                session.deliver(topic, notice, delta, self.tokens)
            else:
                session.notify(notice, intent_id=intent_id)

    def notify(self, payload: Body) -> None:
        """Give a notification its number, and tell everybody who wants it."""
        with self._journal.writing():
            delta = self.append(payload, None)
        self.tell(payload, delta, None)
        if isinstance(payload, Reference):
            for session in self.open_sessions(1):
                session.send(protocol1.NotifyReference(timestamp=self._wall(), payload=payload))

    def configure_stream(
        self, first: protocol1.StreamPayload | None, second: protocol2.StreamPayload | None
    ) -> None:
        """Say how the pixel channel is coded."""
        if second is not None:
            self.notify(second)
        if first is not None:
            self._stream = first
            for session in self.open_sessions(1):
                envelope = protocol1.NotifyStream(timestamp=self._wall(), payload=first)
                session.send(envelope, key=("notify.stream",))

    def reset(self) -> None:
        """Begin a new epoch: numbers start again, and everybody gets a baseline."""
        stream = self.histories["notify.stream"].newest()
        epoch = self.epoch + 1
        for history in self.histories.values():
            history.start_epoch(epoch)
        with self._journal.writing():
            self._journal.start_epoch(epoch)
            if stream is not None:
                last = from_json(stream.payload, protocol2.StreamPayload)
                self.append(last, None)
        for session in self.open_sessions():
            self.send_baseline(session)

    def send_baseline(self, session: ServerSession) -> None:
        """Give a client that is behind everything as it is now."""
        session.rebase(self.histories)
        session.send_baseline(
            self.baseline(), self._ledger.version, self.histories, self.tokens, self._stream
        )

    def begin(self, session: ServerSession, baseline: Baseline) -> None:
        """Give a client its first baseline; where it stands has been decided."""
        session.send_baseline(
            baseline, self._ledger.version, self.histories, self.tokens, self._stream
        )

    def deliver(self, session: ServerSession, topic: str, delta: Delta) -> None:
        """Send a client a delta that it missed."""
        shape: Any = types(2)[topic]
        payload_type = msgspec.structs.fields(shape)[-1].type
        payload = from_json(delta.payload, payload_type)
        session.deliver(topic, payload, delta, self.tokens)

    def catch_up(self, session: ServerSession) -> bool:
        """Give a client that did not read for long a baseline; False if it still does not read."""
        places, missing = dict(session.places), dict(session.outbox.missing)
        with session.outbox.attempt():
            if session.protocol == 2:
                self._report_gaps(session, missing)
            self.send_baseline(session)
        if session.outbox.lagging:
            session.places = places
            session.retry()
            return False
        return True

    def say_again(self, session: ServerSession) -> None:
        """Tell a client of protocol 1, which knows no heartbeat, something that it knows."""
        newest = self._ledger.newest
        if newest is None:
            self.send_baseline(session)
            return
        (scope, target, key), entry = newest
        change = Change(scope=scope, target=target, key=key, value=entry.value, client=entry.client)
        session.send(session.writer.state(change, entry), key=change.property, lossy=True)

    @staticmethod
    def _report_gaps(session: ServerSession, missing: dict[str, tuple[int, int]]) -> None:
        """Tell a client of protocol 2 which deltas it will not get."""
        for topic, (first, last) in missing.items():
            session.notify(
                protocol2.GapPayload(
                    topic=topic, first=first, last=last, reason="no_credit", recover="snapshot"
                )
            )
