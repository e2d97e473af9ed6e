"""Reading plain values into a type, on any thread.

msgspec looks at a type when something is first read into it. A second thread that reads into the
same type meanwhile, or into one that holds it, uses what is not finished, and the process ends by
a segmentation fault (msgspec 0.22). So it is let look at types here, one at a time, before
anything is read into them.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["from_plain"]

T = TypeVar("T")

_looking = threading.RLock()


def from_plain(
    value: object, shape: type[T], *, hook: Callable[[type, Any], Any] | None = None
) -> T:
    """Read what was decoded already.

    Parameters
    ----------
    value
        Plain values.
    shape
        What they have to be.
    hook
        Makes values of types that msgspec does not know.

    Raises
    ------
    msgspec.ValidationError
        If they are something else.
    """
    _looked_at(shape)
    return msgspec.convert(value, shape, dec_hook=hook)


def _look(shape: Any) -> object:
    with _looking:
        return msgspec.msgpack.Decoder(shape)


_looked_at: Callable[[Any], object] = functools.cache(_look)
