"""What waits to be shown: the newest for each place, handed out in bounded batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

    from polystore._payload import Payload

__all__ = ["Batch"]

_Place = TypeVar("_Place", bound="Hashable")


class Batch(Generic[_Place]):
    """Payloads by place, in the order in which the places first came.

    Parameters
    ----------
    most_items, most_bytes
        Bounds of what `take` hands out at once; a single payload may be larger.

    Raises
    ------
    ValueError
        If a bound is below 1.
    """

    def __init__(self, *, most_items: int, most_bytes: int) -> None:
        if most_items < 1 or most_bytes < 1:
            raise ValueError(f"a batch holds at least one item: {most_items}, {most_bytes}")
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._waiting: dict[_Place, Payload] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= self._most_items or self._bytes >= self._most_bytes

    def put(self, place: _Place, payload: Payload) -> Payload | None:
        """Let a payload wait; gives the older one at the same place, which is dropped.

        The place keeps its turn, so that what changes all the time is shown nevertheless.
        """
        older = self._waiting.get(place)
        self._waiting[place] = payload
        self._bytes += payload.nbytes - (older.nbytes if older is not None else 0)
        return older

    def take(self) -> list[tuple[_Place, Payload]]:
        """Hand out the next batch, at least one item if any waits."""
        taken: list[tuple[_Place, Payload]] = []
        size = 0
        for place, payload in self._waiting.items():
            size += payload.nbytes
            if taken and (size > self._most_bytes or len(taken) >= self._most_items):
                break
            taken.append((place, payload))
        for place, payload in taken:
            del self._waiting[place]
            self._bytes -= payload.nbytes
        return taken
