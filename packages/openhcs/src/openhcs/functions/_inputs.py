"""What a function is handed for the axes that it consumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["ChannelPlanes", "ChannelTiles", "Columns", "PlaneArray", "Stack", "Tile"]

PlaneArray: TypeAlias = NDArray[Any]
"""One plane, shape (y, x)."""

ChannelPlanes: TypeAlias = Mapping[str, PlaneArray]
"""Planes by channel name, loaded when asked for."""

Columns: TypeAlias = Mapping[str, NDArray[Any]]
"""A table: columns of equal length by name."""


class Stack(Sequence[PlaneArray]):
    """Planes along one axis, each loaded when it is asked for and not kept.

    Iterate to hold one plane at a time; ``numpy.asarray`` loads them all as (n, y, x).

    Parameters
    ----------
    loaders
        One callable per plane, in the order of the axis.
    coordinates
        Place of each plane along the axis: µm for z, s for t; NaN where unknown. Shape (n,).
    numbers
        Number of each plane along the axis, ascending; 0 to n - 1 by default. There are gaps where
        planes were left out. Shape (n,).
    """

    def __init__(
        self,
        loaders: Sequence[Callable[[], PlaneArray]],
        coordinates: Sequence[float] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._loaders = tuple(loaders)
        count = len(self._loaders)
        self.coordinates = (float("nan"),) * count if coordinates is None else tuple(coordinates)
        self.numbers = tuple(range(count)) if numbers is None else tuple(numbers)

    def __len__(self) -> int:
        return len(self._loaders)

    @overload
    def __getitem__(self, index: int) -> PlaneArray: ...
    @overload
    def __getitem__(self, index: slice) -> Stack: ...
    def __getitem__(self, index: int | slice) -> PlaneArray | Stack:
        if isinstance(index, slice):
            return Stack(self._loaders[index], self.coordinates[index], self.numbers[index])
        return self._loaders[index]()

    def __iter__(self) -> Iterator[PlaneArray]:
        for load in self._loaders:
            yield load()

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            message = "a stack is loaded plane by plane and cannot be viewed without a copy"
            raise ValueError(message)
        return np.stack(list(self)).astype(dtype, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One field of a well, where the stage says that it is.

    Attributes
    ----------
    field
        Number of the field, from 0.
    x_um, y_um
        Centre of the tile from the well's centre in µm, x to the right, y down; NaN when unknown.
    load
        Gives the pixels, shape (y, x), each time it is called.
    """

    field: int
    x_um: float
    y_um: float
    load: Callable[[], PlaneArray]


ChannelTiles: TypeAlias = Mapping[str, Sequence[Tile]]
"""The tiles of a well by channel name."""
