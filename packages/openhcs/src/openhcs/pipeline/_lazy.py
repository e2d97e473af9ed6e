"""Values made when they are asked for, and kept no longer than somebody still needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lazy", "LoadedPlanes", "frozen"]

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value with a known number of readers.

    With one reader it is handed over and forgotten, so that a chain of steps over a z stack holds
    one plane at a time. With more it is kept until the last of them is done.

    Parameters
    ----------
    make
        Gives the value; called again only if it is asked for after it was forgotten.
    """

    __slots__ = ("_kept", "_make", "_stores", "readers")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._stores: list[Callable[[T], None]] = []
        self._kept: T | None = None
        self.readers = 0

    def store_by(self, store: Callable[[T], None]) -> None:
        """Have the value stored once, when it is first there; counts as a reader until then."""
        self._stores.append(store)
        self.readers += 1

    @property
    def unstored(self) -> bool:
        """Whether the value has still to be stored."""
        return bool(self._stores)

    def get(self) -> T:
        """Give the value, making it if it is not kept."""
        if self._kept is not None:
            return self._kept
        value = self._make()
        self.offer(value)
        return value

    def offer(self, value: T) -> None:
        """Take a value that was made along with another; store and keep it as needed."""
        stores, self._stores = self._stores, []
        for store in stores:
            store(value)
            self.readers -= 1
        if self.readers > 1:
            self._kept = value

    def keep(self, value: T) -> None:
        """Take a value that was made along with another; keep it while it has any reader."""
        self.offer(value)
        if self.readers:
            self._kept = value

    def release(self) -> None:
        """Say that one reader is done."""
        self.readers -= 1
        if self.readers <= 0:
            self._kept = None


class LoadedPlanes(Mapping[str, NDArray[Any]]):
    """Planes by channel name, loaded when asked for."""

    def __init__(self, loaders: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._loaders = loaders

    def __getitem__(self, channel: str) -> NDArray[Any]:
        return self._loaders[channel]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Give a view that cannot be written to: what goes into a step comes out unchanged."""
    view = np.asarray(array).view()
    view.setflags(write=False)
    return view
