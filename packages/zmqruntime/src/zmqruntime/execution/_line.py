"""WaitingLine: whose turn it is; higher priorities first, then the order of acceptance."""

from __future__ import annotations

from bisect import bisect_left, insort

__all__ = ["WaitingLine"]


class WaitingLine:
    """Jobs that wait, in the order in which they will begin.

    A job that is put back keeps its old place, because its number is the same.
    """

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []
        self._ids: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, id_: str, *, priority: int, seq: int) -> None:
        """Take a job in.

        Parameters
        ----------
        id_
            Its name.
        priority
            Higher ones come first.
        seq
            Its place in the order of acceptance.
        """
        place = (-priority, seq)
        insort(self._places, place)
        self._ids[place] = id_

    def remove(self, *, priority: int, seq: int) -> bool:
        """Take a job out; False when it was not there."""
        place = (-priority, seq)
        if self._ids.pop(place, None) is None:
            return False
        del self._places[bisect_left(self._places, place)]
        return True

    def position(self, *, priority: int, seq: int) -> int | None:
        """Say whose turn it is after how many others, from 1; None when it does not wait."""
        place = (-priority, seq)
        if place not in self._ids:
            return None
        return bisect_left(self._places, place) + 1

    def first(self, count: int) -> list[str]:
        """Name those whose turn is next, without taking them out."""
        return [self._ids[place] for place in self._places[:count]]
