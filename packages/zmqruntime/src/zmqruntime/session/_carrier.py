"""Carrier: how a client's envelopes reach its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zmqruntime._client import ZMQClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.loop._loop import IOThread

__all__ = ["Carrier", "ZMQCarrier"]


class Carrier(Protocol):
    """What a `SessionClient` needs of its connection; it heals by itself.

    The callbacks are called on `loop`, and `send` and `renew` are called there.
    """

    loop: IOThread

    @property
    def token(self) -> str | None:
        """Token that the carrier knows of, or None."""

    def open(
        self,
        up: Callable[[], object],
        received: Callable[[bytes | str], object],
        down: Callable[[str], object],
    ) -> None:
        """Connect, and go on connecting; call `up` whenever a hello can be sent."""

    def send(self, data: bytes) -> bool:
        """Hand an envelope over; False when it was not."""

    def renew(self, code: int, reason: str) -> None:
        """Give this connection up and get another; `up` is called when it is there."""

    def close(self, code: int, reason: str) -> None:
        """Give the connection up for good; any thread, twice is harmless."""


class ZMQCarrier:
    """Envelopes on the control socket of a service.

    Parameters
    ----------
    client
        Connection to the service; the carrier closes it.
    """

    def __init__(self, client: ZMQClient) -> None:
        self.client = client
        self.loop = client.loop
        self._up: Callable[[], object] = lambda: None
        self._closed = False

    @classmethod
    def to(
        cls, endpoint: Endpoint, *, app: str = "session", token: str | None = None
    ) -> ZMQCarrier:
        """Make a carrier of its own connection.

        Parameters
        ----------
        endpoint
            Where the service is.
        app
            What this program calls itself.
        token
            Token of the service; None looks for the one that it leaves on this computer.
        """
        return cls(ZMQClient(endpoint, app=app, token=token))

    @property
    def token(self) -> str | None:
        """Token that is shown to the service."""
        return self.client.control.token

    def open(
        self,
        up: Callable[[], object],
        received: Callable[[bytes | str], object],
        down: Callable[[str], object],
    ) -> None:
        """Connect, and go on connecting."""
        self._up = up
        self.client.control.on_json(received)
        self.client.on_welcome(lambda _welcome: up())
        self.client.on_lost(down)
        self.client.start()

    def send(self, data: bytes) -> bool:
        """Hand an envelope over."""
        return self.client.control.post(data)

    def renew(self, code: int, reason: str) -> None:  # noqa: ARG002 - as the other carriers
        """Begin again on the same connection, which serves for many sessions."""
        if self.client.connected and not self._closed:
            self._up()

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - as the other carriers
        """Close the connection."""
        self._closed = True
        self.client.close()
