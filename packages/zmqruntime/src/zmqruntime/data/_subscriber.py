"""Subscriber: the receiving end of streams, on a server's I/O thread."""

from __future__ import annotations

import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import (
    BusyError,
    DescriptorError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import (
    CarrierReason,
    HostIdentity,
    answer_probe,
    judge,
    shared_memory_available,
)
from zmqruntime.data._credits import DEFAULT_CREDIT, Credit
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._intake import Intake
from zmqruntime.data._process_watch import ProcessWatch
from zmqruntime.data._receiving_end import ReceivingEnd
from zmqruntime.data._reception import Reception
from zmqruntime.data._stream_messages import (
    Announce,
    Attach,
    Attached,
    Detach,
    Resend,
    stream_topic,
)
from zmqruntime.services._sweeping import Sweeping

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from zmqruntime._server import ZMQServer
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.data._gaps import Gap
    from zmqruntime.data._item import ProducerStatus
    from zmqruntime.data._stream_messages import Acks

__all__ = ["Subscriber"]

logger = logging.getLogger(__name__)

_MOST_PRODUCERS = 256


class Subscriber(ReceivingEnd):
    """Receives what producers publish to this server.

    Producers connect to the server's data port; each asks on the control channel to take part and
    is granted room for so many messages and bytes, which it gets back as items are released.

    Parameters
    ----------
    server
        A started server of this process; the subscriber is closed before it.
    credit
        Room for each producer.
    use_shared_memory
        Whether payloads may come through shared memory where the same host is proved.
    directory
        Where segments lie; a tmpfs.
    limits
        Sizes of inline payloads that are accepted.

    Raises
    ------
    EndpointInUse
        If another program listens on the data port.
    ValueError
        If there is no room for even one message.
    ServiceError
        If the server was not started.

    Notes
    -----
    The server's I/O thread owns the socket. Every method may be called from any thread. The
    descriptor of `fileno` is readable as long as something can be received; a Qt notifier or
    ``select`` can watch it.
    """

    def __init__(
        self,
        server: ZMQServer,
        *,
        credit: Credit = DEFAULT_CREDIT,
        use_shared_memory: bool = True,
        directory: Path = SHARED_MEMORY,
        limits: InlineLimits = DEFAULT_LIMITS,
    ) -> None:
        if credit.messages < 1 or credit.nbytes < 1:
            raise ValueError(f"a producer needs room for at least one message, not {credit}")
        server.require_running()
        super().__init__()
        self.subscriber_id = secrets.token_hex(8)
        self._loop = server.loop
        self._control = server.control
        self._incarnation = server.incarnation
        self._credit = credit
        self._directory = directory
        self._limits = limits
        self._host = HostIdentity.mine()
        self._shared_memory = use_shared_memory and shared_memory_available(directory)
        self._sweeping = Sweeping(self._loop, directory) if self._shared_memory else None
        self._peers: dict[str, bytes] = {}  # epoch -> peer on the control channel
        self._processes = ProcessWatch(self._loop, self._host)
        self._attached = 0
        self._intake = Intake(
            self._loop,
            self._inbox,
            tell=self._tell,
            on_dropped=self._on_dropped,
            gate=server.gate,
        )
        url = server.endpoint.data_bind_url(server.bound)
        self._loop.submit(self._intake.open, lambda socket: server.bind(socket, url)).result()
        for type_, handler in (
            ("attach", self._on_attach),
            ("arena", self._on_announce),
            ("detach", self._on_detach),
        ):
            self._control.handle(type_, handler, on_loop=True)
        self._control.handle("lanes", self._on_lanes, on_loop=True, capability="service:inspect")
        self._control.on_peer_lost(self._on_peer_lost)

    @property
    def producers(self) -> tuple[ProducerStatus, ...]:
        """The producers that take part now."""
        receptions = self._intake.receptions
        return tuple(reception.status for reception in receptions if not reception.closed)

    def resend(self, gap: Gap) -> None:
        """Ask the producer for what is missing, if it keeps that (``replay_bytes``).

        Parameters
        ----------
        gap
            As received. What comes again has new numbers; `Item.again` says the old ones. A gap of
            a stream that is over is ignored.
        """
        self._loop.call_soon(self._resend, gap)

    def close(self) -> None:
        """Stop receiving; a second call does nothing. Items that were handed out stay valid."""
        if not self._inbox.shut():
            return
        if self._sweeping is not None:
            self._sweeping.stop()
        if self._loop.running:
            self._loop.submit(self._intake.close, GapReason.RECEIVER_LOST).result()
        self._inbox.close()

    # What follows runs on the loop.

    def _on_attach(self, request: Request, peer: Peer) -> dict[str, Any]:
        if peer.hello is None:  # its end would not be noticed, nor could it be told of room
            raise InvalidRequestError("say hello on this connection before you attach")
        attach = request.parse(Attach)
        if not self._intake.is_open:
            raise UnavailableError("the subscriber has been closed")
        self._require_leave(attach.topic, peer)
        if len(self._intake.receptions) >= _MOST_PRODUCERS:
            raise BusyError(f"{_MOST_PRODUCERS} producers take part; more are not let in")
        answer, proved = "", False
        if self._shared_memory and attach.probe and attach.host.digest == self._host.digest:
            with contextlib.suppress(DescriptorError):  # then inline; the sender learns why
                answer = answer_probe(
                    attach.probe, challenge=attach.challenge, directory=self._directory
                )
                proved = True
        reason = judge(self._host, attach.host, proved=proved)
        if not self._shared_memory or not attach.probe:
            reason = CarrierReason.DISABLED
        epoch = secrets.token_hex(16)
        self._attached += 1
        subscriber = f"{self.subscriber_id}-{self._attached}"  # each run has a topic of its own
        reception = Reception(
            topic=attach.topic,
            producer=attach.producer,
            mode=attach.mode,
            host=attach.host,
            epoch=epoch,
            topic_frame=stream_topic(attach.topic, subscriber),
            incarnation=self._incarnation,
            reason=reason,
            credit=self._credit,
            directory=self._directory,
            limits=self._limits,
            on_news=self._intake.on_news,
            on_gap=self._intake.on_gap,
        )
        self._peers[epoch] = peer.id
        self._processes.watch(epoch, attach.host, self._on_ended)
        self._intake.add(reception, key=peer.source.key)
        logger.info("%s attached to %r: %s", attach.producer, attach.topic, reason)
        agreed: dict[str, Any] = msgspec.to_builtins(
            Attached(
                epoch=epoch,
                subscriber=subscriber,
                incarnation=self._incarnation,
                host=self._host,
                messages=self._credit.messages,
                nbytes=self._credit.nbytes,
                shared_memory=self._shared_memory,
                probe_answer=answer,
            )
        )
        return agreed

    def _require_leave(self, topic: str, peer: Peer) -> None:
        """Let only those publish who may; who shows the token, or asks an open server, may."""
        if not peer.may(f"topic:publish:{topic}"):
            raise ForbiddenError(
                f"{peer} may not publish {topic!r}: its key was not given topic:publish:{topic}",
                details={"capability": f"topic:publish:{topic}"},
            )

    def _on_announce(self, request: Request, peer: Peer) -> None:
        announce = request.parse(Announce)
        reception = self._reception_of(announce.epoch, peer)
        try:
            reception.announce(announce.name)
        except DescriptorError as error:
            raise InvalidRequestError(str(error)) from error

    def _on_detach(self, request: Request, peer: Peer) -> None:
        epoch = request.parse(Detach).epoch
        self._reception_of(epoch, peer)
        self._intake.read()  # what was sent before still counts
        self._processes.forget(epoch)
        self._intake.end(epoch, GapReason.PRODUCER_LOST)

    def _reception_of(self, epoch: str, peer: Peer) -> Reception:
        reception = self._intake.get(epoch)
        if reception is None or self._peers.get(epoch) != peer.id:
            raise NotFoundError("no such stream of yours; attach first")
        return reception

    def _on_ended(self, epoch: str) -> None:
        self._intake.read()  # what it sent before its end still counts
        self._intake.drop(epoch, GapReason.PRODUCER_LOST)

    def _on_peer_lost(self, peer: Peer) -> None:
        for epoch in [epoch for epoch, id_ in self._peers.items() if id_ == peer.id]:
            self._intake.drop(epoch, GapReason.PRODUCER_LOST)

    def _on_dropped(self, epoch: str) -> None:
        self._peers.pop(epoch, None)
        self._processes.forget(epoch)

    def _tell(self, epoch: str, acks: Acks) -> None:
        peer = self._peers.get(epoch)
        if peer is not None:
            self._control.push(peer, "ack", msgspec.to_builtins(acks))

    def _resend(self, gap: Gap) -> None:
        peer = self._peers.get(gap.epoch)
        if peer is not None:
            wanted = Resend(epoch=gap.epoch, first=gap.first, last=gap.last)
            self._control.push(peer, "resend", msgspec.to_builtins(wanted))

    def _on_lanes(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002 - a handler
        return {"lanes": [msgspec.to_builtins(lane) for lane in self.lanes]}
