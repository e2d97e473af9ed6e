"""An image of a result as an array that is read where it is sliced."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import EllipsisType

    from numpy.typing import DTypeLike, NDArray

    from polystore.omezarr import ImageReader

__all__ = ["LazyImage"]


class LazyImage:
    """An image, or a label image, at one level of its pyramid.

    Slicing reads what is sliced and nothing else; `numpy.asarray` reads all of it.

    Parameters
    ----------
    reader
        The image.
    level
        0 is full size; each further one has half the pixels along y and x.

    Raises
    ------
    IndexError
        If there is no such level.
    """

    def __init__(self, reader: ImageReader, level: int = 0) -> None:
        if not 0 <= level < reader.level_count:
            message = f"the image has {reader.level_count} levels, and none is {level}"
            raise IndexError(message)
        self._reader = reader
        self._level = level

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, as ``("t", "c", "z", "y", "x")``."""
        return self._reader.axes

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along each axis."""
        return self._reader.shapes[self._level]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type."""
        return self._reader.dtype

    @property
    def nbytes(self) -> int:
        """Size of all of it in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names along the axis c; empty for labels."""
        return () if self._reader.is_labels else self._reader.channel_names

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) of this level in µm; None when unknown."""
        size = self._reader.pixel_um
        full = self._reader.shapes[0][-2:]
        if size is None:
            return None
        # Levels halve, and odd sides are rounded: what they show is as large as before.
        factors = [2**self._level if side > 1 else 1 for side in full]
        return size[0] * factors[0], size[1] * factors[1]

    @property
    def level_count(self) -> int:
        """How many levels the image has."""
        return self._reader.level_count

    def level(self, number: int) -> LazyImage:
        """Give the same image at another level.

        Raises
        ------
        IndexError
            If there is no such level.
        """
        return LazyImage(self._reader, number)

    def channel(self, name: str) -> NDArray[Any]:
        """Read a channel.

        Parameters
        ----------
        name
            One of `channel_names`.

        Returns
        -------
        NDArray
            Shape without the axis c: ``(t, z, y, x)``.

        Raises
        ------
        KeyError
            If there is no such channel.
        """
        if name not in self.channel_names:
            message = f"there is no channel {name!r}; there are {', '.join(self.channel_names)}"
            raise KeyError(message)
        at = self.axes.index("c")
        return self[(*(slice(None),) * at, self.channel_names.index(name))]

    def __getitem__(
        self, key: int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]
    ) -> NDArray[Any]:
        chosen = _per_axis(key if isinstance(key, tuple) else (key,), self.shape)
        *leading, rows, columns = (
            range(side)[part] if isinstance(part, slice) else range(part, part + 1)
            for part, side in zip(chosen, self.shape, strict=True)
        )
        kept = tuple(len(places) for places in (*leading, rows, columns))
        result = np.empty(kept, self.dtype)
        region = _span(rows), _span(columns)
        back = slice(None, None, _sign(rows)), slice(None, None, _sign(columns))
        step = slice(None, None, abs(rows.step)), slice(None, None, abs(columns.step))
        if result.size:
            for at in itertools.product(*(range(len(places)) for places in leading)):
                place = {
                    axis: places[number]
                    for axis, places, number in zip(self.axes, leading, at, strict=False)
                }
                plane = self._reader.read(self._level, region=region, **place)
                result[at] = plane[step][back]
        dropped = tuple(n for n, part in enumerate(chosen) if not isinstance(part, slice))
        return result.squeeze(dropped) if dropped else result

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            message = "an image on disk is read, and cannot be viewed without a copy"
            raise ValueError(message)
        return self[...].astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        sides = zip(self.axes, self.shape, strict=True)
        extent = ", ".join(f"{axis}: {side}" for axis, side in sides)
        return f"<LazyImage ({extent}) {self.dtype}>"

    def to_dask(self) -> Any:
        """Give the image as a dask array, a chunk for each part of a plane that is stored as one.

        Returns
        -------
        dask.array.Array
            Of the same shape and type.

        Raises
        ------
        ImportError
            If dask is not installed.
        """
        import dask.array as da

        height, width = self._reader.chunk_px(self._level)
        chunks = (*(1,) * (self.ndim - 2), height, width)
        return da.from_array(  # type: ignore[no-untyped-call]
            self, chunks=chunks, asarray=False, fancy=False
        )


def _per_axis(key: tuple[Any, ...], shape: tuple[int, ...]) -> list[int | slice]:
    """Give one choice for each axis, as numpy reads them."""
    if sum(part is Ellipsis for part in key) > 1:
        message = "an index has one ellipsis at most"
        raise IndexError(message)
    named = [part for part in key if part is not Ellipsis]
    if len(named) > len(shape):
        message = f"an image of {len(shape)} axes is indexed along {len(named)}"
        raise IndexError(message)
    at = next((n for n, part in enumerate(key) if part is Ellipsis), len(key))
    free = [slice(None)] * (len(shape) - len(named))
    parts = [*key[:at], *free, *key[at + 1 :]]
    return [_choice(part, side) for part, side in zip(parts, shape, strict=True)]


def _choice(part: Any, side: int) -> int | slice:
    if isinstance(part, slice):
        return part
    try:
        number = operator.index(part)
    except TypeError:
        message = f"an image is indexed by numbers and slices, not by {part!r}"
        raise IndexError(message) from None
    if not -side <= number < side:
        message = f"index {number} is out of range for an axis of {side}"
        raise IndexError(message)
    return number % side


def _span(places: range) -> slice:
    """Give the rows from the first to the last that are wanted."""
    if not places:
        return slice(0, 0)
    return slice(min(places), max(places) + 1)


def _sign(places: range) -> int:
    return 1 if places.step > 0 else -1
