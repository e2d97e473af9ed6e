"""ServerSession: what a server knows of one client, and how it speaks to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime._typed import from_json
from zmqruntime.loop._polling import Backoff
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._application import envelope_of, numbered
from zmqruntime.session._envelopes import MOST_BYTES, encode, type_of
from zmqruntime.session._instructions import TOO_BIG, Close
from zmqruntime.session._machine import State
from zmqruntime.session._outbox import Outbox
from zmqruntime.session._resume import Place
from zmqruntime.session._writer import Writer, new_id, reject

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.session._application import Baseline, Grant
    from zmqruntime.session._instructions import Instruction
    from zmqruntime.session._links import Link
    from zmqruntime.session._machine import ServerMachine
    from zmqruntime.session._parser import Hello
    from zmqruntime.session._resume import Delta, History, Tokens
    from zmqruntime.session._shapes import Body, Client, Envelope

__all__ = ["ServerSession", "SessionRecord"]

logger = logging.getLogger(__name__)

_COALESCED = {
    protocol2.NotifyDims: "notify.dims",
    protocol2.NotifyCamera: "notify.camera",
    protocol2.NotifyWork: "notify.work",
    protocol2.NotifyTelemetry: "notify.telemetry",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What is known of a session, for people and programs that watch.

    Attributes
    ----------
    id
        Its name.
    protocol
        1 or 2.
    client
        Program at the other end.
    principal
        Who that is, as far as there is proof.
    carrier, address
        How it is connected, and from where.
    waiting
        Envelopes that wait for it to read.
    counters
        Received, sent, dropped, superseded, malformed.
    """

    id: str
    protocol: int
    client: str
    principal: str
    carrier: str
    address: str
    waiting: int
    counters: dict[str, int]


class ServerSession:
    """One client of a `SessionServer`; used on its loop. Carriers make one by `accept`."""

    def __init__(
        self,
        link: Link,
        machine: ServerMachine,
        *,
        loop: IOThread,
        obey: Callable[[ServerSession, Instruction], object],
        behind: Callable[[ServerSession], object],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.id = machine.session_id
        self.link = link
        self.machine = machine
        self.client: Client | None = None
        self.grant: Grant | None = None
        self.topics: frozenset[str] = frozenset()
        self.places: dict[str, Place] = {}
        self.marks: dict[tuple[str, ...], int] = {}
        self.writer = Writer(1, self.id, wall)
        self.outbox = Outbox(link.send)
        self.ended = False
        self._loop = loop
        self._obey = obey
        self._behind = behind
        self._clock = clock
        self._wall = wall
        self._timer: TimerHandle | None = None
        self._flushing: TimerHandle | None = None
        self._backoff = Backoff(first=0.005, longest=0.25)
        self.arm()

    @property
    def protocol(self) -> int:
        """What is spoken, 0 before the welcome."""
        return self.machine.protocol

    @property
    def principal(self) -> str:
        """Who the client is, empty before the welcome."""
        return self.grant.principal if self.grant is not None else ""

    @property
    def record(self) -> SessionRecord:
        """What is known of the session."""
        counters: Counter[str] = self.machine.counters + self.outbox.counters
        return SessionRecord(
            id=self.id,
            protocol=self.protocol,
            client=self.client.name if self.client is not None else "",
            principal=self.principal,
            carrier=self.link.peer.carrier,
            address=self.link.peer.address,
            waiting=len(self.outbox),
            counters=dict(counters),
        )

    def open(self, protocol: int) -> None:
        """Speak a protocol from now on."""
        self.machine.welcome(protocol)
        self.writer = Writer(protocol, self.id, self._wall)
        self.arm()

    def received(self, data: bytes | str) -> None:
        """Take in a frame of the client."""
        if not self.ended:
            self._run(self.machine.received(data))

    def writable(self) -> None:
        """Take in that the carrier takes more."""
        if self.ended:
            return
        if self.outbox.flush():
            self._backoff.reset()
            if self.outbox.lagging:
                self._behind(self)
        else:
            self._flush_later()

    def retry(self) -> None:
        """See to it that `writable` is called again, where the carrier does not."""
        self._flush_later()

    def tick(self) -> None:
        """Take in that time has passed."""
        self._timer = None
        if not self.ended:
            self._run(self.machine.tick())
            self.arm()

    def arm(self) -> None:
        """See to it that `tick` is called in time."""
        due = self.machine.due
        if due is None or self.ended:
            return
        if self._timer is not None and not self._timer.cancelled:
            self._timer.cancel()
        self._timer = self._loop.call_later(due - self._clock(), self.tick)

    def end(self, code: int, reason: str) -> None:
        """Close the connection and every timer; twice is harmless."""
        if self.ended:
            return
        self.ended = True
        self.machine.close()
        for timer in (self._timer, self._flushing):
            if timer is not None:
                timer.cancel()
        self.link.close(code, reason)

    def part(
        self,
        close: Close,
        *,
        hello: Hello | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say why the session ends, where the client is owed that, and close the connection.

        Parameters
        ----------
        close
            Why.
        hello, details
            What a reject answers, and what it says besides.
        """
        if close.hello:
            self.send(reject(hello, close.word, close.message, details=details, wall=self._wall))
        elif not close.silent:
            self.send(self.writer.goodbye(close.word, close.message))
        self.end(close.code, close.word)

    def send(
        self,
        envelope: Envelope,
        *,
        key: tuple[str, ...] | None = None,
        lossy: bool = False,
        mark: tuple[str, int] | None = None,
    ) -> None:
        """Send an envelope, now or when the client reads again.

        Parameters
        ----------
        envelope
            What to send.
        key
            Name under which only the newest counts.
        lossy
            Whether a baseline makes up for it.
        mark
            Topic and number of a delta.
        """
        if self.ended:
            return
        data = encode(envelope)
        if len(data) > MOST_BYTES:
            text = (
                f"{type_of(envelope)} takes {len(data)} bytes and an envelope has at most "
                f"{MOST_BYTES}: refer to what is large instead"
            )
            logger.error("session %s cannot go on: %s", self.id, text)
            self._loop.call_soon(self._obey, self, Close(TOO_BIG, "too_large", text))
            return
        self.outbox.put(data, key=key, lossy=lossy, mark=mark)
        if len(self.outbox):
            self._flush_later()

    def notify(self, payload: Body, *, intent_id: str | None = None) -> None:
        """Send a notification of protocol 2 that carries no number, if its topic is wanted."""
        shape: Any = envelope_of(payload)
        topic = type_of(shape)
        if topic not in self.topics:
            return
        names: dict[str, Any] = {}
        if shape in (protocol2.NotifyDims, protocol2.NotifyCamera):
            names = {"intent_id": intent_id} if intent_id else {"frame_id": new_id()}
        envelope = shape(
            version=2, session=self.id, timestamp=self._wall(), payload=payload, **names
        )
        # Cameras move by steps as well as to places, and steps cannot replace one another.
        moved = isinstance(payload, protocol2.CameraPayload) and payload.delta is not UNSET
        key = (_COALESCED[shape],) if shape in _COALESCED and not moved else None
        self.send(envelope, key=key, lossy=shape in (protocol2.NotifyDims, protocol2.NotifyCamera))

    def deliver(self, topic: str, payload: Body, delta: Delta, tokens: Tokens) -> None:
        """Send a numbered delta, if its topic is wanted."""
        place = self.places.get(topic)
        if topic not in self.topics or place is None:
            return
        if delta.seq <= place.at:
            return
        place = Place(epoch=place.epoch, base=place.base, at=delta.seq)
        self.places[topic] = place
        shape: Any = envelope_of(payload)
        names = {"intent_id": delta.intent_id} if delta.intent_id and _follows(shape) else {}
        envelope = shape(
            version=2,
            session=self.id,
            timestamp=self._wall(),
            seq=place.seq,
            delta_token=tokens.issue(topic, place, self.principal),
            payload=payload,
            **names,
        )
        self.send(envelope, lossy=True, mark=(topic, place.seq))

    def send_baseline(
        self,
        baseline: Baseline,
        version: int,
        histories: dict[str, History],
        tokens: Tokens,
        stream: protocol1.StreamPayload | None,
    ) -> None:
        """Send everything: scene, view, stream."""
        if self.protocol == 1:
            scene1 = protocol1.NotifyScene(timestamp=self._wall(), payload=baseline.scene1())
            self.send(scene1, lossy=False)
            if stream is not None:
                self.send(protocol1.NotifyStream(timestamp=self._wall(), payload=stream))
            return
        place = self.places["notify.scene"]
        scene2 = protocol2.NotifyScene(
            version=2,
            session=self.id,
            timestamp=self._wall(),
            seq=0,
            delta_token=tokens.issue("notify.scene", place, self.principal),
            payload=baseline.scene2(version),
        )
        self.send(scene2)
        self.send_view(baseline, version)
        newest = histories["notify.stream"].newest()
        if newest is not None:
            payload = from_json(newest.payload, protocol2.StreamPayload)
            self.deliver("notify.stream", payload, newest, tokens)

    def send_view(self, baseline: Baseline, version: int) -> None:
        """Say where the view stands in the state of a version, in protocol 2."""
        for part in (baseline.view, baseline.pose):
            if part is not None:
                self.notify(numbered(part, version))

    def rebase(self, histories: dict[str, History]) -> None:
        """Take the client to have what a baseline made now says."""
        for topic, history in histories.items():
            here = history.here()
            if topic == "notify.stream" and history.newest() is not None:
                # the newest is sent after the scene, as the first of its numbering
                here = Place(epoch=here.epoch, base=here.at - 1, at=here.at - 1)
            self.places[topic] = here

    def _run(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            self._obey(self, instruction)

    def _flush_later(self) -> None:
        """Try again soon, where the carrier cannot say when it takes more."""
        if self.outbox.overrun and self.machine.state is State.OPEN:
            logger.warning("session %s does not read what it asked for", self.id)
            self._loop.call_soon(self._behind, self)
            return
        if not self.link.polled:
            return
        if self._flushing is None or self._flushing.cancelled:
            self._flushing = self._loop.call_later(self._backoff.next(), self.writable)


def _follows(shape: type[Envelope]) -> bool:
    return "intent_id" in shape.__struct_fields__
