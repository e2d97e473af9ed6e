"""The planes of one layer in one array, which costs only what has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore.projection import Axis

__all__ = ["PlaneStack"]

_STEP: Final = 64


class PlaneStack:
    """Planes by their place on the axes of a layer.

    Wells of a plate differ by a few pixels once they are stitched, and come one by one. So there is
    some room beside and below each plane, and what has not come is never touched: the system gives
    memory to it when it is written. If the array has to be made anew after all, the planes that
    have come are copied, not the whole.

    Attributes
    ----------
    array
        Shape (positions on each axis ..., y, x); a view of something larger, and another one
        after `fit` changed its shape or type.
    """

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.zeros((0, 0), np.uint8)
        self._whole: NDArray[Any] = self.array
        self._axes: tuple[Axis, ...] = ()
        self._filled: set[tuple[int, ...]] = set()

    def fit(self, axes: tuple[Axis, ...], sides: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Make the array as large as it has to be; planes keep their values on the axes.

        Parameters
        ----------
        axes
            Leading axes.
        sides
            Height and width, in pixels.
        dtype
            Of the elements.

        Raises
        ------
        MemoryError
            If there is no memory for it; everything stays as it was.
        """
        shape = tuple(axis.length for axis in axes)
        if (
            (*shape, *sides) == self.array.shape
            and axes == self._axes
            and dtype == self.array.dtype
        ):
            return
        if axes != self._axes or dtype != self._whole.dtype or not self._holds(sides):
            self._make_anew(axes, sides, dtype)
        self.array = self._whole[..., : sides[0], : sides[1]]

    def put(self, index: tuple[int, ...], plane: NDArray[Any]) -> None:
        """Copy a plane, shape (y, x), to its place; what it does not cover is 0."""
        target = self.array[index]
        if index in self._filled and plane.shape != target.shape:
            target[...] = 0
        np.copyto(target[: plane.shape[0], : plane.shape[1]], plane, casting="unsafe")
        self._filled.add(index)

    def clear(self, index: tuple[int, ...]) -> None:
        """Make a plane 0 again, as before it came."""
        if index in self._filled:
            self.array[index] = 0
            self._filled.discard(index)

    def _holds(self, sides: tuple[int, int]) -> bool:
        height, width = self._whole.shape[-2:]
        return bool(sides[0] <= height and sides[1] <= width)

    def _make_anew(
        self, axes: tuple[Axis, ...], sides: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        old, (height, width) = self._whole, self._whole.shape[-2:]
        room = sides if not self._axes else (max(sides[0], height), max(sides[1], width))
        shape = tuple(axis.length for axis in axes)
        whole = np.zeros((*shape, *map(_roomy, room)), dtype)
        moved: set[tuple[int, ...]] = set()
        places = [before.places_in(after) for before, after in zip(self._axes, axes, strict=False)]
        for index in self._filled:
            place = tuple(at_new[at] for at, at_new in zip(index, places, strict=True))
            whole[place][:height, :width] = old[index]
            moved.add(place)
        self._whole, self._axes, self._filled = whole, axes, moved


def _roomy(side: int) -> int:
    """Give a length with room for wells that are a little larger."""
    return -(-(side + side // 64) // _STEP) * _STEP
