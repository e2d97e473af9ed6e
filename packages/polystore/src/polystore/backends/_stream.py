"""Payloads on their way to somebody who looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from polystore._errors import WriteOnlyError
from polystore._protocols import Capabilities
from polystore.wire._frames import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from polystore._coding import Codec
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
    codec
        Encodes the arrays of images and labels, for a slow link. What it does not take is refused;
        where images and labels need different ones, a function gives the codec of each payload, or
        None for one that is sent as it is.
    preview
        Whether codecs may be lossy.

    Examples
    --------
    ::

        sent = []
        sink = StreamingBackend(lambda header, buffers: sent.append((header, buffers)))
        sink.save(payload)
        assert decode(*sent[0]).components == payload.components
    """

    def __init__(
        self,
        publish: Publish,
        *,
        codec: Codec | Callable[[Payload], Codec | None] | None = None,
        preview: bool = False,
    ) -> None:
        self._publish = publish
        self._codec = codec
        self._preview = preview

    @property
    def capabilities(self) -> Capabilities:
        """It takes everything, refers to the arrays that it does not encode, and keeps nothing."""
        return Capabilities(takes=True, copies=False)

    def save(self, payload: Payload) -> None:
        """Publish a payload. Its arrays are referred to, not copied.

        Raises
        ------
        PayloadError
            If it is too large to be sent.
        CodecError
            If the codec does not take it, or is lossy and may not be. Nothing was published.
        MissingExtraError
            If the library that the codec needs is not installed.
        """
        codec = self._codec
        if callable(codec):
            codec = codec(payload)
        header, buffers = encode(payload, codec=codec, preview=self._preview)
        self._publish(header, buffers)

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Publish several payloads, in their order.

        Raises
        ------
        PayloadError, CodecError, MissingExtraError
            At the first that cannot be sent, as `save` does; those before it are.
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
