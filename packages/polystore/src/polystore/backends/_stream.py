"""Payloads on their way to somebody who looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from polystore._errors import WriteOnlyError
from polystore._protocols import Capabilities
from polystore._wire import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polystore._payload import Payload

__all__ = ["Publish", "StreamingBackend"]


class Publish(Protocol):
    """Sends the frames of one payload.

    Called by the thread that saves the payload. It may keep the buffers after it has returned,
    and must not change them.
    """

    def __call__(self, header: bytes, buffers: Sequence[memoryview], /) -> None:
        """Send a header and its buffers."""
        ...


class StreamingBackend:
    """A `DataSink` that keeps nothing: each payload is encoded and published.

    Parameters
    ----------
    publish
        How frames leave: a publisher's method, a list's, a test's. What it raises passes through.

    Examples
    --------
    ::

        sent = []
        sink = StreamingBackend(lambda header, buffers: sent.append((header, buffers)))
        sink.save(payload)
        assert decode(*sent[0]).components == payload.components
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    @property
    def capabilities(self) -> Capabilities:
        """It takes everything, refers to the arrays it was given, and keeps nothing."""
        return Capabilities(takes=True, copies=False)

    def save(self, payload: Payload) -> None:
        """Publish a payload. Its arrays are referred to, not copied.

        Raises
        ------
        PayloadError
            If it is too large to be sent.
        """
        header, buffers = encode(payload)
        self._publish(header, buffers)

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Publish several payloads, in their order.

        Raises
        ------
        PayloadError
            At the first that is too large to be sent; those before it are.
        """
        for payload in payloads:
            self.save(payload)

    def load(self, key: str) -> NoReturn:
        """Refuse to read.

        Raises
        ------
        WriteOnlyError
            Always.
        """
        raise WriteOnlyError(
            f"{key!r} cannot be read from a stream: what is sent is not kept; read it from the "
            "store that it was also saved to"
        )
