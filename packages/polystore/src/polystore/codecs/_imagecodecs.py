"""The library that does the work, loaded when it is first needed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from polystore._errors import CodecError, MissingExtraError, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polystore._coding import Encoded

__all__ = ["PACKAGE", "decoding", "encoding"]

PACKAGE = "polystore[codecs]"


@contextmanager
def encoding(codec: str) -> Iterator[Any]:
    """Give imagecodecs to whoever encodes.

    Raises
    ------
    MissingExtraError
        If it is not installed, or was built without what the codec needs.
    CodecError
        If it cannot encode what it was given.
    """
    with _library(codec) as imagecodecs:
        try:
            yield imagecodecs
        except (RuntimeError, ValueError) as error:
            raise CodecError(f"{codec} cannot encode this array: {error}") from error


@contextmanager
def decoding(encoded: Encoded) -> Iterator[Any]:
    """Give imagecodecs to whoever decodes.

    Raises
    ------
    MissingExtraError
        If it is not installed, or was built without what the codec needs.
    StreamError
        If the stream cannot be decoded.
    """
    with _library(encoded.codec) as imagecodecs:
        try:
            yield imagecodecs
        except StreamError:
            raise
        except (RuntimeError, ValueError) as error:
            raise StreamError(
                f"the {encoded.stream.nbytes} bytes of {encoded.codec} cannot be decoded to "
                f"{encoded.dtype} {encoded.shape}: {error}"
            ) from error


@contextmanager
def _library(codec: str) -> Iterator[Any]:
    try:
        import imagecodecs  # 45 MB of libraries: loaded by whoever encodes, not by import polystore

        yield imagecodecs
    except ImportError as error:  # also what it raises for a library that it was built without
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(
            f"the codec {codec} needs imagecodecs: install {PACKAGE}"
        ) from error
