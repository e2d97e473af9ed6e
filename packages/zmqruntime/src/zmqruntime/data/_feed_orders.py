"""FeedOrders: the loop's half of a reader; what it ordered of a feed, and how that stands."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import (
    ControlTimeout,
    DescriptorError,
    ForbiddenError,
    InvalidRequestError,
    LoopStoppedError,
    PeerError,
    RequestError,
)
from zmqruntime._typed import from_plain
from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity, answer_probe
from zmqruntime.control._pushes import read_push
from zmqruntime.data._credits import Credit
from zmqruntime.data._gaps import Gap, GapReason, Recovery
from zmqruntime.data._intake import Intake
from zmqruntime.data._reception import Reception
from zmqruntime.data._stream_messages import (
    AckStatus,
    Announce,
    Began,
    Detach,
    Ended,
    Mode,
    Opened,
    Proof,
    Proved,
    Subscribe,
    Subscribed,
    feed_topic,
)
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Any

    import zmq

    from zmqruntime._client import ZMQClient
    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.control._handshake import Welcome
    from zmqruntime.control._messages import Reply
    from zmqruntime.data._inbox import Inbox
    from zmqruntime.data._stream_messages import Acks
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["LEAVE_S", "FeedOrder", "FeedOrders"]

logger = logging.getLogger(__name__)

LEAVE_S = 1.0
"""How long a feed is given to hear that its reader leaves."""

_ASK_S = 5.0
_RECONNECT_MS = 50


@dataclass(slots=True, eq=False)
class FeedOrder:
    """A topic that a reader reads, or will as soon as it is sent."""

    topic: str
    mode: Mode
    until: AckStatus
    credit: Credit
    attempt: int = 0
    epoch: str = ""
    former: str = ""  # epoch of the run that was agreed on last
    listens: bool = False
    refused: RequestError | None = None
    before: tuple[str, int] | None = None  # epoch and last number of the run that was lost
    backoff: Backoff = field(default_factory=Backoff)
    retry: TimerHandle | None = None


class FeedOrders:
    """Everything that one reader wants of a feed.

    It asks for each topic on the control channel, answers the riddle that shows whether memory is
    shared, subscribes on the data channel, and does all of it again whenever a connection is made
    anew.

    Parameters
    ----------
    client
        Connection to the service.
    inbox
        Where items and gaps go.
    name
        The reader's own name.
    shared_memory
        Whether payloads may come through shared memory.
    directory
        Where segments lie; a tmpfs.
    limits
        Sizes of inline payloads that are accepted.
    """

    def __init__(
        self,
        client: ZMQClient,
        inbox: Inbox,
        *,
        name: str,
        shared_memory: bool,
        directory: Path,
        limits: InlineLimits,
    ) -> None:
        self._client = client
        self._loop = client.loop
        self._control = client.control
        self._inbox = inbox
        self._name = name
        self._shared_memory = shared_memory
        self._directory = directory
        self._limits = limits
        self._host = HostIdentity.mine()
        self.on_refused: list[Callable[[str, RequestError], object]] = []
        self._url = ""
        self._welcome: Welcome | None = None
        self.intake = Intake(client.loop, inbox, tell=self._tell, on_dropped=lambda _epoch: None)
        self._changed = threading.Condition()  # guards what follows
        self._orders: dict[str, FeedOrder] = {}

    # Any thread.

    def start(self) -> None:
        """Follow the client from now on."""
        self._control.on_push("arena", self._on_arena)
        self._control.on_push("began", self._on_began)
        self._control.on_push("ended", self._on_ended)
        self._client.on_welcome(self._on_welcome)
        self._client.on_lost(self._on_lost)

    def add(self, order: FeedOrder) -> bool:
        """Add an order, and say whether its topic was not ordered before."""
        with self._changed:
            return self._orders.setdefault(order.topic, order) is order

    def remove(self, topic: str) -> FeedOrder | None:
        """Take an order back, if there is one."""
        with self._changed:
            order = self._orders.pop(topic, None)
            self._changed.notify_all()
        return order

    def clear(self) -> tuple[FeedOrder, ...]:
        """Take every order back."""
        with self._changed:
            orders = tuple(self._orders.values())
            self._orders.clear()
            self._changed.notify_all()
        return orders

    def all(self) -> tuple[FeedOrder, ...]:
        """List the orders, in the order of asking."""
        with self._changed:
            return tuple(self._orders.values())

    def wait_for(self, topic: str, timeout: float) -> bool:
        """Wait until a topic is sent, and say whether it is; raises why it never will be."""
        with self._changed:
            order = self._orders.get(topic)
            if order is None:
                return False
            self._changed.wait_for(lambda: order.listens or order.refused is not None, timeout)
            if order.refused is not None:
                raise order.refused
            return order.listens

    # What follows runs on the loop.

    def leave(self, order: FeedOrder) -> Future[Reply] | None:
        """Take leave of the feed; what still comes until it knows is let go."""
        order.attempt += 1
        if order.retry is not None:
            order.retry.cancel()
        epoch, order.epoch = order.epoch, ""
        if not epoch or not self._client.connected:
            self.intake.end(epoch, GapReason.RECEIVER_LEFT)
            return None
        body = msgspec.to_builtins(Detach(epoch=epoch))
        try:
            future = self._control.request_nowait("unsubscribe", body, timeout=LEAVE_S)
        except LoopStoppedError:
            return None
        # the feed hears of it here first: to leave the data socket without a word is to be lost
        future.add_done_callback(lambda _: self.intake.end(epoch, GapReason.RECEIVER_LEFT))
        return future

    def _detach(self, epoch: str) -> None:
        self._control.notify("unsubscribe", msgspec.to_builtins(Detach(epoch=epoch)))

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._inbox.closed or welcome is self._welcome:
            return
        self._welcome = welcome
        here = self._client.endpoint
        url = replace(here, data_port_offset=welcome.ports.data - here.port).data_url
        if url != self._url or not self.intake.is_open or self._client.keys is not None:
            # a socket whose key was refused does not try again by itself
            self.intake.shut()
            self.intake.open(lambda socket: self._connect(socket, url))
            self._url = url
        for order in self.all():
            self._lose(order, GapReason.LINK)
            self.ask(order)

    def _connect(self, socket: zmq.Socket[bytes], url: str) -> None:
        socket.reconnect_ivl = _RECONNECT_MS
        socket.ipv6 = "[" in url
        self._client.secure(socket)
        socket.connect(url)

    def _on_lost(self, reason: str) -> None:
        logger.info("%s was lost: %s", self._client.endpoint, reason)
        self._welcome = None  # the next one counts, also if we have seen it before this news
        for order in self.all():
            self._lose(order, GapReason.PRODUCER_LOST)

    def _lose(self, order: FeedOrder, reason: GapReason) -> None:
        """End the present run of a topic; items still out are acknowledged when it is back."""
        order.attempt += 1
        if order.retry is not None:
            order.retry.cancel()
        epoch, order.epoch = order.epoch, ""
        with self._changed:
            listened, order.listens = order.listens, False
        reception = self.intake.get(epoch)
        if reception is not None:
            self.intake.read()  # what was sent before still counts
            if listened or reception.last:  # else nothing can be missing
                order.before = (epoch, reception.last)
            self.intake.end(epoch, reason)

    def ask_first(self, order: FeedOrder) -> None:
        """Ask for a new order, unless a welcome came between and has done so."""
        if not order.attempt:
            self.ask(order)

    def ask(self, order: FeedOrder) -> None:
        """Ask the feed for a topic; without a connection the next welcome does."""
        if self._inbox.closed or not self._client.connected:
            return  # the next welcome asks
        if self._client.welcome is not self._welcome:  # it came before we were told
            self._on_welcome(self._client.welcome)
            return
        order.attempt += 1
        attempt = order.attempt
        subscribe = Subscribe(
            topic=order.topic,
            mode=order.mode,
            reader=f"{self._client.app} (pid {self._host.pid})",
            name=self._name,
            incarnation=self._client.incarnation,
            host=self._host,
            messages=order.credit.messages,
            nbytes=order.credit.nbytes,
            until=order.until,
            shared_memory=self._shared_memory,
            before=order.former,
        )
        self._request(
            "subscribe", subscribe, lambda future: self._on_answer(order, attempt, future)
        )

    def _request(
        self, type_: str, body: msgspec.Struct, then: Callable[[Future[Reply]], object]
    ) -> None:
        with contextlib.suppress(LoopStoppedError):  # the client is being closed
            future = self._control.request_nowait(type_, msgspec.to_builtins(body), timeout=_ASK_S)
            future.add_done_callback(then)

    def _on_answer(self, order: FeedOrder, attempt: int, future: Future[Reply]) -> None:
        try:
            subscribed = from_plain(future.result().body, Subscribed)
        except (ForbiddenError, InvalidRequestError) as error:
            if attempt == order.attempt and not self._is_early(error):
                self._refuse(order, error)
                return
            self._again(order, attempt, error)
            return
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            self._again(order, attempt, error)
            return
        except PeerError:
            return  # the next welcome asks again
        if attempt != order.attempt or self._inbox.closed:
            self._detach(subscribed.epoch)
            return
        self._begin(order, attempt, subscribed)

    def _is_early(self, error: RequestError) -> bool:
        """Say whether a service that knows no feed may have one in a moment."""
        return error.code == "unknown_type"

    def _refuse(self, order: FeedOrder, error: RequestError) -> None:
        logger.warning("%s: %r cannot be read: %s", self._client.endpoint, order.topic, error)
        with self._changed:
            order.refused = error
            self._changed.notify_all()
        for callback in self.on_refused:
            self._loop.call_soon(callback, order.topic, error)

    def _again(self, order: FeedOrder, attempt: int, error: Exception) -> None:
        if attempt != order.attempt or self._inbox.closed:
            return
        logger.info("%s: %r is not sent yet: %s", self._client.endpoint, order.topic, error)
        self._ask_later(order)

    def _ask_later(self, order: FeedOrder) -> None:
        order.retry = self._loop.call_later(order.backoff.next(), lambda: self.ask(order))

    def _begin(self, order: FeedOrder, attempt: int, subscribed: Subscribed) -> None:
        answer, reason = "", CarrierReason.DISABLED
        if subscribed.shared_memory and self._shared_memory:
            reason = CarrierReason.PROBE_UNREADABLE
            with contextlib.suppress(DescriptorError):  # then inline; the feed learns why
                answer = answer_probe(
                    subscribed.probe, challenge=subscribed.challenge, directory=self._directory
                )
        reception = Reception(
            topic=order.topic,
            producer=subscribed.producer,
            mode=order.mode,
            host=subscribed.host,
            epoch=subscribed.epoch,
            topic_frame=feed_topic(order.topic, subscribed.subscriber),
            incarnation=self._client.incarnation,
            reason=reason,
            credit=Credit(subscribed.messages, subscribed.nbytes),
            directory=self._directory,
            limits=self._limits,
            on_news=self.intake.on_news,
            on_gap=self.intake.on_gap,
        )
        order.backoff.reset()
        order.epoch = order.former = subscribed.epoch
        self._say_what_is_missing(order, resumed=subscribed.resumed)
        self.intake.add(reception)
        proof = Proof(epoch=subscribed.epoch, answer=answer)
        self._request(
            "host_proof", proof, lambda future: self._on_proved(order, attempt, reception, future)
        )

    def _say_what_is_missing(self, order: FeedOrder, *, resumed: bool) -> None:
        """Let the application know that there may be a hole, unless the feed fills or names it."""
        before, order.before = order.before, None
        if before is None or resumed:
            return
        epoch, last = before
        gap = Gap(
            topic=order.topic,
            epoch=epoch,
            first=last + 1,
            last=last + 1,
            reason=GapReason.LINK,
            recover=Recovery.NONE,
            detail=f"the connection was lost after number {last}; how many are missing is unknown",
        )
        self._inbox.put([gap])

    def _on_proved(
        self, order: FeedOrder, attempt: int, reception: Reception, future: Future[Reply]
    ) -> None:
        try:
            reception.reason = from_plain(future.result().body, Proved).reason
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            if attempt == order.attempt:
                self._lose(order, GapReason.LINK)
                self._again(order, order.attempt, error)
            return
        except PeerError:
            return  # the next welcome asks again

    def _on_began(self, body: dict[str, Any]) -> None:
        began = read_push(self._control, body, Began)
        if began is None:
            return
        for order in self.all():
            if order.epoch == began.epoch:
                with self._changed:
                    order.listens = True
                    self._changed.notify_all()

    def _on_arena(self, body: dict[str, Any]) -> None:
        announce = read_push(self._control, body, Announce)
        reception = None if announce is None else self.intake.get(announce.epoch)
        if announce is None or reception is None:
            return
        error = ""
        try:
            reception.announce(announce.name)
        except DescriptorError as refusal:
            error = str(refusal)
        opened = Opened(epoch=announce.epoch, name=announce.name, error=error[:1000])
        self._control.notify("arena_opened", msgspec.to_builtins(opened))

    def _on_ended(self, body: dict[str, Any]) -> None:
        ended = read_push(self._control, body, Ended)
        if ended is None:
            return
        for order in self.all():
            if order.epoch == ended.epoch:
                self._lose(order, ended.reason)
                self._ask_later(order)

    def _tell(self, epoch: str, acks: Acks) -> None:  # noqa: ARG002 - the acks name it
        self._control.notify("ack", msgspec.to_builtins(acks))
