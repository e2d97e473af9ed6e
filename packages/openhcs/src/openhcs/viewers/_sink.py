"""Sends payloads to viewers, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polystore.backends import StreamingBackend
from zmqruntime import PublisherPool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polystore import Payload
    from zmqruntime import Publisher

__all__ = ["TOPIC", "NapariStreamingBackend", "NapariStreamingConfig"]

TOPIC = "payloads"


@dataclass(frozen=True)
class NapariStreamingConfig:
    """Where to stream to: a viewer on this computer, or on another one that can be reached.

    A remote viewer listens on its control port and on the data port 1000 above, which a firewall
    in between has to let through.

    Attributes
    ----------
    enabled
        Whether to stream at all.
    napari_host
        Name or address of the viewer's computer.
    napari_port
        The viewer's control port.
    use_shared_memory
        Whether planes may go through shared memory where the same host is proved; elsewhere they
        always travel as chunks.
    """

    enabled: bool = False
    napari_host: str = "localhost"
    napari_port: int = 5555
    use_shared_memory: bool = True


class NapariStreamingBackend:
    """A sink whose payloads go to the viewer that each call names.

    Parameters
    ----------
    use_shared_memory
        Whether planes may go through shared memory where the same host is proved.
    timeout
        Longest wait of one save for room in the viewer, in s.

    Notes
    -----
    Nothing is opened before the first save; publishers are kept by ``host:port``.
    """

    def __init__(self, *, use_shared_memory: bool = True, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._pool = PublisherPool(TOPIC, app="openhcs", use_shared_memory=use_shared_memory)

    def __enter__(self) -> NapariStreamingBackend:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def save(self, payload: Payload, config: NapariStreamingConfig, *, key: str) -> None:
        """Send a payload; does nothing when streaming is not enabled.

        Parameters
        ----------
        payload
            What is to be shown.
        config
            Where.
        key
            Name of the payload in acknowledgements.

        Raises
        ------
        zmqruntime.ZmqRuntimeError
            If the viewer does not answer or has no room in time.
        polystore.PolystoreError
            If the payload cannot be encoded.
        """
        if not config.enabled:
            return
        send(
            self._get_publisher(config.napari_host, config.napari_port),
            payload,
            key=key,
            timeout=self._timeout,
        )

    def save_batch(
        self, payloads: Iterable[tuple[str, Payload]], config: NapariStreamingConfig
    ) -> None:
        """Send several payloads in their order, each with its key.

        Raises
        ------
        zmqruntime.ZmqRuntimeError
            At the first that cannot be sent; those before it are.
        """
        for key, payload in payloads:
            self.save(payload, config, key=key)

    def close(self) -> None:
        """Leave all viewers; twice is harmless."""
        self._pool.close()

    def _get_publisher(self, napari_host: str, napari_port: int) -> Publisher:
        return self._pool.get(napari_host, napari_port, timeout=self._timeout)


def send(publisher: Publisher, payload: Payload, *, key: str, timeout: float) -> None:
    """Encode a payload and publish it.

    Raises
    ------
    zmqruntime.ZmqRuntimeError
        If nobody takes it in time.
    """

    def publish(header: bytes, buffers: Sequence[memoryview], /) -> None:
        publisher.publish(header, buffers, key=key, timeout=timeout)

    StreamingBackend(publish).save(payload)
