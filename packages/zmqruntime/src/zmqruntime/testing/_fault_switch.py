"""FaultSwitch: moves the bytes of a fault proxy, on the proxy's thread."""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from zmqruntime._errors import EndpointInUse
from zmqruntime.testing._fault_link import Ending, Link, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.testing._fault_link import Flow

__all__ = ["FaultSwitch"]

_READ_BYTES = 64 * 1024
_SLICE_S = 0.01  # a limited link sends what fits in this time, so that it does not stutter
_MOST_READ = 16  # chunks in a row, so that other connections get their turn
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; closing then sends RST
_NO_FUSE = (-1, Ending.RST)


class FaultSwitch:
    """Connections of clients, each joined to one of the server, and the faults between them.

    Parameters
    ----------
    target
        Host and port of the server.
    listen
        Host and port on which clients are awaited; port 0 takes a free one.
    buffer_bytes
        Most bytes that are under way in each direction of a connection.

    Attributes
    ----------
    paused, swallowing, delay, bytes_per_s, fuses
        The faults; changed by jobs only.
    changed
        Notified after every turn.

    Notes
    -----
    All methods but `hand_over` belong to the thread that runs `run`.
    """

    def __init__(
        self, target: tuple[str, int], listen: tuple[str, int], *, buffer_bytes: int
    ) -> None:
        self._target = target
        self._family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._buffer_bytes = buffer_bytes
        # The address stays ours while nobody is let in: a bound socket that does not listen.
        self._holder = bound_socket(listen)
        self.address: tuple[str, int] = self._holder.getsockname()[:2]
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._selector.register(self._wake_receive, selectors.EVENT_READ)
        self._jobs: deque[Callable[[], None] | None] = deque()
        self._orphans: set[socket.socket] = set()  # ends that were not told of a cut
        self._now = time.monotonic()  # when it was last seen what could go on
        self.links: set[Link] = set()
        self.counters: Counter[str] = Counter()
        self.changed = threading.Condition()  # guards nothing; tells who waits for counters
        self.paused: set[Way] = set()
        self.swallowing: set[Way] = set()
        self.delay = 0.0
        self.bytes_per_s: float | None = None
        self.fuses: dict[Way, tuple[int, Ending]] = {}
        self.listen()

    def hand_over(self, job: Callable[[], None] | None) -> None:
        """Have something done on the thread; None ends it. Any thread."""
        self._jobs.append(job)
        self._wake_send.send(b"\0")

    def close(self) -> None:
        """Give the last descriptors back, once the thread has ended."""
        self._wake_receive.close()
        self._wake_send.close()

    def run(self) -> None:
        """Move bytes and do jobs until a job is None; then close everything."""
        try:
            while True:
                touched: set[Link] = set()
                for key, _ in self._selector.select(self._patience()):
                    if key.fileobj is self._wake_receive:
                        self._wake_receive.recv(4096)
                    elif key.fileobj is self._listener:
                        touched.update(self._accept())
                    elif isinstance(key.data, Link):
                        touched.add(key.data)
                    else:
                        self._drain(key.data)
                while self._jobs:
                    job = self._jobs.popleft()
                    if job is None:
                        return
                    job()
                    touched = self.links.copy()
                self._move(touched)
                with self.changed:
                    self.changed.notify_all()
        finally:
            self._end()

    def _end(self) -> None:
        self.refuse()
        self.break_links(Ending.RST)
        for orphan in tuple(self._orphans):
            self._end_one(orphan, Ending.RST)
        self._selector.close()
        self._holder.close()
        with self.changed:
            self.changed.notify_all()

    def _patience(self) -> float | None:
        """Say how long nothing can be due; None is without end."""
        dues = [
            flow.due
            for link in self.links
            for flow in link.flows
            if flow.due is not None and not link.dialling and flow.way not in self.paused
        ]
        later = [due for due in dues if due > self._now]  # the others wait for their sink
        return max(0.0, min(later) - time.monotonic()) if later else None

    def listen(self) -> None:
        """Let clients in; twice is harmless."""
        if self._listener is None:
            self._listener = bound_socket(self.address)
            self._listener.listen(128)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def refuse(self) -> None:
        """Let nobody in; twice is harmless."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> tuple[Link, ...]:
        if self._listener is None:
            return ()
        try:
            client, _ = self._listener.accept()
        except OSError:  # it went away while it waited
            return ()
        server = socket.socket(self._family, socket.SOCK_STREAM)
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.counters["accepted"] += 1
        link = Link(client, server)
        self.links.add(link)
        if server.connect_ex(self._target) not in (0, errno.EINPROGRESS):
            self._unreachable(link)
            return ()
        self._watch(server, link, selectors.EVENT_WRITE)
        return ()  # it has something to do when the server has answered

    def _unreachable(self, link: Link) -> None:
        self.counters["unreachable"] += 1
        self._close_link(link, Ending.RST)

    def _drain(self, orphan: socket.socket) -> None:
        try:
            chunk = orphan.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self.counters["swallowed"] += len(chunk)
        if not chunk:
            self._end_one(orphan, Ending.RST)

    def _move(self, touched: set[Link]) -> None:
        """Read and write what can be, and await what cannot."""
        self._now = time.monotonic()
        for link in self.links | touched:
            due = any(flow.due is not None and flow.due <= self._now for flow in link.flows)
            if (due or link in touched) and link in self.links:
                self._move_one(link)

    def _move_one(self, link: Link) -> None:
        try:
            if link.dialling:
                failed = link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    self._unreachable(link)
                    return
                link.server.getpeername()  # raises while it is under way
                link.dialling = False
            for flow in link.flows:
                if link in self.links:
                    self._read(flow)
                    self._write(flow)
        except OSError as error:
            if link.dialling and error.errno == errno.ENOTCONN:
                return
            self._close_link(link, Ending.RST)  # one end reset it: so do we with the other
            return
        if link not in self.links:
            return
        if all(flow.ended for flow in link.flows):
            self._close_link(link, Ending.FIN)
        else:
            self._await(link)

    def _read(self, flow: Flow) -> None:
        for _ in range(_MOST_READ):
            if not self._may_read(flow):
                return
            try:
                chunk = flow.source.recv(_READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                flow.reading = False
            elif flow.way in self.swallowing:
                flow.link.lost_bytes = True
                self.counters["swallowed"] += len(chunk)
            else:
                flow.put(chunk, time.monotonic() + self.delay)

    def _may_read(self, flow: Flow) -> bool:
        room = flow.held_bytes < self._buffer_bytes
        return flow.reading and room and flow.way not in self.paused

    def _write(self, flow: Flow) -> None:
        if flow.way in self.paused:
            return
        while (due := flow.due) is not None and due <= self._now:
            if self.fuses.get(flow.way, _NO_FUSE)[0] == 0:
                self._blow(flow.way)
                return
            try:
                count = flow.write(self._most_now(flow.way))
            except BlockingIOError:
                return
            self.counters[flow.way] += count
            if self.bytes_per_s is not None:
                flow.free_at = max(self._now, flow.free_at) + count / self.bytes_per_s
            left, ending = self.fuses.get(flow.way, _NO_FUSE)
            if left >= 0:
                self.fuses[flow.way] = (left - count, ending)
                if left == count:
                    self._blow(flow.way)
                    return
        if not (flow.reading or flow.held_bytes or flow.ended):
            flow.ended = True
            flow.sink.shutdown(socket.SHUT_WR)

    def _most_now(self, way: Way) -> int:
        """Say how many bytes may be written in one go."""
        most = _READ_BYTES
        if self.bytes_per_s is not None:
            most = max(1, min(most, int(self.bytes_per_s * _SLICE_S)))
        left = self.fuses.get(way, _NO_FUSE)[0]
        return most if left < 0 else min(most, left)

    def _blow(self, way: Way) -> None:
        self.break_links(self.fuses.pop(way)[1])

    def _await(self, link: Link) -> None:
        """Watch each socket for what can go on, and for nothing else."""
        to_server, to_client = link.flows
        for end, incoming, outgoing in (
            (link.client, to_server, to_client),
            (link.server, to_client, to_server),
        ):
            wanted = selectors.EVENT_READ if self._may_read(incoming) else 0
            due = outgoing.due
            if due is not None and due <= self._now and outgoing.way not in self.paused:
                wanted |= selectors.EVENT_WRITE
            self._watch(end, link, wanted)

    def _watch(self, end: socket.socket, data: object, wanted: int) -> None:
        watched = self._selector.get_map().get(end)
        if watched is None and wanted:
            self._selector.register(end, wanted, data)
        elif watched is not None and not wanted:
            self._selector.unregister(end)
        elif watched is not None and (watched.events, watched.data) != (wanted, data):
            self._selector.modify(end, wanted, data)

    def break_links(self, ending: Ending, told: Way = Way.BOTH) -> None:
        """End all connections, and tell both ends or one."""
        for link in tuple(self.links):
            self.counters["broken"] += 1
            self._close_link(link, ending, told)

    def heal(self) -> None:
        """End every fault; connections that lost bytes are reset."""
        self.paused.clear()
        self.swallowing.clear()
        self.fuses.clear()
        self.delay, self.bytes_per_s = 0.0, None
        for link in tuple(self.links):
            if link.lost_bytes:
                self.counters["broken"] += 1
                self._close_link(link, Ending.RST)
        for orphan in tuple(self._orphans):
            self._end_one(orphan, Ending.RST)
        self.listen()

    def _close_link(self, link: Link, ending: Ending, told: Way = Way.BOTH) -> None:
        self.links.discard(link)
        for end, way in ((link.client, Way.TO_CLIENT), (link.server, Way.TO_SERVER)):
            if told.covers(way):
                self._end_one(end, ending)
            else:
                self._orphans.add(end)
                self._watch(end, end, selectors.EVENT_READ)

    def _end_one(self, end: socket.socket, ending: Ending) -> None:
        self._orphans.discard(end)
        self._watch(end, None, 0)
        if ending is Ending.RST:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        end.close()


def bound_socket(address: tuple[str, int]) -> socket.socket:
    """Return a socket that holds an address, beside others of ours that do not listen there."""
    holder = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        if address[1]:  # else the system might give a port that another one of ours holds
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        holder.close()
        raise EndpointInUse(
            f"{address[0]}:{address[1]} cannot be taken: {error.strerror}"
        ) from error
    return holder
