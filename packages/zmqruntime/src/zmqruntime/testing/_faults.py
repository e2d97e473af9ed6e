"""FaultProxy: a TCP link between a client and a server that fails as it is told."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from zmqruntime.testing._fault_link import Ending, Way
from zmqruntime.testing._fault_switch import FaultSwitch

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from typing import Self

__all__ = ["Ending", "FaultProxy", "Way"]

_ANSWER_S = 10.0  # the thread only moves bytes; one that takes longer is broken


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
    >>> import socket
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
        self._switch = FaultSwitch(self.target, listen, buffer_bytes=buffer_bytes)
        self._closed = False
        self._thread = threading.Thread(
            target=self._switch.run, name=f"faults-{self.port}", daemon=True
        )
        self._thread.start()

    @property
    def counters(self) -> Counter[str]:
        """What happened so far."""
        return self._switch.counters

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that clients connect to."""
        return self._switch.address

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
        return len(self._switch.links)

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
        with self._switch.changed:
            return self._switch.changed.wait_for(lambda: bool(condition()), timeout)

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
            self._switch.refuse()
            self._switch.break_links(ending, told)

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
        self._do(lambda: self._switch.break_links(ending))

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
        self._do(lambda: self._switch.fuses.__setitem__(way, (nbytes, ending)))

    def pause(self, way: Way | str = Way.BOTH) -> None:
        """Pass nothing on until `resume`; nothing is lost, and nobody is told.

        Parameters
        ----------
        way
            Which way stands still.
        """
        ways = _single(Way(way))
        self._do(lambda: self._switch.paused.update(ways))

    def resume(self, way: Way | str = Way.BOTH) -> None:
        """Go on where `pause` stopped.

        Parameters
        ----------
        way
            Which way goes on.
        """
        ways = _single(Way(way))
        self._do(lambda: self._switch.paused.difference_update(ways))

    def swallow(self, way: Way | str = Way.BOTH) -> None:
        """Take bytes and throw them away, until `heal`; connections stay and are accepted.

        Parameters
        ----------
        way
            Which way bytes vanish.
        """
        ways = _single(Way(way))
        self._do(lambda: self._switch.swallowing.update(ways))

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
        self._do(lambda: setattr(self._switch, "delay", seconds))

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
        self._do(lambda: setattr(self._switch, "bytes_per_s", bytes_per_s))

    def heal(self) -> None:
        """End every fault: let connections in, pass everything on, at once.

        A connection of which bytes were lost cannot be mended: it is reset.
        """
        self._do(self._switch.heal)

    def close(self) -> None:
        """End all connections and the thread; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._switch.hand_over(None)
        self._thread.join()
        self._switch.close()

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

        self._switch.hand_over(run)
        done.result(_ANSWER_S)


def _single(way: Way) -> tuple[Way, ...]:
    return (Way.TO_SERVER, Way.TO_CLIENT) if way is Way.BOTH else (way,)
