"""The levels of an image of OME-Zarr: the array of each, and planes read from it."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import (
    ChecksumError,
    LayoutError,
    NotStoredError,
    StorageError,
    UnreadableError,
)
from polystore.omezarr._arrays import read_array
from polystore.omezarr._groups import OmeVersion
from polystore.omezarr._places import AbsentError
from polystore.omezarr._pyramid import halved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from polystore.omezarr._arrays import ArrayMeta
    from polystore.omezarr._groups import Group
    from polystore.omezarr._places import Pixels, Place

__all__ = ["Levels"]

_PLANE_MOST_BYTES = 8 * 1024**3
"""A plane, or the part of one that is asked for, that is larger is not read."""

_CHUNKS_MOST = 1_000_000


class Levels:
    """The arrays of an image, from the finest one on. They are opened when they are asked for.

    Parameters
    ----------
    place
        The image is.
    group
        Its metadata.
    axes
        Their names; the last are y and x.
    paths
        Of the arrays, from the image on.

    Attributes
    ----------
    paths
        As they were given.

    Raises
    ------
    UnreadableError
        If what polystore has said of planes and parts is damaged.
    """

    def __init__(
        self, place: Place, group: Group, axes: Sequence[str], paths: Sequence[str]
    ) -> None:
        self._place = place
        self._group = group
        self._axes = tuple(axes)
        self.paths = tuple(paths)
        own = group.own or {}
        try:
            self._missing = frozenset(
                tuple(map(int, each))
                for key in ("missing_planes", "missing_parts")
                for each in own.get(key, ())
            )
            part = own.get("part_px")
            self._part_px = None if part is None else (max(1, int(part[0])), max(1, int(part[1])))
        except (TypeError, ValueError, LookupError) as error:
            raise UnreadableError(f"{group.file}: the attribute polystore is damaged") from error
        self._metas: dict[int, ArrayMeta] = {}
        self._opened: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def missing_planes(self) -> tuple[tuple[int, ...], ...]:
        """Planes that were never written, by their numbers along the axes but y and x."""
        planes = len(self._axes) - 2
        return tuple(sorted(each for each in self._missing if len(each) == planes))

    @property
    def part_px(self) -> tuple[int, int] | None:
        """Height and width of a part of the finest level, if it is written in parts."""
        return self._part_px

    def shape(self, level: int) -> tuple[int, ...]:
        """Give the shape of a level, without what only fills it up to the size of other wells."""
        stored = self.meta(level).shape
        sides = stored[-2:]
        if self._group.valid_px is not None:
            sides = tuple(map(min, sides, halved(self._group.valid_px, level)))
        return (*stored[:-2], *sides)

    def meta(self, level: int) -> ArrayMeta:
        """Give what the array of a level says of itself.

        Raises
        ------
        UnreadableError
            If it is none that may be read.
        """
        if level not in self._metas:
            place = self._place.below(self.paths[level])
            meta = read_array(place, self._group.version)
            if len(meta.shape) != len(self._axes):
                raise UnreadableError(
                    f"{place} has the shape {meta.shape}, which is not of {self._axes}"
                )
            self._metas[level] = meta
        return self._metas[level]

    def pixels(self, level: int) -> Pixels:
        """Open the array of a level.

        Raises
        ------
        UnreadableError
            If it is none that may be read.
        """
        if level not in self._opened:
            meta = self.meta(level)  # says whether it may be opened
            place = self._place.below(self.paths[level])
            self._opened[level] = place.pixels(meta.document)
        return self._opened[level]

    def read(
        self, level: int, place: Mapping[str, int], region: tuple[slice, slice] | None
    ) -> NDArray[Any]:
        """Read one plane, or part of one; see `ImageReader.read`."""
        if not 0 <= level < len(self):
            raise LayoutError(f"{self._place} has {len(self)} levels, and none is {level}")
        shape = self.shape(level)
        leading = tuple(place.get(axis, 0) for axis in self._axes[:-2])
        others = [
            axis
            for axis, side in zip(self._axes[:-2], shape, strict=False)
            if axis not in place and side > 1
        ]
        if others:
            raise LayoutError(f"{self._place} has planes along {others}: only t, c and z are known")
        absent = {axis for axis in place if axis not in self._axes and place[axis]}
        if absent or any(not 0 <= i < n for i, n in zip(leading, shape[:-2], strict=True)):
            raise LayoutError(f"{self._place} of shape {shape} ({self._axes}) has no plane {place}")
        rows, columns = (
            slice(*part.indices(side))
            for part, side in zip(region or (slice(None),) * 2, shape[-2:], strict=True)
        )
        self._check_size(level, rows, columns)
        needed = self._needed(level, leading, rows, columns)
        with _readable(f"{self._place}/{self.paths[level]}"):
            try:
                plane = self.pixels(level).read((*leading, rows, columns), needed)
            except AbsentError as error:
                raise UnreadableError(f"{error} is not there: {self._why_absent()}") from error
            return np.asarray(plane, dtype=self.meta(level).dtype.newbyteorder("="))

    def _check_size(self, level: int, rows: slice, columns: slice) -> None:
        meta = self.meta(level)
        sides = len(range(rows.start, rows.stop)), len(range(columns.start, columns.stop))
        nbytes = math.prod(sides) * meta.dtype.itemsize
        chunks = math.prod(
            side // chunk + 2 for side, chunk in zip(sides, meta.chunks[-2:], strict=True)
        )
        if nbytes > _PLANE_MOST_BYTES or chunks > _CHUNKS_MOST:
            raise LayoutError(
                f"{self._place}: {sides[0]} x {sides[1]} pixels in {chunks} chunks are too many at "
                "once: read a region, or a coarser level"
            )

    def _needed(
        self, level: int, leading: tuple[int, ...], rows: slice, columns: slice
    ) -> Iterator[str]:
        # a file that is gone reads as zeros; images of ours say which planes were never written,
        # and have a file for all others
        if self._group.valid_px is None or leading in self._missing:
            return
        meta = self.meta(level)
        unit = meta.shards or meta.chunks
        at = [str(i // n) for i, n in zip(leading, unit[:-2], strict=True)]
        start = "/".join(["c", *at] if self._group.version is OmeVersion.V05 else at)
        start = f"{start}/" if start else ""
        for row in _units(rows, unit[-2]):
            for column in _units(columns, unit[-1]):
                part = self._part(level, row * unit[-2], column * unit[-1])
                if not part or (*leading, *part) not in self._missing:
                    yield f"{start}{row}/{column}"

    def _part(self, level: int, y: int, x: int) -> tuple[int, ...]:
        if self._part_px is None:
            return ()
        down, along = (max(1, side >> level) for side in self._part_px)
        return y // down, x // along

    def _why_absent(self) -> str:
        if (self._group.own or {}).get("unfinished"):
            return "this part of the image has not been written yet"
        return "the image is damaged, run it again"


def _units(part: slice, unit: int) -> range:
    return range(part.start // unit, -(-part.stop // unit)) if part.stop > part.start else range(0)


@contextlib.contextmanager
def _readable(folder: str) -> Iterator[None]:
    # codecs and stores of zarr raise builtins, and its own errors are builtins too; a chunk may
    # say of itself that it is larger than the memory
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise NotStoredError(f"{folder}: there is no array") from error
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, EOFError) as error:
        if "checksum" in str(error):  # codecs and indices of zarr have no error of their own for it
            raise ChecksumError(
                f"{folder} is not what was stored: {error} A disk or a copy has damaged it: take "
                "it from a copy, or make it again"
            ) from error
        raise UnreadableError(f"{folder} cannot be read: {error}") from error
    except (MemoryError, OverflowError, AttributeError) as error:
        raise UnreadableError(f"{folder} cannot be read: {error!r}") from error
