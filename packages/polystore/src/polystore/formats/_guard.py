"""Errors of libraries that read and write files, as errors that name the file."""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import TYPE_CHECKING

from polystore._errors import FormatError, MissingExtraError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing", "reading", "refused"]

# what decoders raise for a file that is not what it says; RecursionError is a RuntimeError
_BROKEN = (
    ArithmeticError,
    AssertionError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@contextlib.contextmanager
def reading(where: str, what: str) -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into one error.

    Parameters
    ----------
    where
        Name of the file.
    what
        Name of the format.

    Raises
    ------
    UnreadableError
        In place of any error in the block that is not one already.
    """
    try:
        yield
    except UnreadableError:
        raise
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"{where} cannot be read as {what}: {reason}") from error


@contextlib.contextmanager
def importing(what: str, package: str) -> Iterator[None]:
    """Turn a failed import into an error that says what to install.

    Raises
    ------
    MissingExtraError
        In place of an ImportError in the block.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        library = error.name or str(error)
        raise MissingExtraError(f"{what} files need {library}: install {package}") from error


def refused(what: str, reason: str) -> FormatError:
    """Make the error for a payload that a format cannot hold."""
    return FormatError(f"{what} cannot hold this payload: {reason}")
