"""FaultProxy: a TCP link between a client and a server that fails as it is told."""

from __future__ import annotations

import errno
import math
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING

from zmqruntime._errors import EndpointInUse

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["Ending", "FaultProxy", "Way"]

_READ_BYTES = 64 * 1024
_SLICE_S = 0.01  # a limited link sends what fits in this time, so that it does not stutter
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s; closing then sends RST
_MOST_READ = 16  # chunks in a row, so that other connections get their turn
_ANSWER_S = 10.0  # the thread only moves bytes; one that takes longer is broken


class Way(StrEnum):
    """Which of the two ways of a link a fault concerns."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"
    BOTH = "both"

    def covers(self, other: Way) -> bool:
        """Say whether a fault of this way concerns one single way."""
        return self in (Way.BOTH, other)


class Ending(StrEnum):
    """How a connection ends: in order, or by a reset as of a crash or a firewall."""

    FIN = "fin"
    RST = "rst"


_NO_FUSE = (-1, Ending.RST)


class _Flow:
    """One way of one connection: bytes that were read and are not written yet."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "ended",
        "free_at",
        "link",
        "reading",
        "sink",
        "source",
        "way",
    )

    def __init__(self, link: _Link, way: Way, source: socket.socket, sink: socket.socket) -> None:
        self.link = link
        self.way = way
        self.source = source
        self.sink = sink
        self._held: deque[tuple[float, memoryview]] = deque()  # (due, bytes)
        self._held_bytes = 0
        self.free_at = 0.0  # when a limited link may send again
        self.reading = True  # until the source has ended
        self.ended = False  # the sink was told so

    @property
    def held_bytes(self) -> int:
        """How many bytes are on their way."""
        return self._held_bytes

    @property
    def due(self) -> float | None:
        """When the next bytes may go; None without any."""
        return max(self._held[0][0], self.free_at) if self._held else None

    def put(self, chunk: bytes, due: float) -> None:
        self._held.append((due, memoryview(chunk)))
        self._held_bytes += len(chunk)

    def write(self, most: int) -> int:
        """Write what the sink takes of the first chunk, at most so many bytes."""
        due, chunk = self._held[0]
        count = self.sink.send(chunk[:most])
        self._held_bytes -= count
        if count == len(chunk):
            self._held.popleft()
        else:
            self._held[0] = (due, chunk[count:])
        return count


class _Link:
    """One connection of a client, and the one to the server that belongs to it."""

    __slots__ = ("client", "dialling", "flows", "lost_bytes", "server")

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.dialling = True
        self.lost_bytes = False
        self.flows = (
            _Flow(self, Way.TO_SERVER, client, server),
            _Flow(self, Way.TO_CLIENT, server, client),
        )


class FaultProxy:
    """Stands between clients and a server, passes their bytes on, and fails when it is told.

    Every method may be called from any thread; when it returns, what it says is so. A thread of
    the proxy's own moves the bytes and sleeps while there are none.

    Parameters
    ----------
    target
        Host and port of the server, which need not run yet.
    listen
        Host and port on which clients are awaited; port 0 takes a free one.
    buffer_bytes
        Most bytes that are under way in each direction of a connection; more make the sender
        wait, as a real link does. A delayed link needs bandwidth times delay.

    Attributes
    ----------
    counters
        ``accepted`` connections, ``unreachable`` ones for which the server was not there,
        ``broken`` ones that a fault ended, bytes passed ``to_server`` and ``to_client``, and
        ``swallowed`` bytes.

    Raises
    ------
    EndpointInUse
        If the address is taken.

    Notes
    -----
    The proxy knows nothing of what the bytes mean, so it serves any protocol over TCP. It is a
    double for tests: it accepts whoever connects, and belongs on loopback.

    Examples
    --------
    >>> with socket.create_server(("127.0.0.1", 0)) as server:
    ...     with FaultProxy(server.getsockname()) as proxy:
    ...         with socket.create_connection(proxy.address) as client:
    ...             _ = proxy.wait_for(lambda: proxy.connections == 1)
    ...             proxy.cut()
    ...         proxy.connections
    0
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        buffer_bytes: int = 1 << 20,
    ) -> None:
        self.target = (target[0], target[1])
        self.counters: Counter[str] = Counter()
        self._buffer_bytes = buffer_bytes
        self._family = socket.AF_INET6 if ":" in self.target[0] else socket.AF_INET
        # The address stays ours while nobody is let in: a bound socket that does not listen.
        self._holder = _bound(listen)
        self.address: tuple[str, int] = self._holder.getsockname()[:2]
        self._listener: socket.socket | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_receive, self._wake_send = socket.socketpair()
        self._wake_receive.setblocking(False)
        self._selector.register(self._wake_receive, selectors.EVENT_READ)
        self._links: set[_Link] = set()
        self._orphans: set[socket.socket] = set()  # ends that were not told of a cut
        self._jobs: deque[Callable[[], None] | None] = deque()
        self._changed = threading.Condition()  # guards nothing; tells who waits for counters
        self._closed = False
        self._paused: set[Way] = set()
        self._swallowing: set[Way] = set()
        self._delay = 0.0
        self._bytes_per_s: float | None = None
        self._fuses: dict[Way, tuple[int, Ending]] = {}
        self._now = time.monotonic()  # when it was last seen what could go on
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"faults-{self.port}", daemon=True)
        self._thread.start()

    # What a test calls.

    @property
    def host(self) -> str:
        """Host that clients connect to."""
        return self.address[0]

    @property
    def port(self) -> int:
        """Port that clients connect to."""
        return self.address[1]

    @property
    def url(self) -> str:
        """ZeroMQ URL that clients connect to."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._links)

    def wait_for(self, condition: Callable[[], object], timeout: float = 10.0) -> bool:
        """Wait until something is so; it is looked at whenever bytes or connections moved.

        Parameters
        ----------
        condition
            Called without arguments; reads `counters` or `connections`, for example.
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether it is so.
        """
        with self._changed:
            return self._changed.wait_for(lambda: bool(condition()), timeout)

    def cut(self, ending: Ending | str = Ending.RST, *, told: Way | str = Way.BOTH) -> None:
        """End every connection and refuse new ones, until `heal`.

        Parameters
        ----------
        ending
            How they end.
        told
            Which end learns of it: ``to_server`` tells the server only, and the client goes on
            talking to nobody, as behind a router that crashed.

        Raises
        ------
        ValueError
            If the ending or the way is unknown.
        """
        ending, told = Ending(ending), Way(told)

        def cut() -> None:
            self._refuse()
            self._break(ending, told)

        self._do(cut)

    def break_connections(self, ending: Ending | str = Ending.RST) -> None:
        """End every connection that is open now; new ones are let through.

        Parameters
        ----------
        ending
            How they end.

        Raises
        ------
        ValueError
            If the ending is unknown.
        """
        ending = Ending(ending)
        self._do(lambda: self._break(ending))

    def cut_after(
        self, nbytes: int, way: Way | str = Way.TO_SERVER, *, ending: Ending | str = Ending.RST
    ) -> None:
        """Break all connections once so many more bytes have passed, wherever that falls.

        Parameters
        ----------
        nbytes
            How many, at least 0; all connections count together.
        way
            Which way they are counted.
        ending
            How connections end then. New ones are let through.

        Raises
        ------
        ValueError
            If the number is negative, or the way is both.
        """
        way, ending = Way(way), Ending(ending)
        if nbytes < 0 or way is Way.BOTH:
            raise ValueError(f"a link breaks after at least 0 bytes of one way, not {nbytes} {way}")
        self._do(lambda: self._fuses.__setitem__(way, (nbytes, ending)))

    def pause(self, way: Way | str = Way.BOTH) -> None:
        """Pass nothing on until `resume`; nothing is lost, and nobody is told.

        Parameters
        ----------
        way
            Which way stands still.
        """
        ways = _single(Way(way))
        self._do(lambda: self._paused.update(ways))

    def resume(self, way: Way | str = Way.BOTH) -> None:
        """Go on where `pause` stopped.

        Parameters
        ----------
        way
            Which way goes on.
        """
        ways = _single(Way(way))
        self._do(lambda: self._paused.difference_update(ways))

    def swallow(self, way: Way | str = Way.BOTH) -> None:
        """Take bytes and throw them away, until `heal`; connections stay and are accepted.

        Parameters
        ----------
        way
            Which way bytes vanish.
        """
        ways = _single(Way(way))
        self._do(lambda: self._swallowing.update(ways))

    def delay(self, seconds: float) -> None:
        """Let bytes that come from now on take this much longer, each way.

        Parameters
        ----------
        seconds
            At least 0.

        Raises
        ------
        ValueError
            If bytes would arrive before they are sent.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"bytes cannot take {seconds} s")
        self._do(lambda: setattr(self, "_delay", seconds))

    def limit(self, bytes_per_s: float | None) -> None:
        """Let no more bytes through per second, each way of each connection.

        Parameters
        ----------
        bytes_per_s
            More than 0; None for as many as come.

        Raises
        ------
        ValueError
            If nothing would ever arrive.
        """
        if bytes_per_s is not None and not bytes_per_s > 0:
            raise ValueError(f"a link of {bytes_per_s} bytes/s is a cut one: use cut()")
        self._do(lambda: setattr(self, "_bytes_per_s", bytes_per_s))

    def heal(self) -> None:
        """End every fault: let connections in, pass everything on, at once.

        A connection of which bytes were lost cannot be mended: it is reset.
        """
        self._do(self._heal)

    def close(self) -> None:
        """End all connections and the thread; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._jobs.append(None)
        self._wake_send.send(b"\0")
        self._thread.join()
        self._wake_receive.close()
        self._wake_send.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy {self.host}:{self.port} to {self.target[0]}:{self.target[1]}>"

    def _do(self, job: Callable[[], object]) -> None:
        """Have something done on the thread, and wait until it is."""
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        done: Future[None] = Future()

        def run() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - belongs to whoever waits
                done.set_exception(error)
            else:
                done.set_result(None)

        self._jobs.append(run)
        self._wake_send.send(b"\0")
        done.result(_ANSWER_S)

    # What follows runs on the thread.

    def _run(self) -> None:
        try:
            while True:
                touched: set[_Link] = set()
                for key, _ in self._selector.select(self._patience()):
                    if key.fileobj is self._wake_receive:
                        self._wake_receive.recv(4096)
                    elif key.fileobj is self._listener:
                        touched.update(self._accept())
                    elif isinstance(key.data, _Link):
                        touched.add(key.data)
                    else:
                        self._drain(key.data)
                while self._jobs:
                    job = self._jobs.popleft()
                    if job is None:
                        return
                    job()
                    touched = self._links.copy()
                self._move(touched)
                with self._changed:
                    self._changed.notify_all()
        finally:
            self._end()

    def _end(self) -> None:
        self._refuse()
        self._break(Ending.RST)
        for orphan in tuple(self._orphans):
            self._end_one(orphan, Ending.RST)
        self._selector.close()
        self._holder.close()
        with self._changed:
            self._changed.notify_all()

    def _patience(self) -> float | None:
        """Say how long nothing can be due; None is without end."""
        dues = [
            flow.due
            for link in self._links
            for flow in link.flows
            if flow.due is not None and not link.dialling and flow.way not in self._paused
        ]
        later = [due for due in dues if due > self._now]  # the others wait for their sink
        return max(0.0, min(later) - time.monotonic()) if later else None

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.address)
            self._listener.listen(128)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _refuse(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> tuple[_Link, ...]:
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
        link = _Link(client, server)
        self._links.add(link)
        if server.connect_ex(self.target) not in (0, errno.EINPROGRESS):
            self._unreachable(link)
            return ()
        self._watch(server, link, selectors.EVENT_WRITE)
        return ()  # it has something to do when the server has answered

    def _unreachable(self, link: _Link) -> None:
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

    def _move(self, touched: set[_Link]) -> None:
        """Read and write what can be, and await what cannot."""
        self._now = time.monotonic()
        for link in self._links | touched:
            due = any(flow.due is not None and flow.due <= self._now for flow in link.flows)
            if (due or link in touched) and link in self._links:
                self._move_one(link)

    def _move_one(self, link: _Link) -> None:
        try:
            if link.dialling:
                failed = link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    self._unreachable(link)
                    return
                link.server.getpeername()  # raises while it is under way
                link.dialling = False
            for flow in link.flows:
                if link in self._links:
                    self._read(flow)
                    self._write(flow)
        except OSError as error:
            if link.dialling and error.errno == errno.ENOTCONN:
                return
            self._close_link(link, Ending.RST)  # one end reset it: so do we with the other
            return
        if link not in self._links:
            return
        if all(flow.ended for flow in link.flows):
            self._close_link(link, Ending.FIN)
        else:
            self._await(link)

    def _read(self, flow: _Flow) -> None:
        for _ in range(_MOST_READ):
            if not self._may_read(flow):
                return
            try:
                chunk = flow.source.recv(_READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                flow.reading = False
            elif flow.way in self._swallowing:
                flow.link.lost_bytes = True
                self.counters["swallowed"] += len(chunk)
            else:
                flow.put(chunk, time.monotonic() + self._delay)

    def _may_read(self, flow: _Flow) -> bool:
        room = flow.held_bytes < self._buffer_bytes
        return flow.reading and room and flow.way not in self._paused

    def _write(self, flow: _Flow) -> None:
        if flow.way in self._paused:
            return
        while (due := flow.due) is not None and due <= self._now:
            if self._fuses.get(flow.way, _NO_FUSE)[0] == 0:
                self._blow(flow.way)
                return
            try:
                count = flow.write(self._most_now(flow.way))
            except BlockingIOError:
                return
            self.counters[flow.way] += count
            if self._bytes_per_s is not None:
                flow.free_at = max(self._now, flow.free_at) + count / self._bytes_per_s
            left, ending = self._fuses.get(flow.way, _NO_FUSE)
            if left >= 0:
                self._fuses[flow.way] = (left - count, ending)
                if left == count:
                    self._blow(flow.way)
                    return
        if not (flow.reading or flow.held_bytes or flow.ended):
            flow.ended = True
            flow.sink.shutdown(socket.SHUT_WR)

    def _most_now(self, way: Way) -> int:
        """Say how many bytes may be written in one go."""
        most = _READ_BYTES
        if self._bytes_per_s is not None:
            most = max(1, min(most, int(self._bytes_per_s * _SLICE_S)))
        left = self._fuses.get(way, _NO_FUSE)[0]
        return most if left < 0 else min(most, left)

    def _blow(self, way: Way) -> None:
        self._break(self._fuses.pop(way)[1])

    def _await(self, link: _Link) -> None:
        """Watch each socket for what can go on, and for nothing else."""
        to_server, to_client = link.flows
        for end, incoming, outgoing in (
            (link.client, to_server, to_client),
            (link.server, to_client, to_server),
        ):
            wanted = selectors.EVENT_READ if self._may_read(incoming) else 0
            due = outgoing.due
            if due is not None and due <= self._now and outgoing.way not in self._paused:
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

    def _break(self, ending: Ending, told: Way = Way.BOTH) -> None:
        for link in tuple(self._links):
            self.counters["broken"] += 1
            self._close_link(link, ending, told)

    def _heal(self) -> None:
        self._paused.clear()
        self._swallowing.clear()
        self._fuses.clear()
        self._delay, self._bytes_per_s = 0.0, None
        for link in tuple(self._links):
            if link.lost_bytes:
                self.counters["broken"] += 1
                self._close_link(link, Ending.RST)
        for orphan in tuple(self._orphans):
            self._end_one(orphan, Ending.RST)
        self._listen()

    def _close_link(self, link: _Link, ending: Ending, told: Way = Way.BOTH) -> None:
        self._links.discard(link)
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


def _bound(address: tuple[str, int]) -> socket.socket:
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


def _single(way: Way) -> tuple[Way, ...]:
    return (Way.TO_SERVER, Way.TO_CLIENT) if way is Way.BOTH else (way,)
