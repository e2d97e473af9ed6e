"""Attachment: finding a receiver and staying with it; everything of a publisher on the loop.

It asks on the control channel to take part, proves that both ends share a host, waits for the
subscription on the data channel, and begins again whenever one of them is lost.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import zmq

from zmqruntime._errors import ControlTimeout, LoopStoppedError, PeerLostError, RequestError
from zmqruntime._typed import from_plain
from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity, Probe, judge
from zmqruntime.data._credits import Credit
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._lane import Lane
from zmqruntime.data._stream_messages import Announce, Attach, Attached, Detach
from zmqruntime.data._subscriptions import Bounds, Subscriptions
from zmqruntime.loop._descriptors import descriptor_of
from zmqruntime.loop._frames import send_frames
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from zmqruntime._client import ZMQClient
    from zmqruntime.control._handshake import Welcome
    from zmqruntime.control._messages import Reply
    from zmqruntime.data._stream_messages import AckStatus, Mode
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["Attachment", "LaneEvents"]

logger = logging.getLogger(__name__)

_RECONNECT_MS = 50
_ATTACH_S = 5.0
_LINGER_MS = 200
# A viewer's socket tells each of its producers the names of the runs of all of them, and has room
# for 256 runs, with names of 1 KiB at the most.
_BOUNDS = Bounds(names=1024, nbytes=384 << 10, ahead=384 << 10)
_FIRST_BAN_S, _LONGEST_BAN_S = 0.25, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneEvents:
    """What a publisher is told about its receiver, on the loop.

    Attributes
    ----------
    agreed
        A receiver has agreed to a run, but does not listen yet.
    began
        It listens: messages may be sent.
    ended
        The present run, if any, is over: why, as a word and as a sentence.
    waiting
        There is no receiver: why.
    """

    agreed: Callable[[Lane], object]
    began: Callable[[Lane], object]
    ended: Callable[[GapReason, str], object]
    waiting: Callable[[str], object]


class Attachment:
    """The loop's half of a publisher.

    Parameters
    ----------
    client
        Connection to the service.
    events
        Who is told.
    topic, mode, until
        As for `Publisher`.
    host
        Where this process runs.
    shared_memory
        Whether to offer shared memory.
    directory
        Where segments lie.
    replay_bytes
        Most bytes to keep of what is not acknowledged.

    Notes
    -----
    Every method but `start` and `announce` runs on the client's loop.
    """

    def __init__(
        self,
        client: ZMQClient,
        events: LaneEvents,
        *,
        topic: str,
        mode: Mode,
        until: AckStatus,
        host: HostIdentity,
        shared_memory: bool,
        directory: Path,
        replay_bytes: int = 0,
    ) -> None:
        self._replay_bytes = replay_bytes
        self._client = client
        self._events = events
        self._topic = topic
        self._mode = mode
        self._until = until
        self._host = host
        self._shared_memory = shared_memory
        self._directory = directory
        self._loop = client.loop
        self._peer = str(client.endpoint)
        self._socket: zmq.Socket[bytes] | None = None
        self._url = ""
        self._lane: Lane | None = None
        self._subscribed: set[bytes] = set()
        self._subscriptions: Subscriptions | None = None
        self._cut = 0  # of sockets that are closed
        self._bans = Backoff(first=_FIRST_BAN_S, longest=_LONGEST_BAN_S)
        self._ban: TimerHandle | None = None
        self._attempt = 0
        self._backoff = Backoff()
        self._retry: TimerHandle | None = None
        self._closed = False

    @property
    def cut(self) -> int:
        """Connections that were ended because they were misused; any thread."""
        subscriptions = self._subscriptions
        return self._cut + (0 if subscriptions is None else subscriptions.cut)

    def start(self) -> None:
        """Follow the client from now on; any thread."""
        self._client.on_welcome(self._on_welcome)
        self._client.on_lost(self._on_lost)
        if self._client.connected:
            self._loop.call_soon(self._on_welcome, self._client.welcome)

    def send(self, lane: Lane, frames: Sequence[bytes | memoryview]) -> None:
        """Send one message of the present run; of another one nothing is sent.

        Parameters
        ----------
        lane
            The run it belongs to.
        frames
            The message.
        """
        if self._socket is None or lane is not self._lane:
            return  # reported when the run ended
        try:
            send_frames(self._socket, frames)
        except zmq.Again:
            # There is no high-water mark and the receiver listens: its connection is just ending.
            self._end(GapReason.HWM, "the data socket took no more messages")
            self._attach()

    def announce(self, lane: Lane, name: str) -> Future[object]:
        """Tell the receiver the name of a segment; any thread.

        Returns
        -------
        Future
            Done when it has opened it; an error if it could not, or is gone.
        """
        announce = Announce(epoch=lane.epoch, name=name)
        answer: Any = self._client.control.request_nowait("arena", msgspec.to_builtins(announce))
        return cast("Future[object]", answer)

    def close(self) -> None:
        """Take leave of the receiver and close the socket."""
        self._closed = True
        self._cancel_retry()
        if self._ban is not None:
            self._ban.cancel()
        if self._lane is not None:
            self._detach(self._lane.epoch)
            self._lane = None
        self._close_socket(linger=_LINGER_MS)

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._closed or self._ban is not None:
            return
        here = self._client.endpoint
        url = replace(here, data_port_offset=welcome.ports.data - here.port).data_url
        if self._socket is None or url != self._url or self._client.keys is not None:
            self._open(url)  # a socket whose key was refused does not try again by itself
        self._end(GapReason.LINK, "the connection was made anew")
        self._attach()

    def _on_lost(self, reason: str) -> None:
        self._attempt += 1  # an answer that is under way belongs to the past
        self._cancel_retry()
        self._end(GapReason.RECEIVER_LOST, reason)

    def _open(self, url: str) -> None:
        self._close_socket(linger=0)
        socket = self._loop.context.socket(zmq.XPUB)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for whoever listens there next
        socket.setsockopt(zmq.SNDHWM, 0)  # credit bounds what is under way, not libzmq
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.IPV6, 1 if "[" in url else 0)
        self._client.secure(socket)
        subscriptions = Subscriptions(
            socket, bounds=_BOUNDS, outward=True, on_event=self._on_connection
        )
        self._socket, self._url, self._subscriptions = socket, url, subscriptions
        self._loop.register(socket, self._on_subscriptions)
        socket.connect(url)
        subscriptions.begin()

    def _close_socket(self, *, linger: int) -> None:
        self._subscribed = set()
        if self._subscriptions is not None:
            self._subscriptions.close()
            gone, self._subscriptions = self._subscriptions, None
            self._cut += gone.cut
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=linger)
            self._socket = None

    def _attach(self) -> None:
        """Ask the receiver to let us take part."""
        if self._closed or self._ban is not None or not self._client.connected:
            return
        self._cancel_retry()
        self._attempt += 1
        attempt, probe = self._attempt, self._make_probe()
        attach = Attach(
            topic=self._topic,
            mode=self._mode,
            producer=f"{self._client.app} (pid {self._host.pid})",
            host=self._host,
            probe="" if probe is None else probe.name,
            challenge="" if probe is None else probe.challenge,
        )
        try:
            future = self._client.control.request_nowait(
                "attach", msgspec.to_builtins(attach), timeout=_ATTACH_S
            )
        except LoopStoppedError:  # the client is being closed
            if probe is not None:
                probe.close()
            return
        future.add_done_callback(lambda done: self._on_answer(attempt, probe, done))

    def _make_probe(self) -> Probe | None:
        if not self._shared_memory:
            return None
        try:
            return Probe(directory=self._directory)
        except OSError as error:
            logger.warning(
                "%s: no probe can be made, so no memory is shared: %s", self._peer, error
            )
            return None

    def _on_answer(self, attempt: int, probe: Probe | None, future: Future[Reply]) -> None:
        try:
            attached = from_plain(future.result().body, Attached)
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            if attempt == self._attempt and not self._closed:
                self._events.waiting(f"{self._peer} did not let us take part: {error}")
                self._retry = self._loop.call_later(self._backoff.next(), self._attach)
            return
        except (PeerLostError, LoopStoppedError):
            return  # the next welcome attaches again
        finally:
            if probe is not None:
                probe.close()
        if attempt != self._attempt or self._closed:
            self._detach(attached.epoch)
            return
        self._backoff.reset()
        self._lane = Lane(
            topic=self._topic,
            mode=self._mode,
            epoch=attached.epoch,
            subscriber=attached.subscriber,
            incarnation=attached.incarnation,
            peer=self._peer,
            host=attached.host,
            credit=Credit(attached.messages, attached.nbytes),
            reason=self._judge(attached, probe),
            until=self._until,
            replay_bytes=self._replay_bytes,
        )
        self._events.agreed(self._lane)
        self._look()

    def _judge(self, attached: Attached, probe: Probe | None) -> CarrierReason:
        if not self._shared_memory or not attached.shared_memory:
            return CarrierReason.DISABLED
        if probe is None:
            return CarrierReason.NO_ROOM
        return judge(self._host, attached.host, proved=probe.verify(attached.probe_answer))

    def _on_subscriptions(self) -> None:
        if self._subscriptions is None:
            return
        listeners, someone_left = self._subscriptions.listeners, False
        for read in self._subscriptions.read():
            frame, descriptor = read.bytes, descriptor_of(read)
            if frame[:1] == b"\x01":
                if listeners.subscribed(descriptor, frame[1:], invited=False):
                    self._subscribed.add(frame[1:])
            elif frame[:1] == b"\x00":
                listeners.unsubscribed(descriptor, frame[1:])
                self._subscribed.discard(frame[1:])
                someone_left |= descriptor < 0  # of one that is gone, libzmq says so itself
            else:
                self._subscriptions.lead_astray(descriptor)
        if someone_left:
            listeners.look()
        if self._subscriptions.cut:
            self._shun()
        else:
            self._look()

    def _on_connection(self, event: int, _descriptor: int) -> None:
        """Learn that a connection ended, perhaps because it was cut off; on another thread."""
        if event == zmq.EVENT_DISCONNECTED:
            with contextlib.suppress(LoopStoppedError):
                self._loop.call_soon(self._on_subscriptions)

    def _shun(self) -> None:
        """Leave a receiver alone for a while that subscribed to more than anybody needs."""
        self._close_socket(linger=0)
        self._cancel_retry()
        self._attempt += 1  # an answer that is under way belongs to the past
        wait = self._bans.next()
        if self._lane is not None:
            self._detach(self._lane.epoch)
        why = f"it subscribed to what nobody needs and was cut off, for {wait:g} s"
        self._end(GapReason.LINK, why)
        self._events.waiting(f"{self._peer}: {why}")
        logger.warning("%s: %s", self._peer, why)
        self._ban = self._loop.call_later(wait, self._return)

    def _return(self) -> None:
        self._ban = None
        if self._client.connected:  # otherwise the next welcome opens the socket
            self._on_welcome(self._client.welcome)

    def _look(self) -> None:
        """Compare the subscriptions with the present run."""
        lane = self._lane
        if lane is None:
            return
        listens = lane.filter in self._subscribed
        if listens and not lane.subscribed:
            self._events.began(lane)
        elif lane.subscribed and not listens:
            self._end(GapReason.LINK, "the receiver left the data channel")
            self._detach(lane.epoch)
            self._attach()

    def _end(self, reason: GapReason, why: str) -> None:
        self._lane = None
        self._events.ended(reason, why)

    def _detach(self, epoch: str) -> None:
        self._client.control.notify("detach", msgspec.to_builtins(Detach(epoch=epoch)))

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
