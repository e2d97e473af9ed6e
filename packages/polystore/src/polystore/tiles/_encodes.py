"""Parts of frames, encoded once for all clients that get them alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from polystore._bounded import BoundedMap
from polystore.tiles._frame import content_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from polystore.tiles._dirty import Span
    from polystore.tiles._frame import Frame
    from polystore.tiles._quality import Rung

__all__ = ["Body", "Encode", "SharedEncodes"]

Body: TypeAlias = bytes | bytearray | memoryview
Encode: TypeAlias = "Callable[[Rung, NDArray[Any]], Body]"

_HASH_BYTES = 64
_HASHES_BYTES = 1024**2


class SharedEncodes:
    """Encodes a part when it is first asked for, and keeps it while it may be asked for again.

    Parts are told apart by the frame in which their pixels changed last. A tile that did not
    change since is the same part, whichever frame it is cut from. Not safe for threads.

    Parameters
    ----------
    encode
        Called with a rung and pixels, packed, of shape (y, x) or (y, x, 3); gives bytes, which
        are kept and must not change.
    most_bytes
        Bound of what is kept.
    """

    def __init__(self, encode: Encode, *, most_bytes: int = 64 * 1024**2) -> None:
        self._encode = encode
        self._bodies: BoundedMap[tuple[object, ...], Body] = BoundedMap(most_bytes)
        self._hashes: BoundedMap[tuple[object, ...], str] = BoundedMap(_HASHES_BYTES)
        self.encodes: Counter[str] = Counter()
        """How often `encode` was called, by the name of the rung."""
        self.shared = 0
        """How often what was there already was given."""

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return self._bodies.nbytes

    def body(self, frame: Frame, span: Span, rung: Rung) -> Body:
        """Give a part, encoded."""
        key = (*_content(frame, span), rung.name)
        found = self._bodies.get(key)
        if found is not None:
            self.shared += 1
            return found
        body = self._encode(rung, frame.cut(frame.header.raster.grid.rect(*span)))
        self.encodes[rung.name] += 1
        self._bodies.put(key, body, memoryview(body).nbytes)
        return body

    def content(self, frame: Frame, span: Span) -> str:
        """Give the hash of a part's pixels."""
        key = _content(frame, span)
        found = self._hashes.get(key)
        if found is None:
            found = content_hash(frame.cut(frame.header.raster.grid.rect(*span)))
            self._hashes.put(key, found, _HASH_BYTES)
        return found


def _content(frame: Frame, span: Span) -> tuple[object, ...]:
    """Name what a part shows: where it is, and when anything of it changed last."""
    header = frame.header
    corner, rows, columns = span
    across = header.raster.grid.counts(corner.level)[1]
    changed = max(
        header.changed[row * across + column]
        for row in range(corner.row, corner.row + rows)
        for column in range(corner.column, corner.column + columns)
    )
    return header.raster, span, changed
