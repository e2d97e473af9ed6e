"""FeedReader: the reading end of a feed, on a client's I/O thread."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._credits import DEFAULT_CREDIT, Credit
from zmqruntime._errors import (
    ControlTimeout,
    DescriptorError,
    ForbiddenError,
    InvalidRequestError,
    LoopStoppedError,
    PeerError,
    RequestError,
)
from zmqruntime._gaps import Gap, GapReason, Recovery
from zmqruntime._inbox import Inbox
from zmqruntime._intake import Intake
from zmqruntime._polling import Backoff
from zmqruntime._reception import Reception
from zmqruntime._stream_messages import (
    AckStatus,
    Announce,
    Began,
    Detach,
    Ended,
    Mode,
    Opened,
    Proof,
    Proved,
    Resend,
    Subscribe,
    Subscribed,
    check_topic,
    feed_topic,
)
from zmqruntime._sweeping import Sweeping
from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import (
    CarrierReason,
    HostIdentity,
    answer_probe,
    shared_memory_available,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Any, Self

    import zmq

    from zmqruntime._client import ZMQClient
    from zmqruntime._handshake import Welcome
    from zmqruntime._item import Item
    from zmqruntime._lane_state import LaneState
    from zmqruntime._loop import TimerHandle
    from zmqruntime._messages import Reply
    from zmqruntime._stream_messages import Acks

__all__ = ["FeedReader"]

logger = logging.getLogger(__name__)

_ASK_S = 5.0
_LEAVE_S = 1.0
_RECONNECT_MS = 50


@dataclass(slots=True, eq=False)
class _Wanted:
    """A topic that is read, or is to be."""

    topic: str
    mode: Mode
    until: AckStatus
    credit: Credit
    attempt: int = 0
    epoch: str = ""
    listens: bool = False
    refused: RequestError | None = None
    before: tuple[str, int] | None = None  # epoch and last number of the run that was lost
    backoff: Backoff = field(default_factory=Backoff)
    retry: TimerHandle | None = None


class FeedReader:
    """Reads topics of the feed of a service.

    Parameters
    ----------
    client
        Connection to the service; the reader is closed before it.
    credit
        Room for each topic, unless `subscribe` says otherwise.
    name
        Name under which a reader that comes again, after a restart too, gets what it had not
        acknowledged, if the feed keeps that. None makes one up: it outlasts the connection, not
        the reader. Two readers of one topic have different names.
    use_shared_memory
        Whether payloads may come through shared memory where the same host is proved.
    directory
        Where segments lie; a tmpfs.
    limits
        Sizes of inline payloads that are accepted.

    Raises
    ------
    ValueError
        If there is no room for even one message.

    Notes
    -----
    Every method may be called from any thread. When the service was lost and is there again, the
    reader subscribes again by itself; what it missed meanwhile is a gap, or comes.

    The descriptor of `fileno` is readable as long as something can be received.
    """

    def __init__(
        self,
        client: ZMQClient,
        *,
        credit: Credit = DEFAULT_CREDIT,
        name: str | None = None,
        use_shared_memory: bool = True,
        directory: Path = SHARED_MEMORY,
        limits: InlineLimits = DEFAULT_LIMITS,
    ) -> None:
        _check_credit(credit)
        self.name = secrets.token_hex(16) if name is None else name
        self._client = client
        self._loop = client.loop
        self._control = client.control
        self._credit = credit
        self._directory = directory
        self._limits = limits
        self._host = HostIdentity.mine()
        self._shared_memory = use_shared_memory and shared_memory_available(directory)
        self._url = ""
        self._inbox = Inbox()
        self._intake = Intake(
            self._loop, self._inbox, tell=self._tell, on_dropped=lambda _epoch: None
        )
        self._changed = threading.Condition()  # guards what follows
        self._wanted: dict[str, _Wanted] = {}
        self._sweeping = Sweeping(self._loop, directory) if self._shared_memory else None
        self._control.on_push("arena", self._on_arena)
        self._control.on_push("began", self._on_began)
        self._control.on_push("ended", self._on_ended)
        client.on_welcome(self._on_welcome)
        client.on_lost(self._on_lost)

    # What an application calls.

    def subscribe(
        self,
        topic: str,
        mode: Mode | str = Mode.RELIABLE,
        credit: Credit | None = None,
        *,
        until: AckStatus | str = AckStatus.RECEIVED,
    ) -> None:
        """Read a topic from now on; does not wait for the service.

        Parameters
        ----------
        topic
            Name of the stream.
        mode
            ``reliable``: payloads wait until there is room here. ``latest``: the newest one takes
            the place of an older one that has not been sent.
        credit
            Room for this topic; None takes the reader's.
        until
            With which word a payload counts as acknowledged: ``received``, which releasing it
            says, or ``displayed``.

        Raises
        ------
        ValueError
            If the topic, mode or word is none, there is no room, or the topic is read already.
        """
        check_topic(topic)
        until = AckStatus(until)
        if until is AckStatus.FAILED:
            raise ValueError("payloads are acknowledged when 'received' or 'displayed'")
        credit = self._credit if credit is None else credit
        _check_credit(credit)
        wanted = _Wanted(topic, Mode(mode), until, credit)
        with self._changed:
            if topic in self._wanted:
                raise ValueError(f"{topic!r} is read already; unsubscribe from it first")
            self._wanted[topic] = wanted
        self._loop.call_soon(self._ask, wanted)

    def unsubscribe(self, topic: str) -> None:
        """Read a topic no longer; one that is not read is ignored.

        Parameters
        ----------
        topic
            Name of the stream. Items that were received stay valid, and are acknowledged.
        """
        with self._changed:
            wanted = self._wanted.pop(topic, None)
            self._changed.notify_all()
        if wanted is not None:
            self._loop.submit(self._leave, wanted).result()

    def wait_subscribed(self, topic: str, timeout: float = 5.0) -> bool:
        """Wait until the feed sends a topic to this reader.

        Parameters
        ----------
        topic
            Name of the stream, which was subscribed to.
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether it does.

        Raises
        ------
        ForbiddenError
            If this reader may not read it.
        InvalidRequestError
            If the service has no feed, or does not know the topic as one.
        """
        with self._changed:
            wanted = self._wanted.get(topic)
            if wanted is None:
                return False
            self._changed.wait_for(lambda: wanted.listens or wanted.refused is not None, timeout)
            if wanted.refused is not None:
                raise wanted.refused
            return wanted.listens

    @property
    def topics(self) -> tuple[str, ...]:
        """What is read, or will be as soon as the service is there; in the order of asking."""
        with self._changed:
            return tuple(self._wanted)

    def fileno(self) -> int:
        """Return a descriptor that is readable while something can be received.

        Returns
        -------
        int
            To be watched, not read; valid until `close`.

        Raises
        ------
        ValueError
            If the reader is closed.
        """
        return self._inbox.fileno()

    def receive(self, limit: int | None = None) -> list[Item | Gap]:
        """Take what has arrived, without waiting.

        Parameters
        ----------
        limit
            At most so many, None for all.

        Returns
        -------
        list[Item | Gap]
            Items to be released, and gaps where items are missing, in the order of each topic.
        """
        return self._inbox.take(limit)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something can be received.

        Parameters
        ----------
        timeout
            Longest wait in seconds, None for ever.

        Returns
        -------
        bool
            Whether there is something.
        """
        return self._inbox.wait(timeout)

    def resend(self, gap: Gap, timeout: float = 5.0) -> tuple[int, ...]:
        """Ask the feed for what is missing, if it keeps that (``replay_bytes``).

        Parameters
        ----------
        gap
            As received, of the present run of a topic.
        timeout
            Longest wait for the answer, in seconds.

        Returns
        -------
        tuple[int, ...]
            Numbers that come again, under new ones; `Item.again` says the old ones.

        Raises
        ------
        NotFoundError
            If that run is over.
        ControlTimeout, PeerLostError
            If the service did not answer.
        """
        wanted = Resend(epoch=gap.epoch, first=gap.first, last=gap.last)
        body = self._control.request("resend", msgspec.to_builtins(wanted), timeout=timeout)
        return tuple(body["sequences"])

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The topics that are received now, as they stand."""
        now = time.monotonic()
        receptions = self._intake.receptions
        return tuple(reception.state(now=now) for reception in receptions if not reception.closed)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, runs that are over included; as of `Subscriber`."""
        return self._intake.counters

    def close(self) -> None:
        """Stop reading; a second call does nothing. Items that were handed out stay valid."""
        if not self._inbox.shut():
            return
        with self._changed:
            wanted, self._wanted = tuple(self._wanted.values()), {}
            self._changed.notify_all()
        if self._sweeping is not None:
            self._sweeping.stop()
        if self._loop.running:
            left = [self._loop.submit(self._leave, each).result() for each in wanted]
            if not self._loop.on_loop:
                wait([future for future in left if future is not None], _LEAVE_S)
            self._loop.submit(self._intake.close, GapReason.RECEIVER_LEFT).result()
        self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows runs on the loop.

    def _leave(self, wanted: _Wanted) -> Future[Reply] | None:
        """Take leave of the feed; what still comes until it knows is let go."""
        wanted.attempt += 1
        if wanted.retry is not None:
            wanted.retry.cancel()
        epoch, wanted.epoch = wanted.epoch, ""
        if not epoch or not self._client.connected:
            self._intake.end(epoch, GapReason.RECEIVER_LEFT)
            return None
        body = msgspec.to_builtins(Detach(epoch=epoch))
        try:
            future = self._control.request_nowait("unsubscribe", body, timeout=_LEAVE_S)
        except LoopStoppedError:
            return None
        # the feed hears of it here first: to leave the data socket without a word is to be lost
        future.add_done_callback(lambda _: self._intake.end(epoch, GapReason.RECEIVER_LEFT))
        return future

    def _detach(self, epoch: str) -> None:
        self._control.notify("unsubscribe", msgspec.to_builtins(Detach(epoch=epoch)))

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._inbox.closed:
            return
        here = self._client.endpoint
        url = replace(here, data_port_offset=welcome.ports.data - here.port).data_url
        if url != self._url or not self._intake.is_open or self._client.keys is not None:
            # a socket whose key was refused does not try again by itself
            self._intake.shut()
            self._intake.open(lambda socket: self._connect(socket, url))
            self._url = url
        for wanted in self._all():
            self._lose(wanted, GapReason.LINK)
            self._ask(wanted)

    def _connect(self, socket: zmq.Socket[bytes], url: str) -> None:
        socket.reconnect_ivl = _RECONNECT_MS
        socket.ipv6 = "[" in url
        self._client.secure(socket)
        socket.connect(url)

    def _on_lost(self, reason: str) -> None:
        logger.info("%s was lost: %s", self._client.endpoint, reason)
        for wanted in self._all():
            self._lose(wanted, GapReason.PRODUCER_LOST)

    def _all(self) -> tuple[_Wanted, ...]:
        with self._changed:
            return tuple(self._wanted.values())

    def _lose(self, wanted: _Wanted, reason: GapReason) -> None:
        """End the present run of a topic; items still out are acknowledged when it is back."""
        wanted.attempt += 1
        if wanted.retry is not None:
            wanted.retry.cancel()
        epoch, wanted.epoch = wanted.epoch, ""
        with self._changed:
            wanted.listens = False
        reception = self._intake.get(epoch)
        if reception is not None:
            self._intake.read()  # what was sent before still counts
            wanted.before = (epoch, reception.last)
            self._intake.end(epoch, reason)

    def _ask(self, wanted: _Wanted) -> None:
        if self._inbox.closed or not self._client.connected:
            return  # the next welcome asks
        if not self._intake.is_open:
            self._on_welcome(self._client.welcome)
            return
        wanted.attempt += 1
        attempt = wanted.attempt
        subscribe = Subscribe(
            topic=wanted.topic,
            mode=wanted.mode,
            reader=f"{self._client.app} (pid {self._host.pid})",
            name=self.name,
            incarnation=self._client.incarnation,
            host=self._host,
            messages=wanted.credit.messages,
            nbytes=wanted.credit.nbytes,
            until=wanted.until,
            shared_memory=self._shared_memory,
        )
        self._request(
            "subscribe", subscribe, lambda future: self._on_answer(wanted, attempt, future)
        )

    def _request(
        self, type_: str, body: msgspec.Struct, then: Callable[[Future[Reply]], object]
    ) -> None:
        with contextlib.suppress(LoopStoppedError):  # the client is being closed
            future = self._control.request_nowait(type_, msgspec.to_builtins(body), timeout=_ASK_S)
            future.add_done_callback(then)

    def _on_answer(self, wanted: _Wanted, attempt: int, future: Future[Reply]) -> None:
        try:
            subscribed = msgspec.convert(future.result().body, Subscribed)
        except (ForbiddenError, InvalidRequestError) as error:
            if attempt == wanted.attempt and not self._is_early(error):
                self._refuse(wanted, error)
                return
            self._again(wanted, attempt, error)
            return
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            self._again(wanted, attempt, error)
            return
        except PeerError:
            return  # the next welcome asks again
        if attempt != wanted.attempt or self._inbox.closed:
            self._detach(subscribed.epoch)
            return
        self._begin(wanted, attempt, subscribed)

    def _is_early(self, error: RequestError) -> bool:
        """Say whether a service that knows no feed may have one in a moment."""
        return error.code == "unknown_type"

    def _refuse(self, wanted: _Wanted, error: RequestError) -> None:
        logger.warning("%s: %r cannot be read: %s", self._client.endpoint, wanted.topic, error)
        with self._changed:
            wanted.refused = error
            self._changed.notify_all()

    def _again(self, wanted: _Wanted, attempt: int, error: Exception) -> None:
        if attempt != wanted.attempt or self._inbox.closed:
            return
        logger.info("%s: %r is not sent yet: %s", self._client.endpoint, wanted.topic, error)
        self._ask_later(wanted)

    def _ask_later(self, wanted: _Wanted) -> None:
        wanted.retry = self._loop.call_later(wanted.backoff.next(), lambda: self._ask(wanted))

    def _begin(self, wanted: _Wanted, attempt: int, subscribed: Subscribed) -> None:
        answer, reason = "", CarrierReason.DISABLED
        if subscribed.shared_memory and self._shared_memory:
            reason = CarrierReason.PROBE_UNREADABLE
            with contextlib.suppress(DescriptorError):  # then inline; the feed learns why
                answer = answer_probe(
                    subscribed.probe, challenge=subscribed.challenge, directory=self._directory
                )
        reception = Reception(
            topic=wanted.topic,
            producer=subscribed.producer,
            mode=wanted.mode,
            host=subscribed.host,
            epoch=subscribed.epoch,
            topic_frame=feed_topic(wanted.topic, subscribed.subscriber),
            incarnation=self._client.incarnation,
            reason=reason,
            credit=Credit(subscribed.messages, subscribed.nbytes),
            directory=self._directory,
            limits=self._limits,
            on_news=self._intake.on_news,
            on_gap=self._intake.on_gap,
        )
        wanted.backoff.reset()
        wanted.epoch = subscribed.epoch
        self._say_what_is_missing(wanted, resumed=subscribed.resumed)
        self._intake.add(reception)
        proof = Proof(epoch=subscribed.epoch, answer=answer)
        self._request(
            "host_proof", proof, lambda future: self._on_proved(wanted, attempt, reception, future)
        )

    def _say_what_is_missing(self, wanted: _Wanted, *, resumed: bool) -> None:
        """Let the application know that there may be a hole, unless the feed fills or names it."""
        before, wanted.before = wanted.before, None
        if before is None or resumed:
            return
        epoch, last = before
        gap = Gap(
            topic=wanted.topic,
            epoch=epoch,
            first=last + 1,
            last=last + 1,
            reason=GapReason.LINK,
            recover=Recovery.NONE,
            detail=f"the connection was lost after number {last}; how many are missing is unknown",
        )
        self._inbox.put([gap])

    def _on_proved(
        self, wanted: _Wanted, attempt: int, reception: Reception, future: Future[Reply]
    ) -> None:
        try:
            reception.reason = msgspec.convert(future.result().body, Proved).reason
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            if attempt == wanted.attempt:
                self._lose(wanted, GapReason.LINK)
                self._again(wanted, wanted.attempt, error)
            return
        except PeerError:
            return  # the next welcome asks again

    def _on_began(self, body: dict[str, Any]) -> None:
        epoch = msgspec.convert(body, Began).epoch
        for wanted in self._all():
            if wanted.epoch == epoch:
                with self._changed:
                    wanted.listens = True
                    self._changed.notify_all()

    def _on_arena(self, body: dict[str, Any]) -> None:
        announce = msgspec.convert(body, Announce)
        reception = self._intake.get(announce.epoch)
        if reception is None:
            return
        error = ""
        try:
            reception.announce(announce.name)
        except DescriptorError as refusal:
            error = str(refusal)
        opened = Opened(epoch=announce.epoch, name=announce.name, error=error[:1000])
        self._control.notify("arena_opened", msgspec.to_builtins(opened))

    def _on_ended(self, body: dict[str, Any]) -> None:
        ended = msgspec.convert(body, Ended)
        for wanted in self._all():
            if wanted.epoch == ended.epoch:
                self._lose(wanted, ended.reason)
                self._ask_later(wanted)

    def _tell(self, epoch: str, acks: Acks) -> None:  # noqa: ARG002 - the acks name it
        self._control.notify("ack", msgspec.to_builtins(acks))


def _check_credit(credit: Credit) -> None:
    if credit.messages < 1 or credit.nbytes < 1:
        raise ValueError(f"a topic needs room for at least one message, not {credit}")
