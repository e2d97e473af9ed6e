"""A map that never holds more bytes than it may; what was used longest ago gives way."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["BoundedMap"]

_Key = TypeVar("_Key", bound="Hashable")
_Value = TypeVar("_Value")


class BoundedMap(Generic[_Key, _Value]):
    """Values by key, each with its size. Not safe for threads.

    Parameters
    ----------
    most_bytes
        Bound of all sizes together.

    Raises
    ------
    ValueError
        If it is below 0.
    """

    def __init__(self, most_bytes: int) -> None:
        if most_bytes < 0:
            raise ValueError(f"a budget is 0 bytes or more, not {most_bytes}")
        self.most_bytes = most_bytes
        self.nbytes = 0
        self.evicted = 0
        self._values: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: _Key) -> _Value | None:
        """Give the value of a key, which has then been used last."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def peek(self, key: _Key) -> _Value | None:
        """Give the value of a key without using it."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: _Key, value: _Value, nbytes: int) -> bool:
        """Keep a value in place of an older one; False if it is larger than the whole budget."""
        self.drop(key)
        if nbytes > self.most_bytes:
            return False
        while self.nbytes + nbytes > self.most_bytes:
            _, (_, size) = self._values.popitem(last=False)
            self.nbytes -= size
            self.evicted += 1
        self._values[key] = (value, nbytes)
        self.nbytes += nbytes
        return True

    def drop(self, key: _Key) -> None:
        """Forget a key."""
        found = self._values.pop(key, None)
        if found is not None:
            self.nbytes -= found[1]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.nbytes = 0
