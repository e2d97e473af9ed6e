"""An image of a result as an array that is read where it is sliced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs._lazy_array import LazyArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore.omezarr import ImageReader

__all__ = ["LazyImage"]


class LazyImage(LazyArray):
    """An image, or a label image, at one level of its pyramid.

    It is indexed as a NumPy array is: slicing reads what is sliced and nothing else;
    `numpy.asarray` reads all of it. The axes are ``t``, ``c``, ``z``, ``y``, ``x``, or those of
    them that the image has.

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
        self.axes = reader.axes
        self.shape = reader.shapes[level]
        self.dtype = reader.dtype

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names along the axis c; empty for labels."""
        return () if self._reader.is_labels else self._reader.channel_names

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) of this level in µm; None when unknown."""
        size = self._reader.pixel_um
        return None if size is None else (size[0] * 2**self._level, size[1] * 2**self._level)

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

    def _chunk_px(self) -> tuple[int, int]:
        return self._reader.chunk_px(self._level)

    def _read_plane(self, place: tuple[int, ...], region: tuple[slice, slice]) -> NDArray[Any]:
        at = dict(zip(self.axes, place, strict=False))
        return self._reader.read(self._level, region=region, **at)
