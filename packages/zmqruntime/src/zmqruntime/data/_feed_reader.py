"""FeedReader: the reading end of a feed, on a client's I/O thread."""

from __future__ import annotations

import secrets
from concurrent.futures import wait
from typing import TYPE_CHECKING

import msgspec

from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import shared_memory_available
from zmqruntime.data._credits import DEFAULT_CREDIT, Credit
from zmqruntime.data._feed_orders import LEAVE_S, FeedOrder, FeedOrders
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._receiving_end import ReceivingEnd
from zmqruntime.data._stream_messages import AckStatus, Mode, Resend, check_topic
from zmqruntime.services._sweeping import Sweeping

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zmqruntime._client import ZMQClient
    from zmqruntime._errors import RequestError
    from zmqruntime.data._gaps import Gap

__all__ = ["FeedReader"]


class FeedReader(ReceivingEnd):
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
        super().__init__()
        self.name = secrets.token_hex(16) if name is None else name
        self._loop = client.loop
        self._control = client.control
        self._credit = credit
        shared_memory = use_shared_memory and shared_memory_available(directory)
        self._orders = FeedOrders(
            client,
            self._inbox,
            name=self.name,
            shared_memory=shared_memory,
            directory=directory,
            limits=limits,
        )
        self._intake = self._orders.intake
        self._sweeping = Sweeping(client.loop, directory) if shared_memory else None
        self._orders.start()

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
        order = FeedOrder(topic, Mode(mode), until, credit)
        if not self._orders.add(order):
            raise ValueError(f"{topic!r} is read already; unsubscribe from it first")
        self._loop.call_soon(self._orders.ask_first, order)

    def unsubscribe(self, topic: str) -> None:
        """Read a topic no longer; one that is not read is ignored.

        Parameters
        ----------
        topic
            Name of the stream. Items that were received stay valid, and are acknowledged.
        """
        order = self._orders.remove(topic)
        if order is not None:
            self._loop.submit(self._orders.leave, order).result()

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
        return self._orders.wait_for(topic, timeout)

    def on_refused(self, callback: Callable[[str, RequestError], object]) -> None:
        """Call a function, on the loop, with a topic that may not be read, and why.

        Parameters
        ----------
        callback
            Must not block. `wait_subscribed` raises the same.
        """
        self._orders.on_refused.append(callback)

    @property
    def topics(self) -> tuple[str, ...]:
        """What is read, or will be as soon as the service is there; in the order of asking."""
        return tuple(order.topic for order in self._orders.all())

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

    def close(self) -> None:
        """Stop reading; a second call does nothing. Items that were handed out stay valid."""
        if not self._inbox.shut():
            return
        orders = self._orders.clear()
        if self._sweeping is not None:
            self._sweeping.stop()
        if self._loop.running:
            left = [self._loop.submit(self._orders.leave, order).result() for order in orders]
            if not self._loop.on_loop:
                wait([future for future in left if future is not None], LEAVE_S)
            self._loop.submit(self._intake.close, GapReason.RECEIVER_LEFT).result()
        self._inbox.close()


def _check_credit(credit: Credit) -> None:
    if credit.messages < 1 or credit.nbytes < 1:
        raise ValueError(f"a topic needs room for at least one message, not {credit}")
