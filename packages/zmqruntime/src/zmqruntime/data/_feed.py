"""Feed: topics of one server, read by any number of readers that connect to it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._link import LinkStats
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.data._feed_broadcast import Broadcast
from zmqruntime.data._feed_door import DoorEvents, FeedDoor
from zmqruntime.data._feed_lane import FeedLane, Offer, Subscription
from zmqruntime.data._feed_pump import FeedPump
from zmqruntime.data._feed_roll import FeedRoll
from zmqruntime.data._outgoing import Outgoing, check_key, check_state_version
from zmqruntime.data._sending_end import SendingEnd
from zmqruntime.data._stream_messages import Mode
from zmqruntime.loop._polling import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from typing_extensions import Buffer

    from zmqruntime._server import ZMQServer
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._lane_state import LaneState
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._outgoing import Encode

__all__ = ["Feed"]

_SLOTS = 32


class Feed(SendingEnd):
    """Sends payloads on topics to every reader that subscribed, each at its own pace.

    A reader connects to the server, subscribes (`FeedReader`), and has room, numbers, gaps and a
    mode of its own. A payload for several readers on this host is written once, into one slot of
    shared memory that is free again when all have released it.

    Parameters
    ----------
    server
        A started server of this process; the feed is closed before it. Its data port is the
        feed's: a server has a `Feed` or a `Subscriber`.
    use_shared_memory, arena_bytes, lease_ttl, directory, checksums, limits
        As for `Publisher`.
    replay_bytes
        Most bytes to keep, for each reliable reader, of what it has not acknowledged. A reader
        that comes again under its name within five minutes gets that first, in order. It costs one
        more copy of each payload, unless its buffers are `bytes`. 0 keeps nothing.
    queue_bytes
        Most bytes that wait for room at each reliable reader.

    Raises
    ------
    EndpointInUse
        If the data port is taken, for example by a `Subscriber` of the same server.
    ServiceError
        If the server was not started.

    Notes
    -----
    Every method may be called from any thread. Callbacks run on the server's I/O thread and must
    not block.

    What happens when a reader has no room is its own choice of mode. ``latest``: the newest
    payload waits and takes the place of an older one. ``reliable``: payloads wait in its queue; if
    that is full, `publish` waits as long as its timeout says, after all others were served, and
    then the payload is a gap ``no_credit`` of that reader. A reader that let a timeout pass is not
    waited for again until it has made room, so that one that is stopped costs one timeout, once.

    Examples
    --------
    >>> from zmqruntime import FeedReader, ZMQClient
    >>> from zmqruntime.testing import serve_in_thread
    >>> with serve_in_thread() as server, Feed(server) as feed:
    ...     with ZMQClient(server.endpoint) as client, FeedReader(client) as reader:
    ...         _ = client.connect()
    ...         reader.subscribe("frames")
    ...         _ = reader.wait_subscribed("frames")
    ...         _ = feed.publish("frames", b"frame 1", [b"pixels"])
    ...         _ = reader.wait(5)
    ...         [item.lease.copy() for item in reader.receive()]
    [(b'pixels',)]
    """

    def __init__(
        self,
        server: ZMQServer,
        *,
        use_shared_memory: bool = True,
        arena_bytes: int = 256 << 20,
        replay_bytes: int = 0,
        queue_bytes: int = 64 << 20,
        lease_ttl: float = 30.0,
        directory: Path = SHARED_MEMORY,
        checksums: bool = False,
        limits: InlineLimits = DEFAULT_LIMITS,
    ) -> None:
        server.require_running()
        super().__init__(
            server.loop,
            name=f"the feed of {server.app}",
            forked="publishes to it through a client of its own",
            use_shared_memory=use_shared_memory,
            arena_bytes=arena_bytes,
            lease_ttl=lease_ttl,
            directory=directory,
            checksums=checksums,
            limits=limits,
            slots=_SLOTS,
        )
        self._incarnation = server.incarnation
        self._roll = FeedRoll(
            self._loop,
            lanes=self._lanes,
            changed=self._changed,
            gaps=self._gap_reports,
            replay_bytes=replay_bytes,
        )
        self._closed = False
        self._door = FeedDoor(
            server,
            DoorEvents(
                agreed=self._roll.agree,
                began=self._roll.begin,
                ended=self._roll.end,
                heard=self._roll.hear,
                resend=self._roll.resend,
                inspect=self._inspect,
                joined=self._roll.join,
            ),
            host=self._host,
            shared_memory=self._shared_memory,
            directory=directory,
            replay_bytes=replay_bytes,
        )
        self._lead(
            announce=lambda lane, name: self._door.announce(_feed_lane(lane), name),
            send=lambda lane, frames: self._door.send(_feed_lane(lane), frames),
            on_arena=self._pump_soon,
        )
        self._pump = FeedPump(
            self._loop,
            lanes=self._lanes,
            dispatch=self._dispatch,
            sharing=self._sharing,
            changed=self._changed,
            tell=self._door.tell,
            queue_bytes=queue_bytes,
            limits=limits,
            on_loss=self._gap_reports.report,
        )
        self._roll.pump, self._roll.dispatch = self._pump, self._dispatch
        self._roll.tell = self._door.tell
        self._loop.submit(self._door.open).result()
        self._sweep()

    # What an application calls.

    def publish(
        self,
        topic: str,
        header: bytes,
        buffers: Sequence[Buffer] = (),
        *,
        key: str = "",
        timeout: float = 0.0,
        state_version: int | None = None,
    ) -> int:
        """Send a payload to every reader of a topic.

        Parameters
        ----------
        topic
            Name of the stream; any text without zero bytes.
        header
            The application's description of the payload, at most 64 KiB.
        buffers
            Its bytes; contiguous, at most 4 GiB together. They may be changed as soon as this
            returns.
        key
            The application's name for the payload, at most 1024 characters.
        timeout
            Longest wait, in seconds, for reliable readers whose queue is full. The others are
            served before that.
        state_version
            Number of the state that the payload shows, at least 0, where there is one: receivers
            know by it which values belong to the picture (`Item.state_version`).

        Returns
        -------
        int
            How many readers got it or have it in their queue; those it is a gap for are left out.

        Raises
        ------
        NotAttachedError
            If the feed is closed, or belongs to another process.
        PayloadTooLargeError
            If header, key or payload are too large.
        ValueError
            If the topic is no word, a buffer is not contiguous, or a version is negative.
        RuntimeError
            If called with a timeout on the server's I/O thread, which must not wait.
        """
        if timeout > 0 and self._loop.on_loop:
            raise RuntimeError("publish() would make the loop wait for itself: use timeout=0 there")
        self._require_own_process()
        payload = Outgoing.of(
            header, buffers, key, limits=self._limits, state_version=state_version
        )
        with self._changed:
            self._require_open()
            book = self._roll.book(topic)
            book.published = True
            keeps = book.retains or bool(book.carried) or book.broadcast is not None
            keeps |= any(lane.keeps for lane in book.lanes)
        if keeps:
            payload = payload.owned()
        with book.turn:
            count, waiting, payload = self._pump.give_out(book, payload)
        if waiting:
            count += self._pump.wait_for_queues(book, waiting, payload, Deadline(timeout))
        return count

    def offer(
        self, topic: str, encode: Encode, *, key: str = "", state_version: int | None = None
    ) -> int:
        """Hand over a payload that is encoded when somebody has room for it.

        Parameters
        ----------
        topic
            Name of the stream.
        encode
            Returns header and buffers, which nobody changes after; called at most once, on the I/O
            thread, and not at all if a newer payload came before anybody had room. It should take a
            few milliseconds at most. Reliable readers, and plain subscribers of a broadcast topic,
            have it encoded at once. A picture that is drawn only here shows the state of this
            moment: a third value says its version.
        key
            The application's name for the payload.
        state_version
            As for `publish`; a version that `encode` returns counts before it.

        Returns
        -------
        int
            How many readers it waits for.

        Raises
        ------
        NotAttachedError
            If the feed is closed, or belongs to another process.
        PayloadTooLargeError
            If the key is too long.
        ValueError
            If the topic is no word, or the version is negative.
        """
        check_key(key)
        check_state_version(state_version)
        self._require_own_process()
        offer = Offer(key, encode, limits=self._limits, state_version=state_version)
        with self._changed:
            self._require_open()
            book = self._roll.book(topic)
            book.published = True
            lanes = book.ready
            if book.retains:
                book.retained = offer
            for lane in lanes:
                if lane.mode is Mode.LATEST:
                    self._pump.replace(lane, offer)
            at_once = bool(book.carried) or book.broadcast is not None
            at_once |= any(lane.mode is Mode.RELIABLE for lane in lanes)
        self._loop.call_soon(self._pump.offered, book, offer if at_once else None)
        return len(lanes)

    def retain(self, topic: str) -> None:
        """Keep the last payload of a topic, for readers that come later.

        Parameters
        ----------
        topic
            Name of the stream. Who subscribes gets what was published last from now on, with
            `Item.retained` set, unless it is owed more than that.

        Raises
        ------
        ValueError
            If the topic is no word.
        """
        with self._changed:
            self._roll.book(topic).retains = True

    def forget(self, topic: str) -> None:
        """Keep no last payload of a topic any more.

        Parameters
        ----------
        topic
            Name of the stream. Who reads it goes on doing so.
        """
        with self._changed:
            book = self._roll.topics.get(topic)
            if book is not None:
                book.retains = False
                book.retained = None

    def broadcast(self, topic: str, *, interval: float = 0.05) -> None:
        """Tell a topic's small payloads to plain SUB sockets too, without credit.

        Parameters
        ----------
        topic
            Name of the stream. Who subscribes to that name and a zero byte on the data port gets
            the newest payload of each key, of at most 64 KiB; nobody is asked who that is.
        interval
            Shortest time between two sendings, in seconds.

        Raises
        ------
        ValueError
            If the topic is no word, or the interval is negative.
        """
        if interval < 0:
            raise ValueError(f"an interval is not negative: {interval}")
        with self._changed:
            book = self._roll.book(topic)
            if book.broadcast is None:
                book.broadcast = Broadcast(topic, epoch=self._incarnation, interval=interval)

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that were published, retained, opened or are subscribed to, sorted."""
        with self._changed:
            return tuple(sorted(self._roll.topics))

    def subscribers(self, topic: str) -> tuple[Subscription, ...]:
        """List who reads a topic now, in the order of coming."""
        with self._changed:
            book = self._roll.topics.get(topic)
            return () if book is None else tuple(lane.subscription for lane in book.ready)

    def link(self, subscription: Subscription) -> LinkStats:
        """Say what was measured of the way to a reader.

        Parameters
        ----------
        subscription
            Who, as `subscribers` and callbacks say.

        Returns
        -------
        LinkStats
            An application chooses by it what this reader is sent: how large, how compressed, how
            often. Nothing is known of one that has left, or acknowledged nothing yet.
        """
        with self._changed:
            lane = self._roll.lane_of(subscription)
            return LinkStats() if lane is None else lane.outbox.link.stats

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """How the streams to every reader stand."""
        with self._changed:
            now = time.monotonic()
            return tuple(lane.state(now=now) for lane in self._lanes.live.values() if lane.ready)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, readers that have left included.

        ``sent``, ``bytes``, ``arena``, ``inline``, ``superseded`` and ``lost`` count a payload once
        per reader; ``refused`` counts subscriptions on the data port that nobody may have, and
        ``cut`` connections there that were ended because they were misused. ``failed_callbacks``
        counts functions that raised on the server's I/O thread, the application's among them.
        """
        return {**self._totals(), **self._door.counters}

    def on_subscribed(self, callback: Callable[[Subscription], object]) -> None:
        """Call a function with each reader that listens already, or begins to."""
        self._loop.call_soon(self._roll.greet, callback)

    def on_unsubscribed(self, callback: Callable[[Subscription], object]) -> None:
        """Call a function with each reader that has left or was lost."""
        self._roll.on_unsubscribed.append(callback)

    def on_ack(self, callback: Callable[[Subscription, Ack], object]) -> None:
        """Call a function with a reader and what became of a payload there."""
        self._roll.on_ack.append(callback)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until every reader has acknowledged everything.

        Parameters
        ----------
        timeout
            Longest wait in seconds. Lost readers are not waited for.

        Returns
        -------
        bool
            Whether they have.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self._roll.settled, timeout)

    def close(self) -> None:
        """Send every reader away; a second call does nothing. Nothing stays in shared memory."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._put_away()

    # What follows runs on the loop.

    def _inspect(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(lane) for lane in self.lanes]

    def _leave(self) -> None:
        self._dispatch.transmit()
        self._door.close()

    def _pump_soon(self, lane: Lane) -> None:
        if self._loop.running:
            with self._changed:
                book = self._roll.book(lane.topic)
            self._loop.call_soon(self._pump.run, book)

    def _require_open(self) -> None:
        if self._closed:
            raise self._closed_error()


def _feed_lane(lane: Lane) -> FeedLane:
    assert isinstance(lane, FeedLane)
    return lane
