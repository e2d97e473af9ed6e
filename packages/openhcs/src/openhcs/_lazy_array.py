"""An array of which what is sliced is read, plane by plane, and nothing else."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

__all__ = ["LazyArray"]


@dataclass(frozen=True, slots=True)
class _Pick:
    """What an index chooses along one axis: places, and whether the axis stays."""

    places: range | tuple[int, ...]
    stays: bool


class LazyArray(ABC):
    """Planes in files under one shape; indexed as a NumPy array is, and gives NumPy arrays.

    It takes numbers, slices, an ellipsis, and a list of numbers along one axis. `numpy.asarray`
    reads all of it.

    Attributes
    ----------
    axes
        Names of the axes; the last two are ``y`` and ``x``.
    shape, dtype
        As of a NumPy array.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def _read_plane(self, place: tuple[int, ...], region: tuple[slice, slice]) -> NDArray[Any]:
        """Read rows and columns of the plane at a place along the other axes."""

    @abstractmethod
    def _chunk_px(self) -> tuple[int, int]:
        """Give the height and width of what is best read at once."""

    def _token(self) -> str | None:
        """Give a text that no array of other content has; None where there is none."""
        return None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for place in range(len(self)):
            yield self[place]

    def __repr__(self) -> str:
        sides = zip(self.axes, self.shape, strict=True)
        sizes = ", ".join(f"{axis} {size}" for axis, size in sides)
        return f"<{type(self).__name__}: {sizes}; {self.dtype}>"

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read what an index chooses.

        Raises
        ------
        IndexError
            If a place is beyond the end of its axis, or there are more indices than axes.
        TypeError
            If the index is of a kind that is not supported.
        MemoryError
            If what is asked for is larger than the memory of this computer.
        """
        picks = _picks(key, self.shape)
        *leading, rows, columns = picks
        sizes = [len(pick.places) for pick in picks]
        nbytes = int(np.prod(sizes, dtype=np.int64)) * self.dtype.itemsize
        if nbytes > _memory_bytes():
            raise MemoryError(
                f"{nbytes / 1e9:.1f} GB are asked for, more than this computer has: take less at "
                "once, or to_dask()"
            )
        found = np.empty(sizes, self.dtype)
        region = _region(rows), _region(columns)
        inner = _inner(rows, region[0]), _inner(columns, region[1])
        for at in np.ndindex(*sizes[:-2]) if found.size else ():
            place = tuple(pick.places[number] for pick, number in zip(leading, at, strict=True))
            found[at] = self._read_plane(place, region)[np.ix_(*inner)]
        squeezed = tuple(axis for axis, pick in enumerate(picks) if not pick.stays)
        return found.squeeze(squeezed) if squeezed else found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything; for NumPy, which asks for it."""
        if copy is False:
            raise ValueError("the planes are in files, and reading them makes a copy")
        return np.asarray(self[...], dtype)

    def to_dask(self) -> Any:
        """Give an array of Dask, a chunk for each part of a plane that is best read at once.

        Returns
        -------
        dask.array.Array
            Nothing is read before it is computed.

        Raises
        ------
        polystore.MissingExtraError
            If Dask is not installed.
        """
        try:
            from dask.array import from_array
        except ImportError as error:
            from polystore import MissingExtraError

            raise MissingExtraError("arrays of Dask need it: install dask[array]") from error
        make: Any = from_array  # which Dask gives no types
        return make(
            self,
            chunks=(1,) * (self.ndim - 2) + self._chunk_px(),
            name=self._token() or False,
            asarray=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )


def _picks(key: Any, shape: tuple[int, ...]) -> list[_Pick]:
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [place for place, each in enumerate(keys) if each is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis")
    if len(keys) - len(dots) > len(shape):
        raise IndexError(f"there are {len(keys)} indices for {len(shape)} axes")
    at = dots[0] if dots else len(keys)
    missing = [slice(None)] * (len(shape) - (len(keys) - len(dots)))
    keys[at : at + len(dots)] = missing
    picks = [
        _pick(each, side, axis) for axis, (each, side) in enumerate(zip(keys, shape, strict=True))
    ]
    if sum(isinstance(pick.places, tuple) and pick.stays for pick in picks) > 1:
        raise TypeError("lists of places are supported along one axis: index twice for two")
    return picks


def _pick(key: Any, side: int, axis: int) -> _Pick:
    if isinstance(key, slice):
        return _Pick(range(*key.indices(side)), stays=True)
    if isinstance(key, (list, np.ndarray)) and np.ndim(key) == 1:
        listed = np.asarray(key)
        if listed.dtype == np.bool_ and len(listed) == side:
            listed = np.flatnonzero(listed)
        if listed.dtype.kind in "iu" or listed.size == 0:
            return _Pick(tuple(_place(int(each), side, axis) for each in listed), stays=True)
    if not isinstance(key, (bool, np.bool_)):
        try:
            place = operator.index(key)
        except TypeError:
            pass
        else:
            return _Pick((_place(place, side, axis),), stays=False)
    raise TypeError(
        f"{key!r} is no index along axis {axis}: give a number, a slice, or a list of numbers"
    )


def _place(place: int, side: int, axis: int) -> int:
    if not -side <= place < side:
        raise IndexError(f"place {place} is out of bounds for axis {axis} with size {side}")
    return place % side


def _region(pick: _Pick) -> slice:
    """Give the part of an axis that holds all places that were picked."""
    if not pick.places:
        return slice(0, 0)
    return slice(min(pick.places), max(pick.places) + 1)


def _inner(pick: _Pick, region: slice) -> Sequence[int]:
    return [place - region.start for place in pick.places]


def _memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)
