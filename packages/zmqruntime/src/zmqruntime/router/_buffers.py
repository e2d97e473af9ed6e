"""Values with buffers in them: a plain part, a table of where buffers belong, and their bytes.

Whatever supports the buffer protocol travels beside the plain values, described by format, shape
and item size, and arrives as a `memoryview`, which `numpy.asarray` takes without a copy. The bytes
of the buffers follow one another through the frames of a message, which may be cut anywhere.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from zmqruntime._errors import DescriptorError, FrameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

__all__ = ["BufferEntry", "Packed", "pack", "unpack"]

_MOST_DEPTH = 28  # of a body's 32, some belong to the message around the value
_MOST_BUFFERS = 4000  # a payload has at most 4096
_MOST_DIMENSIONS = 32
_MOST_BYTES = 4 << 30
_BYTES = "bytes"
_ORDER = "<" if sys.byteorder == "little" else ">"
# what `memoryview.cast` can do on every supported Python; halves and complex numbers it cannot
_SIZES = {
    "?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4, "d": 8,
}  # fmt: skip
_SIGNED = {1: "b", 2: "h", 4: "i", 8: "q"}
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
# codes whose size depends on the platform, and the one for a single character
_ALIASES = {"l": _SIGNED, "n": _SIGNED, "L": _UNSIGNED, "N": _UNSIGNED, "c": {1: "B"}}
_PLAIN = frozenset({type(None), bool, int, float, str})
_CTYPES: dict[str, Any] = {
    "?": ctypes.c_bool, "b": ctypes.c_int8, "B": ctypes.c_uint8, "h": ctypes.c_int16,
    "H": ctypes.c_uint16, "i": ctypes.c_int32, "I": ctypes.c_uint32, "q": ctypes.c_int64,
    "Q": ctypes.c_uint64, "f": ctypes.c_float, "d": ctypes.c_double,
}  # fmt: skip

_Length = Annotated[int, msgspec.Meta(ge=0, le=_MOST_BYTES)]


class BufferEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One buffer of a value.

    Attributes
    ----------
    at
        Keys and indices that lead to its place in the plain part, which is null there.
    format
        Byte order and a code of the `struct` module, ``<H``; or ``bytes``.
    shape
        Lengths of its dimensions; C order.
    itemsize
        Bytes per item.
    """

    at: tuple[str | int, ...]
    format: Annotated[str, msgspec.Meta(max_length=8)]
    shape: Annotated[tuple[_Length, ...], msgspec.Meta(max_length=_MOST_DIMENSIONS)]
    itemsize: Annotated[int, msgspec.Meta(ge=1, le=8)]

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        return math.prod(self.shape) * self.itemsize


@dataclass(frozen=True, slots=True)
class Packed:
    """A value ready to travel.

    Attributes
    ----------
    plain
        None, bool, int, float, str, lists and maps with str keys; None where a buffer belongs.
    table
        Which buffers belong where.
    views
        Their bytes, in the order of the table; they look at the memory of the value.
    """

    plain: Any
    table: tuple[BufferEntry, ...] = ()
    views: tuple[memoryview, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers together."""
        return sum(view.nbytes for view in self.views)


def pack(value: object) -> Packed:
    """Take a value apart.

    Parameters
    ----------
    value
        Plain values, lists, tuples, maps with str keys, dataclasses, enums and whatever else
        msgspec turns into plain values, and objects that support the buffer protocol, in any
        nesting.

    Returns
    -------
    Packed
        Its parts. A tuple has become a list.

    Raises
    ------
    FrameError
        If it holds something that cannot travel; the message says what, and where.
    """
    table: list[BufferEntry] = []
    views: list[memoryview] = []
    plain = _take_apart(value, (), table, views)
    return Packed(plain, tuple(table), tuple(views))


def unpack(plain: Any, table: Sequence[BufferEntry], frames: Sequence[Buffer]) -> Any:
    """Put a value together; nothing is allocated before its size is known to be right.

    Parameters
    ----------
    plain
        As it came; lists and maps in it are changed.
    table
        Which buffers belong where.
    frames
        Their bytes, cut anywhere.

    Returns
    -------
    object
        The value: ``bytes`` as bytes, a buffer without dimensions as a number, others as
        read-only memoryviews over the frames. A buffer that was cut is joined by one copy.

    Raises
    ------
    DescriptorError
        If table, frames and plain part contradict one another, or a format is not known here.
    """
    if len(table) > _MOST_BUFFERS:
        raise DescriptorError(f"{len(table)} buffers in one value: at most {_MOST_BUFFERS}")
    codes = [_check(entry) for entry in table]
    views = [memoryview(frame).cast("B") for frame in frames]
    promised, came = sum(entry.nbytes for entry in table), sum(view.nbytes for view in views)
    if promised != came:
        raise DescriptorError(f"the buffers should have {promised} bytes together, {came} came")
    pieces = _Pieces(views)
    for entry, code in zip(table, codes, strict=True):
        plain = _put(plain, entry.at, _shaped(pieces.take(entry.nbytes), entry, code))
    return plain


def _take_apart(
    value: object,
    at: tuple[str | int, ...],
    table: list[BufferEntry],
    views: list[memoryview],
) -> object:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if len(at) > _MOST_DEPTH:
        raise FrameError(f"{_place(at[:3])} nests deeper than {_MOST_DEPTH}, or holds itself")
    if isinstance(value, bytes):
        _add_buffer(memoryview(bytes(value)), at, table, views, plain_bytes=True)
        return None
    if isinstance(value, dict):
        plain: dict[str, object] = {}
        for key, each in value.items():
            if not isinstance(key, str):
                raise FrameError(f"{_place(at)} has the key {key!r}; keys are text")
            name = str.__str__(key)
            plain[name] = _take_apart(each, (*at, name), table, views)
        return plain
    if isinstance(value, list | tuple):
        return [
            each if type(each) in _PLAIN else _take_apart(each, (*at, index), table, views)
            for index, each in enumerate(value)
        ]
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # found out by trying
    except TypeError:
        return _take_apart(_built_in(value, at), at, table, views)
    except (ValueError, BufferError) as error:
        raise FrameError(f"{_place(at)}: {error}") from error
    _add_buffer(view, at, table, views)
    return None


def _built_in(value: object, at: tuple[str | int, ...]) -> object:
    try:
        plain = msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview))
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(
            f"{_place(at)} is a {type(value).__qualname__}, which cannot travel: send plain "
            f"values, lists, maps with text keys and buffers ({error})"
        ) from error
    if type(plain) is type(value):
        raise FrameError(f"{_place(at)} is a {type(value).__qualname__}, which cannot travel")
    return plain


def _add_buffer(
    view: memoryview,
    at: tuple[str | int, ...],
    table: list[BufferEntry],
    views: list[memoryview],
    *,
    plain_bytes: bool = False,
) -> None:
    if len(table) >= _MOST_BUFFERS:
        raise FrameError(f"{_place(at)}: at most {_MOST_BUFFERS} buffers travel in one value")
    format_ = _BYTES if plain_bytes else _wire_format(view, at)
    table.append(BufferEntry(at=at, format=format_, shape=view.shape or (), itemsize=view.itemsize))
    views.append(_flat(view))


def _wire_format(view: memoryview, at: tuple[str | int, ...]) -> str:
    """Say how a format is written where both ends read it alike."""
    order, code = view.format[:-1], view.format[-1:]
    code = _ALIASES.get(code, {}).get(view.itemsize, code)
    if _SIZES.get(code) != view.itemsize or len(order) > 1:
        raise FrameError(
            f"{_place(at)} is a buffer of format {view.format!r}, which cannot travel: "
            f"send integers, floats or booleans ({' '.join(_SIZES)})"
        )
    swapped = {"<": "little", ">": "big", "!": "big"}.get(order, sys.byteorder) != sys.byteorder
    if swapped and view.itemsize > 1:
        raise FrameError(f"{_place(at)} is a buffer in foreign byte order: convert it first")
    return _ORDER + code


def _flat(view: memoryview) -> memoryview:
    if view.nbytes and view.c_contiguous:
        try:
            return view.cast("B")
        except (TypeError, ValueError):
            pass  # a byte order is spelled out, or it is read-only in an odd way
    return memoryview(view.tobytes())


def _check(entry: BufferEntry) -> str:
    """Check one entry of a table, and say which native code its format has."""
    if entry.nbytes > _MOST_BYTES:
        raise DescriptorError(f"a buffer of {entry.nbytes} bytes: at most {_MOST_BYTES}")
    if entry.format == _BYTES:
        if entry.itemsize != 1 or len(entry.shape) != 1:
            raise DescriptorError(f"bytes have one dimension of bytes, not {entry.shape}")
        return "B"
    order, code = entry.format[:1], entry.format[1:]
    if _SIZES.get(code) != entry.itemsize or order not in ("<", ">"):
        raise DescriptorError(
            f"buffers of format {entry.format!r} with {entry.itemsize} bytes are not known here"
        )
    if order != _ORDER and entry.itemsize > 1:
        raise DescriptorError(f"format {entry.format!r} is in the byte order of another computer")
    return code


class _Pieces:
    """The bytes of all frames, taken from the front."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = [view for view in views if view.nbytes]
        self._index = self._offset = 0

    def take(self, nbytes: int) -> memoryview:
        """Take the next bytes: a view where they lie together, else a copy."""
        parts: list[memoryview] = []
        while nbytes:
            view = self._views[self._index]
            part = view[self._offset : self._offset + nbytes]
            nbytes -= part.nbytes
            self._offset += part.nbytes
            if self._offset == view.nbytes:
                self._index, self._offset = self._index + 1, 0
            parts.append(part)
        if not parts:
            return memoryview(b"")
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _shaped(view: memoryview, entry: BufferEntry, code: str) -> Any:
    if entry.format == _BYTES:
        return bytes(view)
    view = view.toreadonly()
    if not entry.shape:
        return view.cast(code)[0]  # type: ignore[call-overload]  # one of _SIZES
    if entry.nbytes:
        return view.cast(code, entry.shape)  # type: ignore[call-overload]  # as above
    return _empty(entry, code)


def _empty(entry: BufferEntry, code: str) -> memoryview:
    """Make a buffer without items, to whose shape no memoryview can be cast."""
    empty = _CTYPES[code]
    try:
        for length in reversed(entry.shape):
            empty = empty * length
        return memoryview(empty()).toreadonly()
    except (OverflowError, MemoryError, ValueError) as error:
        raise DescriptorError(f"an empty buffer cannot have shape {entry.shape}") from error


def _put(plain: Any, at: tuple[str | int, ...], value: object) -> Any:
    """Put a value where the table says; the place must be there, and be empty."""
    if not at:
        if plain is not None:
            raise DescriptorError("a buffer belongs where there is another value")
        return value
    place: Any = plain
    last: Any = at[-1]
    try:
        for step in at[:-1]:
            place = _step(place, step)
        if _step(place, last) is not None:
            raise DescriptorError(f"a buffer belongs to {_place(at)}, where there is another value")
        place[last] = value
    except (LookupError, TypeError) as error:
        raise DescriptorError(f"a buffer belongs to {_place(at)}, which is not there") from error
    return plain


def _step(place: Any, step: Any) -> Any:
    if isinstance(place, list) and isinstance(step, int) and step < 0:
        raise LookupError(step)
    if isinstance(place, dict | list):
        return place[step]
    raise TypeError(type(place))


def _place(at: tuple[str | int, ...]) -> str:
    return "the value" + "".join(f"[{step!r}]" for step in at)
