"""StreamDesk: which streams a server has, and what may be done to them while it runs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from zmqruntime._errors import InvalidRequestError, NotFoundError
from zmqruntime.router._errors import ExposeError
from zmqruntime.router._messages import check_stream_name
from zmqruntime.router._streams import ManualStream, PeriodicStream, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.router._config import RelayConfig
    from zmqruntime.router._streams import Publish, Stream

__all__ = ["Relayed", "StreamDesk"]

logger = logging.getLogger(__name__)

_CLOSE_S = 2.0


class Relayed(Protocol):
    """A stream that comes from elsewhere; the desk calls it on any thread."""

    name: str

    def start(self) -> None:
        """Look for the source from now on."""

    def set_enabled(self, *, enabled: bool) -> None:
        """Pass on what comes, or do not; nothing changes if it is so already."""

    def close(self) -> None:
        """Let go of the source and its sockets; twice is harmless."""

    def describe(self) -> dict[str, Any]:
        """Say where it comes from and how it stands, in plain values."""

    def counters(self) -> dict[str, int]:
        """Count what became of it."""

    def config(self) -> RelayConfig:
        """Say how to make it again."""

    def route(self, via: Sequence[str], timeout: float) -> list[str]:
        """Say through which servers it comes, for one that the question came through."""


class StreamDesk:
    """The streams of one server; any thread.

    Parameters
    ----------
    publish
        Sends what a function returned or raised; called on the thread of its rate.
    on_removed
        Called with the name of a stream that was removed.
    """

    def __init__(self, publish: Publish, *, on_removed: Callable[[str], object]) -> None:
        self._publish = publish
        self._on_removed = on_removed
        self._lock = threading.RLock()
        self._periodic: dict[str, PeriodicStream] = {}
        self._manual: dict[str, ManualStream] = {}
        self._relayed: dict[str, Relayed] = {}
        self._rates: dict[float, Rate] = {}
        self._started = False

    def start(self) -> None:
        """Begin to call functions and to look for sources; twice is harmless."""
        with self._lock:
            if self._started:
                return
            self._started = True
            for stream in self._periodic.values():
                self._schedule(stream)
            for relay in self._relayed.values():
                relay.start()

    def close(self) -> None:
        """Call no more functions and let go of all relays; twice is harmless."""
        with self._lock:
            self._started = False
            rates = list(self._rates.values())
            relayed = list(self._relayed.values())
            self._rates.clear()
        for relay in relayed:
            relay.close()
        for rate in rates:
            if not rate.close(_CLOSE_S):
                logger.warning("a stream of %g Hz has not returned; its thread is left", rate.hz)

    def check_free(self, name: str) -> None:
        """Check that a name can be given to a new stream.

        Raises
        ------
        ExposeError
            If it cannot be one, or is taken.
        """
        check_stream_name(name)
        if name in self.names:
            raise ExposeError(f"there is a stream {name!r} already")

    def add_periodic(self, stream: PeriodicStream) -> None:
        """Offer a function that is called at a rate.

        Raises
        ------
        ExposeError
            If its name is taken or cannot be one, or its rate is none.
        """
        with self._lock:
            self.check_free(stream.name)
            try:
                Rate(stream.hz, publish=self._publish)
            except ValueError as error:
                raise ExposeError(f"stream {stream.name!r}: {error}") from error
            self._periodic[stream.name] = stream
            if self._started:
                self._schedule(stream)

    def add_manual(self, stream: ManualStream) -> ManualStream:
        """Offer a stream of the application; the one that is there, if it is alike.

        Raises
        ------
        ExposeError
            If its name is taken or cannot be one.
        """
        with self._lock:
            known = self._manual.get(stream.name)
            if known is not None and known.encoding == stream.encoding:
                return known
            self.check_free(stream.name)
            self._manual[stream.name] = stream
            return stream

    def add_relayed(self, relay: Relayed) -> None:
        """Offer a stream from elsewhere.

        Raises
        ------
        ExposeError
            If its name is taken or cannot be one.
        """
        with self._lock:
            self.check_free(relay.name)
            if self._started:
                relay.start()
            self._relayed[relay.name] = relay

    def has_manual(self, stream: ManualStream) -> bool:
        """Say whether a stream of the application is still offered."""
        return self._manual.get(stream.name) is stream

    def set_enabled(self, name: str, *, enabled: bool) -> None:
        """Switch a stream on or off; nothing changes if it is so already.

        Raises
        ------
        NotFoundError
            If there is no such stream.
        InvalidRequestError
            If the application sends it, and so decides itself.
        """
        with self._lock:
            stream = self._periodic.get(name)
            relay = self._relayed.get(name)
            manual = name in self._manual
            rate = None if stream is None else self._rates.get(stream.hz)
        if stream is not None:
            if rate is None:
                stream.enabled = enabled
            else:
                rate.set_enabled(stream, enabled=enabled)
        elif relay is not None:
            relay.set_enabled(enabled=enabled)
        elif manual:
            raise InvalidRequestError(
                f"stream {name!r} is sent by the application, which decides when: it can be "
                "removed, but neither enabled nor disabled"
            )
        else:
            raise NotFoundError(f"there is no stream {name[:80]!r} here")

    def remove(self, name: str) -> bool:
        """Offer a stream no longer, and say whether there was one."""
        with self._lock:
            stream = self._periodic.pop(name, None)
            relay = self._relayed.pop(name, None)
            manual = self._manual.pop(name, None)
            rate = None if stream is None else self._rates.get(stream.hz)
            if rate is not None and not any(
                other.hz == rate.hz for other in self._periodic.values()
            ):
                del self._rates[rate.hz]
        if stream is not None and rate is not None:
            rate.remove(stream)
        if relay is not None:
            relay.close()
        gone = stream is not None or relay is not None or manual is not None
        if gone:
            self._on_removed(name)
        return gone

    @property
    def names(self) -> frozenset[str]:
        """Names of all streams."""
        with self._lock:
            return frozenset((*self._periodic, *self._manual, *self._relayed))

    def find(self, name: str) -> Stream | Relayed:
        """Return a stream.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        """
        with self._lock:
            for known in (self._periodic, self._manual, self._relayed):
                if name in known:
                    return known[name]
        raise NotFoundError(f"there is no stream {name[:80]!r} here")

    def describe(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Say which streams there are, in plain values.

        Returns
        -------
        dict
            ``periodic_streams``, ``manual_streams`` and ``zmq_streams``; each a map from a name
            to what is known of it, in order of names.
        """
        with self._lock:
            periodic, manual = dict(self._periodic), dict(self._manual)
            relayed = dict(self._relayed)
        return {
            "periodic_streams": {
                name: {
                    "encoding": stream.encoding,
                    "return_type": stream.return_type,
                    "frequency_hz": stream.hz,
                    "enabled": stream.enabled,
                }
                for name, stream in sorted(periodic.items())
            },
            "manual_streams": {
                name: {"encoding": stream.encoding} for name, stream in sorted(manual.items())
            },
            "zmq_streams": {name: relay.describe() for name, relay in sorted(relayed.items())},
        }

    def relayed(self, name: str) -> Relayed | None:
        """Return a stream from elsewhere, or None for one of this server.

        Raises
        ------
        NotFoundError
            If there is none of this name.
        """
        self.find(name)
        return self._relayed.get(name)

    @property
    def periodic(self) -> tuple[PeriodicStream, ...]:
        """All periodic streams, in order of names."""
        with self._lock:
            return tuple(self._periodic[name] for name in sorted(self._periodic))

    @property
    def manual(self) -> tuple[ManualStream, ...]:
        """All streams of the application, in order of names."""
        with self._lock:
            return tuple(self._manual[name] for name in sorted(self._manual))

    @property
    def relays(self) -> tuple[Relayed, ...]:
        """All streams from elsewhere, in order of names."""
        with self._lock:
            return tuple(self._relayed[name] for name in sorted(self._relayed))

    def _schedule(self, stream: PeriodicStream) -> None:
        rate = self._rates.get(stream.hz)
        if rate is None:
            rate = self._rates[stream.hz] = Rate(stream.hz, publish=self._publish)
        rate.add(stream)
