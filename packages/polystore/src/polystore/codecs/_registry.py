"""The codecs that one end has, by their ids."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from polystore._coding import check_id, unknown_codec
from polystore._errors import CodecError, StreamError, WireSizeError
from polystore.codecs._blosc2 import Blosc2Codec, Blosc2Compressor
from polystore.codecs._jpeg import JpegCodec
from polystore.codecs._jpegxl import JpegXlCodec
from polystore.codecs._quantized import QuantizedCodec
from polystore.codecs._raw import RawCodec
from polystore.codecs._webp import WebpCodec
from polystore.codecs._zstd import ZstdCodec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from polystore._coding import Codec, Encoded

__all__ = ["Codecs", "standard_codecs"]

DECODED_MOST_BYTES = 4 * 1024**3


class Codecs:
    """Codecs by the ids on the wire; whoever makes one, or extends it, says which it has.

    Parameters
    ----------
    codecs
        Those to begin with.
    most_bytes
        Largest array that is decoded, in bytes.

    Raises
    ------
    CodecError
        If two have one id, or an id cannot be one.

    Examples
    --------
    ::

        codecs = standard_codecs()
        codecs.add(MyCodec())
        payload = decode(header, buffers, codecs=codecs)
    """

    def __init__(
        self, codecs: Iterable[Codec] = (), *, most_bytes: int = DECODED_MOST_BYTES
    ) -> None:
        self._codecs: dict[str, Codec] = {}
        self._most_bytes = most_bytes
        for codec in codecs:
            self.add(codec)

    def add(self, codec: Codec) -> None:
        """Add a codec.

        Raises
        ------
        CodecError
            If its id is taken, or cannot be one.
        """
        check_id(codec.id)
        if codec.id in self._codecs:
            raise CodecError(
                f"there is a codec {codec.id!r} already: give the other one an id of its own"
            )
        self._codecs[codec.id] = codec

    def get(self, codec_id: str, package: str = "") -> Codec:
        """Return a codec.

        Parameters
        ----------
        codec_id
            Its id.
        package
            What provides it, as the sender says, for the message.

        Raises
        ------
        UnknownCodecError
            If there is none of this id; the message says what to install.
        """
        if codec := self._codecs.get(codec_id):
            return codec
        raise unknown_codec(codec_id, package, self._codecs)

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Make an array of a stream, by the codec that it names.

        Returns
        -------
        ndarray
            Read-only, of the announced type and shape.

        Raises
        ------
        UnknownCodecError
            If there is no such codec.
        WireSizeError
            If the array would be larger than is allowed; nothing was decoded.
        StreamError
            If the stream is cut off, damaged or not of what is announced.
        BasePlaneError
            If it is a difference to a plane that is not here.
        MissingExtraError
            If the library that does the work is not installed.
        """
        codec = self.get(encoded.codec, encoded.package)
        if encoded.nbytes > self._most_bytes:
            raise WireSizeError(
                f"{encoded.dtype} {encoded.shape} would be {encoded.nbytes} bytes, "
                f"{self._most_bytes} are allowed"
            )
        if encoded.crc32 is not None and zlib.crc32(encoded.stream) != encoded.crc32:
            raise StreamError(
                f"the {encoded.stream.nbytes} bytes of {encoded.codec} are not those that were "
                "sent: their checksum differs"
            )
        return codec.decode(encoded)

    def __iter__(self) -> Iterator[Codec]:
        return iter(self._codecs.values())

    def __len__(self) -> int:
        return len(self._codecs)

    def __contains__(self, codec_id: object) -> bool:
        return codec_id in self._codecs


def standard_codecs(*, most_bytes: int = DECODED_MOST_BYTES) -> Codecs:
    """Make a registry of all codecs that need no state; a new one at each call.

    Nothing heavy is loaded before the first array is encoded or decoded.

    Parameters
    ----------
    most_bytes
        Largest array that is decoded, in bytes.
    """
    return Codecs(
        (
            RawCodec(),
            Blosc2Codec(Blosc2Compressor.LZ4),
            Blosc2Codec(Blosc2Compressor.ZSTD),
            JpegXlCodec(),
            ZstdCodec(),
            QuantizedCodec(),
            JpegCodec(),
            WebpCodec(),
        ),
        most_bytes=most_bytes,
    )
