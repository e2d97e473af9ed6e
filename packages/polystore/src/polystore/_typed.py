"""Reading documents into a type, on any thread.

msgspec looks at a type when something is first read into it. A second thread that reads into the
same type meanwhile, or into one that holds it, uses what is not finished, and the process ends by
a segmentation fault (msgspec 0.22). So it is let look at types here, one at a time, before
anything is read into them.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_plain", "msgpack_decoder"]

T = TypeVar("T")

_looking = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child must not find it held by a thread that it lacks
    os.register_at_fork(
        before=_looking.acquire,
        after_in_parent=_looking.release,
        after_in_child=_looking.release,
    )


def from_plain(value: object, shape: type[T]) -> T:
    """Read what was decoded already.

    Parameters
    ----------
    value
        Plain values, as a decoder of JSON makes them.
    shape
        What they have to be.

    Raises
    ------
    msgspec.ValidationError
        If they are something else.
    """
    _decoders(shape)
    return msgspec.convert(value, shape)


def msgpack_decoder(shape: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what reads msgpack into a type."""
    return _decoders(shape)


def _look(shape: Any) -> msgspec.msgpack.Decoder[Any]:
    with _looking:
        return msgspec.msgpack.Decoder(shape)


_decoders: Callable[[Any], msgspec.msgpack.Decoder[Any]] = functools.cache(_look)
