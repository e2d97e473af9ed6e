"""PublisherPool: one publisher per receiver, made when it is first needed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from zmqruntime._client import ZMQClient
from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import NotAttachedError
from zmqruntime.data._publisher import Publisher
from zmqruntime.data._stream_messages import AckStatus, Mode

if TYPE_CHECKING:
    from typing import Self

    from zmqruntime.security import KeyFolder

__all__ = ["PublisherPool"]

logger = logging.getLogger(__name__)


class PublisherPool:
    """Publishers of one stream to any number of receivers, by ``host:port``.

    Parameters
    ----------
    topic
        Name of the stream.
    app
        What this program calls itself.
    mode, until, use_shared_memory
        As for `Publisher`.
    keys
        Folder of keys, in which receivers on other computers are pinned; without it they are
        reached only if they have no keys.

    Notes
    -----
    Nothing is opened before the first `get`. Any thread may call any method.
    """

    def __init__(
        self,
        topic: str,
        *,
        app: str = "zmqruntime",
        mode: Mode | str = Mode.RELIABLE,
        until: AckStatus | str = AckStatus.RECEIVED,
        use_shared_memory: bool = True,
        keys: KeyFolder | None = None,
    ) -> None:
        self._topic = topic
        self._keys = keys
        self._app = app
        self._mode = Mode(mode)
        self._until = AckStatus(until)
        self._shared_memory = use_shared_memory
        self._lock = threading.Lock()
        self._open: dict[str, tuple[ZMQClient, Publisher]] = {}
        self._opening: dict[str, threading.Lock] = {}  # an absent receiver delays no other
        self._closed = False

    def get(self, host: str, port: int, *, timeout: float = 5.0) -> Publisher:
        """Return the publisher for a receiver.

        Parameters
        ----------
        host
            Name or address of the receiver's computer.
        port
            Control port of the receiver.
        timeout
            Longest wait for the first hello, in seconds.

        Returns
        -------
        Publisher
            The same one for the same host and port. It stays open while its receiver restarts.

        Raises
        ------
        ControlTimeout
            If nothing answered there in time; nothing stays open then.
        HandshakeError
            If the receiver refused.
        InvalidEndpointError
            If there can be no such address.
        KeyFileError
            If there are keys, and the receiver's is not among them.
        NotAttachedError
            If the pool is closed.
        """
        key = f"{host}:{port}"
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:
            known = self._find(key)
            if known is not None:
                return known
            endpoint, keys = Endpoint(host, port), self._keys
            if keys is not None and endpoint.is_loopback and keys.server_key(host, port) is None:
                keys = None  # this user's own receiver is reached with what it has left
            client = ZMQClient(endpoint, app=self._app, role="producer", keys=keys)
            try:
                client.connect(timeout)
                publisher = Publisher(
                    client,
                    self._topic,
                    mode=self._mode,
                    until=self._until,
                    use_shared_memory=self._shared_memory,
                )
            except BaseException:
                client.close()
                raise
            with self._lock:
                if not self._closed:
                    self._open[key] = (client, publisher)
                    logger.info("publishing %r to %s", self._topic, key)
                    return publisher
            publisher.close()
            client.close()
            raise self._is_closed()

    def _find(self, key: str) -> Publisher | None:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            entry = self._open.get(key)
        return None if entry is None else entry[1]

    def _is_closed(self) -> NotAttachedError:
        return NotAttachedError(f"the pool of publishers of {self._topic!r} is closed")

    @property
    def keys(self) -> tuple[str, ...]:
        """``host:port`` of every open publisher, in the order of opening."""
        with self._lock:
            return tuple(self._open)

    def flush(self, timeout: float = 30.0) -> dict[str, tuple[str, ...]]:
        """Wait until every receiver has acknowledged everything.

        Parameters
        ----------
        timeout
            Longest wait for each receiver, in seconds.

        Returns
        -------
        dict[str, tuple[str, ...]]
            Keys of payloads that are not acknowledged, by ``host:port``; complete receivers are
            not listed.
        """
        with self._lock:
            publishers = {key: publisher for key, (_, publisher) in self._open.items()}
        left = {key: publisher.flush(timeout) for key, publisher in publishers.items()}
        return {key: keys for key, keys in left.items() if keys}

    def close(self) -> None:
        """Close every publisher and its connection; a second call does nothing."""
        with self._lock:
            self._closed = True
            entries = list(self._open.items())
            self._open.clear()
        for key, (client, publisher) in entries:
            publisher.close()
            client.close()
            logger.info("closed the connection to %s", key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
