"""RouterRelay: a stream of another `RouterServer`, passed on; so servers can be chained.

Every server adds its id to the path of a message. One that finds its own id there refuses the
stream, and so does one behind eight others.
"""

from __future__ import annotations

import contextlib
import logging
import select
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._client import ZMQClient
from zmqruntime._errors import (
    ConflictError,
    ControlTimeout,
    DescriptorError,
    ForbiddenError,
    HandshakeError,
    InvalidRequestError,
    LoopStoppedError,
    NotFoundError,
    PeerError,
    RequestError,
    StaleSlotError,
)
from zmqruntime.data._feed_reader import FeedReader
from zmqruntime.data._gaps import Gap
from zmqruntime.data._stream_messages import Mode
from zmqruntime.loop._polling import Backoff
from zmqruntime.loop._wake import WakeDescriptor
from zmqruntime.router._config import RelayConfig
from zmqruntime.router._receiver import end_lease, read_header
from zmqruntime.router._route import RelayState, check_route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.data._item import Item

    Send = Callable[[str, bytes, Sequence[Any]], object]

__all__ = ["RouterRelay"]

logger = logging.getLogger(__name__)

_MOST_READ = 64
_ROUTE_S = 2.0


class RouterRelay:
    """Follows a stream of another server, and passes it on as it comes.

    Parameters
    ----------
    name
        Name of the stream here.
    source
        Where it comes from: an endpoint, or a connection of the program's own, with its keys.
    source_name
        Name of the stream there.
    send
        Sends header and buffers under a name.
    server_id
        Says who passes on.
    enabled, log_chatter
        Whether it passes on from the beginning, and whether it logs each message.

    Notes
    -----
    It has one thread. The source need not be there yet; when it comes, or comes back, the relay
    asks for the way the stream takes and refuses one that leads back here.
    """

    def __init__(
        self,
        name: str,
        source: Endpoint | ZMQClient,
        *,
        source_name: str,
        send: Send,
        server_id: Callable[[], str],
        enabled: bool = True,
        log_chatter: bool = False,
    ) -> None:
        self.name = name
        self.source_name = source_name
        self.log_chatter = log_chatter
        self._owns_client = not isinstance(source, ZMQClient)
        self._client = (
            source
            if isinstance(source, ZMQClient)
            else ZMQClient(source, app=f"relay of {name}"[:100], role="relay")
        )
        self._send = send
        self._server_id = server_id
        self._counters: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards what follows
        self._enabled = enabled
        self._state = RelayState.WAITING if enabled else RelayState.DISABLED
        self._reason = ""
        self._checked = False  # whether the way is known to be good, on this connection
        self._closed = False
        self._wake = WakeDescriptor()
        self._client.on_welcome(lambda _welcome: self._on_connection(""))
        self._client.on_lost(self._on_connection)
        self._thread = threading.Thread(target=self._run, name=f"relay-{name}"[:64], daemon=True)

    def start(self) -> None:
        """Look for the source from now on."""
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the stream comes from."""
        return f"router://{self._client.endpoint}"

    @property
    def enabled(self) -> bool:
        """Whether it passes on, or would."""
        return self._enabled

    def set_enabled(self, *, enabled: bool) -> None:
        """Follow the stream, or do not; one that was refused is tried again."""
        with self._lock:
            if enabled == self._enabled and self._state is not RelayState.REFUSED:
                return
            self._enabled = enabled
            self._checked = False
            self._stand(RelayState.WAITING if enabled else RelayState.DISABLED)

    def close(self) -> None:
        """Leave the source and end the thread; twice is harmless."""
        with self._lock:
            self._closed = True
            self._alert()
        if self._thread.ident is None:
            self._end()
        elif threading.current_thread() is not self._thread:
            self._thread.join()

    def describe(self) -> dict[str, Any]:
        """Say where it comes from and how it stands."""
        with self._lock:
            return {
                "address": self.address,
                "source": self.source_name,
                "enabled": self._enabled,
                "log_chatter": self.log_chatter,
                "state": str(self._state),
                "reason": self._reason,
            }

    def config(self) -> RelayConfig:
        """Say how to make it again."""
        return RelayConfig(
            address=self.address,
            enabled=self._enabled,
            log_chatter=self.log_chatter,
            source=self.source_name,
        )

    def counters(self) -> dict[str, int]:
        """Count what was passed on, what was missing when it came, and what was refused."""
        return {name: self._counters[name] for name in ("sent", "missing", "refused")}

    def route(self, via: Sequence[str], timeout: float) -> list[str]:
        """Ask the source through which servers the stream comes.

        Parameters
        ----------
        via
            Servers that the question came through, this one included.
        timeout
            Longest wait in seconds.

        Raises
        ------
        ConflictError
            If the way leads back to one of them, or is too long.
        RequestError, PeerError
            If the source refused, or is not there.
        """
        body = {"name": self.source_name, "via": list(via)}
        answer = self._client.control.request("get_route", body, timeout=timeout, idempotent=True)
        return [str(each) for each in answer.get("path", [])]

    # What follows runs on the relay's thread, unless it says otherwise.

    def _run(self) -> None:
        if self._owns_client:
            with contextlib.suppress(ControlTimeout, HandshakeError):
                self._client.connect(0)  # it comes when it comes
        try:
            with FeedReader(self._client) as reader:
                self._relay(reader)
        except LoopStoppedError as error:
            if not self._closed:
                self._refuse(f"the connection was closed here: {error}")
        finally:
            self._end()

    def _end(self) -> None:
        if self._owns_client:
            self._client.close()
        with self._lock:
            self._wake.close()

    def _relay(self, reader: FeedReader) -> None:
        poller = select.poll()
        for descriptor in (reader.fileno(), self._wake.fileno()):
            poller.register(descriptor, select.POLLIN)
        backoff = Backoff()
        while True:
            with self._lock:
                self._wake.set(on=False)
                if self._closed:
                    return
                wanted = self._enabled and self._state is not RelayState.REFUSED
                ask = wanted and not self._checked and self._client.connected
            if not wanted:
                reader.unsubscribe(self.source_name)
            elif self.source_name not in reader.topics:
                reader.subscribe(self.source_name, Mode.RELIABLE)
            if ask and self._find_way(reader):
                backoff.reset()
                continue
            for entry in reader.receive(_MOST_READ):
                self._take_in(entry)
            poller.poll(backoff.next() * 1000 if ask else None)

    def _find_way(self, reader: FeedReader) -> bool:
        """Ask for the way, and say whether there is an answer; one that is refused is none.

        While it is not known the stream is followed already: a circle would show in the path of
        its first message.
        """
        own = self._server_id()
        known = True
        try:
            check_route(own, self.route([own], _ROUTE_S))
        except (ConflictError, ForbiddenError) as error:
            self._refuse(str(error))
            return False
        except NotFoundError as error:  # nobody offers it yet, or one server on the way does not
            known = False
            with self._lock:
                self._reason = str(error)
        except (RequestError, PeerError) as error:
            with self._lock:
                self._reason = str(error)
            return False
        with self._lock:
            self._checked = True
        try:
            if reader.wait_subscribed(self.source_name, _ROUTE_S) and known:
                self._be_live()
        except (ForbiddenError, InvalidRequestError) as error:
            self._refuse(str(error))
        return True

    def _take_in(self, entry: Item | Gap) -> None:
        if isinstance(entry, Gap):
            self._counters["missing"] += len(entry)
            logger.warning("relay %r: %s", self.name, entry)
        elif self._enabled and self._state is not RelayState.REFUSED:
            self._pass_on(entry)
        else:
            end_lease(entry.lease)

    def _be_live(self) -> None:
        with self._lock:
            if self._enabled and self._state is RelayState.WAITING:
                self._stand(RelayState.LIVE)

    def _pass_on(self, item: Item) -> None:
        own = self._server_id()
        try:
            header = read_header(item.header)
            check_route(own, header.path)
            frames = item.lease.copy()  # unlike a view, it is known to be whole
            header = msgspec.structs.replace(header, path=(*header.path, own))
            if self.log_chatter:
                size = sum(map(len, frames))
                logger.info("relay %r: %r, %d bytes", self.name, item.topic[:64], size)
            self._send(self.name, msgspec.msgpack.encode(header), frames)
            self._counters["sent"] += 1
            self._be_live()
        except ConflictError as error:
            self._counters["refused"] += 1
            self._refuse(str(error))
        except DescriptorError as error:
            self._counters["refused"] += 1
            logger.warning("relay %r: %s", self.name, error)
        except StaleSlotError:
            self._counters["missing"] += 1
        finally:
            end_lease(item.lease)

    def _refuse(self, reason: str) -> None:
        with self._lock:
            if self._state is RelayState.REFUSED or not self._enabled:
                return
            self._stand(RelayState.REFUSED, reason)
        logger.warning("relay %r is refused: %s", self.name, reason)

    def _stand(self, state: RelayState, reason: str = "") -> None:
        """Change the state; under the lock, on any thread."""
        self._state, self._reason = state, reason
        self._alert()

    def _alert(self) -> None:
        """Let the thread look at everything anew; under the lock, on any thread."""
        with contextlib.suppress(OSError):  # it has ended
            self._wake.set(on=True)

    def _on_connection(self, lost: str) -> None:
        """Look for the way again; on the loop."""
        with self._lock:
            self._checked = False
            if self._state is RelayState.LIVE:
                self._state, self._reason = RelayState.WAITING, lost
            self._alert()
