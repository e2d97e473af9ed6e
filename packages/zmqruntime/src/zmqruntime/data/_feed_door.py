"""FeedDoor: the loop's half of a feed; which readers take part, and how each came in."""

from __future__ import annotations

import hmac
import logging
import secrets
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import (
    BusyError,
    ConflictError,
    DescriptorError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from zmqruntime.carriers._negotiate import Carrier, CarrierReason, Probe, judge
from zmqruntime.data._credits import Credit
from zmqruntime.data._feed_lane import FeedLane, Subscription
from zmqruntime.data._feed_socket import FeedSocket, SocketEvents
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._process_watch import ProcessWatch
from zmqruntime.data._stream_messages import (
    Acks,
    Announce,
    Began,
    Detach,
    Ended,
    Mode,
    Opened,
    Proof,
    Proved,
    Resend,
    Resent,
    Subscribe,
    Subscribed,
    check_topic,
    feed_topic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from zmqruntime._server import ZMQServer
    from zmqruntime.carriers._negotiate import HostIdentity
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer

__all__ = ["DoorEvents", "FeedDoor"]

logger = logging.getLogger(__name__)

_MOST_READERS = 1024
_MOST_READERS_EACH = 256  # of one connection, which would leave no place for others
_MOST_CREDIT = 512  # messages; below the high-water mark, so that libzmq decides nothing
_MOST_CREDIT_BYTES = 1 << 30  # what one that does not read can make this process keep
_EPOCH_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorEvents:
    """What a feed is told about its readers, on the loop.

    Attributes
    ----------
    agreed
        A reader may take part; it does not listen yet. Says whether it is owed anything.
    began
        It listens: messages may be sent.
    ended
        Its run is over: why, and as a sentence.
    heard
        It has acknowledged something.
    resend
        It wants numbers again; says which of them come.
    inspect
        Somebody wants to know how the lanes stand.
    joined
        A plain subscriber wants the broadcasts of a topic.
    """

    agreed: Callable[[FeedLane], bool]
    began: Callable[[FeedLane], object]
    ended: Callable[[FeedLane, GapReason, str], object]
    heard: Callable[[FeedLane | None, Acks], object]
    resend: Callable[[FeedLane, Resend], tuple[int, ...]]
    inspect: Callable[[], list[dict[str, Any]]]
    joined: Callable[[str], object]


class FeedDoor:
    """Lets readers in on the control channel, and sends them what is theirs on the data socket.

    Parameters
    ----------
    server
        Whose loop, control channel and data port these are.
    events
        Who is told.
    host
        Where this process runs.
    shared_memory
        Whether to offer shared memory.
    directory
        Where segments lie.
    replay_bytes
        Most bytes to keep of what a reliable reader has not acknowledged.

    Notes
    -----
    Every method runs on the loop, except `announce`.
    """

    def __init__(
        self,
        server: ZMQServer,
        events: DoorEvents,
        *,
        host: HostIdentity,
        shared_memory: bool,
        directory: Path,
        replay_bytes: int,
    ) -> None:
        self._server = server
        self._loop = server.loop
        self._control = server.control
        self._events = events
        self._host = host
        self._shared_memory = shared_memory
        self._directory = directory
        self._replay_bytes = replay_bytes
        self._socket = FeedSocket(
            server,
            SocketEvents(
                invited=self._invited,
                came=self._came,
                left=self._left,
                missed=self._missed,
                joined=events.joined,
            ),
        )
        self._lanes: dict[str, FeedLane] = {}  # by epoch
        self._filters: dict[bytes, FeedLane] = {}
        self._opening: dict[tuple[str, str], Future[object]] = {}
        self._processes = ProcessWatch(self._loop, host)

    @property
    def counters(self) -> dict[str, int]:
        """Subscriptions that were ``refused``, and connections that were ``cut`` for misuse."""
        return {"refused": self._socket.refused, "cut": self._socket.cut}

    def open(self) -> None:
        """Open the data socket, which may raise, and answer readers from now on."""
        self._socket.open()
        for type_, handler in (
            ("subscribe", self._on_subscribe),
            ("host_proof", self._on_proof),
            ("arena_opened", self._on_opened),
            ("ack", self._on_ack),
            ("resend", self._on_resend),
            ("unsubscribe", self._on_unsubscribe),
        ):
            self._control.handle(type_, handler, on_loop=True)
        self._control.handle("lanes", self._on_lanes, on_loop=True, capability="service:inspect")
        self._control.on_peer_lost(self._on_peer_lost)

    def close(self) -> None:
        """Send every reader away and close the socket."""
        for lane in tuple(self._lanes.values()):
            self.end(lane, GapReason.PRODUCER_LOST, "the feed was closed", tell=True)
        self._socket.close()

    def send(self, lane: FeedLane, frames: Sequence[bytes | memoryview]) -> None:
        """Send one message of a reader's run; once that is over nothing is sent."""
        # its credit is below the mark, so a socket that takes no more serves something else too
        if lane.live and not self._socket.send(frames):
            self.end(lane, GapReason.HWM, "the data socket took no more messages", tell=True)

    def tell(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send a broadcast; who does not read it misses it and delays nobody."""
        self._socket.tell(frames)

    def announce(self, lane: FeedLane, name: str) -> Future[object]:
        """Tell a reader the name of a segment; any thread.

        Returns
        -------
        Future
            Done when it has opened it; an error if it could not, or is gone.
        """
        future: Future[object] = Future()
        self._loop.call_soon(self._announce, lane, name, future)
        return future

    def _announce(self, lane: FeedLane, name: str, future: Future[object]) -> None:
        if not lane.live:
            future.set_exception(DescriptorError(f"{lane.peer} has left"))
            return
        self._opening[lane.epoch, name] = future
        announce = Announce(epoch=lane.epoch, name=name)
        self._control.push(lane.subscription.peer.id, "arena", msgspec.to_builtins(announce))

    def end(self, lane: FeedLane, reason: GapReason, why: str, *, tell: bool = False) -> None:
        """End a reader's run.

        Parameters
        ----------
        lane
            Whose.
        reason, why
            As a word and as a sentence.
        tell
            Whether the reader does not know.
        """
        if self._lanes.pop(lane.epoch, None) is None:
            return
        self._filters.pop(lane.filter, None)
        self._socket.uninvite(lane.filter)
        self._processes.forget(lane.epoch)
        if lane.probe is not None:
            lane.probe.close()
            lane.probe = None
        if tell:
            ended = Ended(epoch=lane.epoch, reason=reason)
            self._control.push(lane.subscription.peer.id, "ended", msgspec.to_builtins(ended))
        self._events.ended(lane, reason, why)
        for key in [key for key in self._opening if key[0] == lane.epoch]:
            self._opening.pop(key).set_exception(DescriptorError(f"{lane.peer}: {why}"))

    # Requests of readers.

    def _on_subscribe(self, request: Request, peer: Peer) -> dict[str, Any]:
        wanted = request.parse(Subscribe)
        try:
            check_topic(wanted.topic)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        capability = f"topic:subscribe:{wanted.topic}"
        if not peer.may(capability):
            raise ForbiddenError(
                f"{peer} was not given the capability {capability!r}",
                details={"capability": capability},
            )
        if not self._socket.is_open:
            raise UnavailableError("the feed has been closed")
        if peer.hello is None:
            raise InvalidRequestError("say hello first: acknowledgements need to know whose")
        self._make_way(wanted, peer)
        if len(self._lanes) >= _MOST_READERS:
            raise BusyError(f"{_MOST_READERS} readers take part; more are not let in")
        mine = sum(lane.subscription.peer.id == peer.id for lane in self._lanes.values())
        if mine >= _MOST_READERS_EACH:
            raise BusyError(f"{mine} of the readers are of this connection; no more are let in")
        lane = self._lane(wanted, peer)
        resumed = self._events.agreed(lane)
        self._lanes[lane.epoch] = lane
        self._filters[lane.filter] = lane
        self._processes.watch(lane.epoch, wanted.host, self._on_process_ended)
        granted = lane.outbox.window.granted
        subscribed = Subscribed(
            epoch=lane.epoch,
            subscriber=lane.subscriber,
            incarnation=self._server.incarnation,
            producer=f"{self._server.app} (pid {self._host.pid})",
            host=self._host,
            messages=granted.messages,
            nbytes=granted.nbytes,
            shared_memory=lane.probe is not None,
            probe="" if lane.probe is None else lane.probe.name,
            challenge="" if lane.probe is None else lane.probe.challenge,
            resumed=resumed,
        )
        body: dict[str, Any] = msgspec.to_builtins(subscribed)
        return body

    def _make_way(self, wanted: Subscribe, peer: Peer) -> None:
        """End an earlier run of the same reader; one of another reader stays."""
        for lane in tuple(self._lanes.values()):
            subscription = lane.subscription
            theirs = (subscription.name, subscription.topic, subscription.peer.source.key)
            if theirs != (wanted.name, wanted.topic, peer.source.key):
                continue
            # the epoch was told to that reader alone; its name and incarnation others may know
            same = hmac.compare_digest(wanted.before.encode(), lane.epoch.encode())
            if subscription.peer.id != peer.id and not same:
                raise ConflictError(
                    f"a reader of {wanted.topic!r} named {wanted.name!r} takes part already "
                    f"({subscription.peer}); choose another name",
                    retryable=True,
                )
            self.end(lane, GapReason.LINK, "its reader began anew")

    def _lane(self, wanted: Subscribe, peer: Peer) -> FeedLane:
        probe, reason = self._riddle(wanted)
        lane = FeedLane(
            topic=wanted.topic,
            mode=wanted.mode,
            epoch=secrets.token_hex(_EPOCH_BYTES),
            subscriber=secrets.token_hex(_EPOCH_BYTES),
            topic_frame=feed_topic,
            incarnation=wanted.incarnation,
            peer=str(peer),
            host=wanted.host,
            credit=Credit(
                min(wanted.messages, _MOST_CREDIT), min(wanted.nbytes, _MOST_CREDIT_BYTES)
            ),
            reason=reason,
            until=wanted.until,
            replay_bytes=self._replay_bytes if wanted.mode is Mode.RELIABLE else 0,
        )
        lane.subscription = Subscription(
            topic=wanted.topic,
            mode=wanted.mode,
            name=wanted.name,
            reader=wanted.reader,
            peer=peer,
        )
        lane.probe = probe
        return lane

    def _riddle(self, wanted: Subscribe) -> tuple[Probe | None, CarrierReason]:
        if not self._shared_memory or not wanted.shared_memory:
            return None, CarrierReason.DISABLED
        reason = judge(self._host, wanted.host, proved=True)
        if reason is not CarrierReason.PROVED:
            return None, reason
        try:
            return Probe(directory=self._directory), CarrierReason.PROBE_UNREADABLE
        except OSError as error:
            logger.warning("no probe can be made, so no memory is shared: %s", error)
            return None, CarrierReason.NO_ROOM

    def _on_proof(self, request: Request, peer: Peer) -> dict[str, Any]:
        proof = request.parse(Proof)
        lane = self._lane_of(proof.epoch, peer)
        if lane.probe is not None:
            if lane.probe.verify(proof.answer):
                lane.reason = CarrierReason.PROVED
            lane.probe.close()
            lane.probe = None
        lane.proved = True
        self._loop.call_soon(self._look, lane)  # after the answer, which says how it travels
        body: dict[str, Any] = msgspec.to_builtins(Proved(reason=lane.reason))
        return body

    def _on_opened(self, request: Request, peer: Peer) -> None:
        opened = request.parse(Opened)
        self._lane_of(opened.epoch, peer)
        future = self._opening.pop((opened.epoch, opened.name), None)
        if future is None:
            raise NotFoundError("no such segment was announced to you")
        if opened.error:
            future.set_exception(DescriptorError(opened.error))
        else:
            future.set_result(None)

    def _on_ack(self, request: Request, peer: Peer) -> None:
        acks = request.parse(Acks)
        lane = self._lanes.get(acks.epoch)
        if lane is not None:
            lane = self._lane_of(acks.epoch, peer)
            if not self._believes(lane, acks):
                self._socket.expel(lane.filter)
                why = "it acknowledged more than has reached it"
                self.end(lane, GapReason.HWM, why, tell=True)
                return
        self._events.heard(lane, acks)

    def _believes(self, lane: FeedLane, acks: Acks) -> bool:
        """Say whether a reader can have received what it acknowledges.

        Otherwise one that reads nothing, and says that it did, would get what it does not take
        into this process's memory, as many messages as the socket lets wait.
        """
        if lane.reason.carrier is not Carrier.INLINE:
            return True  # of the same user on the same computer, and its payloads wait elsewhere
        used = lane.outbox.window.used
        whole = acks.messages >= used.messages
        freed = used.nbytes if whole else min(acks.nbytes, used.nbytes)
        return self._socket.believes(lane.filter, freed)

    def _on_resend(self, request: Request, peer: Peer) -> dict[str, Any]:
        wanted = request.parse(Resend)
        sequences = self._events.resend(self._lane_of(wanted.epoch, peer), wanted)
        body: dict[str, Any] = msgspec.to_builtins(Resent(sequences=sequences))
        return body

    def _on_unsubscribe(self, request: Request, peer: Peer) -> None:
        lane = self._lane_of(request.parse(Detach).epoch, peer)
        self.end(lane, GapReason.RECEIVER_LEFT, "it has unsubscribed")

    def _on_lanes(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002 - a handler
        return {"lanes": self._events.inspect()}

    def _lane_of(self, epoch: str, peer: Peer) -> FeedLane:
        lane = self._lanes.get(epoch)
        if lane is None or lane.subscription.peer.id != peer.id:
            raise NotFoundError("no such stream of yours; subscribe first")
        return lane

    # What the socket and the kernel say.

    def _invited(self, word: bytes) -> str | None:
        lane = self._filters.get(word)
        return None if lane is None else lane.subscription.peer.source.key

    def _came(self, word: bytes) -> None:
        lane = self._filters.get(word)
        if lane is not None:
            lane.admitted = True
            self._look(lane)

    def _left(self, word: bytes) -> None:
        lane = self._filters.get(word)
        if lane is not None and lane.admitted:
            self.end(lane, GapReason.LINK, "the reader left the data channel", tell=True)

    def _missed(self, word: bytes) -> None:
        lane = self._filters.get(word)
        if lane is not None:
            self.end(lane, GapReason.LINK, "its subscription was mixed up with others", tell=True)

    def _look(self, lane: FeedLane) -> None:
        if lane.live and lane.admitted and lane.proved and not lane.subscribed:
            self._events.began(lane)
            began = Began(epoch=lane.epoch)
            self._control.push(lane.subscription.peer.id, "began", msgspec.to_builtins(began))

    def _on_process_ended(self, epoch: str) -> None:
        lane = self._lanes.get(epoch)
        if lane is not None:
            self.end(lane, GapReason.RECEIVER_LOST, "its process has ended")

    def _on_peer_lost(self, peer: Peer) -> None:
        for lane in tuple(self._lanes.values()):
            if lane.subscription.peer.id == peer.id:
                self.end(lane, GapReason.RECEIVER_LOST, "its connection was lost")
