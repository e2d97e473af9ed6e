"""Images and labels that several processes write at once, each its own parts of a plane.

A part is a rectangle of a plane, at all its levels. In OME-Zarr 0.5 it is one file at each of them,
in 0.4 each of its chunks is one. Processes that write different parts touch no file of each other,
so there is no lock. A part is there when all its files of the finest level are, which take their
place last; while one is written anew it is missing, so that whoever is killed leaves whole parts,
missing ones, and leftovers that are known by name.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polystore._errors import LayoutError
from polystore.files._atomic import write_json, writing
from polystore.files._together import atomic_files
from polystore.omezarr._chunk_files import chunked_document
from polystore.omezarr._chunks import PlaneChunks, compressor
from polystore.omezarr._groups import OmeVersion
from polystore.omezarr._pyramid import halved
from polystore.omezarr._shards import array_document, shard_of
from polystore.omezarr._valid import read_valid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from polystore.omezarr._groups import Group
    from polystore.omezarr._image_read import ImageReader

__all__ = ["ImagePart", "PartsWriter", "check_part_px", "lay_out"]

_CHUNK_PX = 1024


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A rectangle of a plane that one process writes.

    Attributes
    ----------
    t, c, z
        Which plane; c is 0 of labels, which have no channels.
    y, x
        Where in it.
    height, width
        In pixels.
    """

    t: int
    c: int
    z: int
    y: int
    x: int
    height: int
    width: int

    @property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns of the plane."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)


def check_part_px(folder: Path, part_px: int | None) -> None:
    """Refuse parts without pixels.

    Raises
    ------
    LayoutError
        If they are.
    """
    if part_px is not None and part_px < 1:
        raise LayoutError(f"{folder}: parts cannot be {part_px} pixels wide")


def lay_out(
    folder: Path,
    version: OmeVersion,
    *,
    shape: tuple[int, ...],
    levels: Sequence[tuple[int, int]],
    dtype: np.dtype[Any],
    axes: tuple[str, ...],
    part_px: tuple[int | None, int | None],
) -> tuple[int, int]:
    """Make the arrays of all levels, without a chunk.

    Parameters
    ----------
    folder
        Of the group, which exists.
    version
        Of OME-Zarr.
    shape
        Of the finest level; the last two sides are y and x.
    levels
        Height and width of each.
    dtype
        Of the pixels.
    axes
        Their names.
    part_px
        About how high and wide a part is; None for the whole side.

    Returns
    -------
    tuple of int
        Height and width of a part.

    Raises
    ------
    NotWrittenError
        If they cannot be made.
    """
    down, along = (
        _Side.of(side, len(levels), px) for side, px in zip(shape[-2:], part_px, strict=True)
    )
    for level, size in enumerate(levels):
        array = folder / str(level)
        with writing(array):
            array.mkdir()
        chunk = (down.chunk(level), along.chunk(level))
        whole = (*shape[:-2], *size)
        if version is OmeVersion.V05:
            shard = (*(1 for _ in shape[:-2]), down.part(level), along.part(level))
            document = array_document(whole, dtype, axes, shard=shard, sides=chunk)
            write_json(array / "zarr.json", document)
        else:
            write_json(array / ".zarray", chunked_document(whole, dtype.newbyteorder("<"), chunk))
    return down.part(0), along.part(0)


class PartsWriter(ABC):
    """Writes parts of what was laid out."""

    def __init__(self, reader: ImageReader, made_by: str) -> None:
        self.path = reader.path
        if reader.part_px is None:
            raise LayoutError(f"{self.path} is not written in parts: {made_by} makes one")
        self._reader = reader
        self._side = side = reader.part_px
        self._chunks = [
            PlaneChunks(
                side[0] >> level,
                side[1] >> level,
                reader.dtype.newbyteorder("<"),
                sides=reader.chunk_px(level),
            )
            for level in range(reader.level_count)
        ]

    @cached_property
    def parts(self) -> tuple[ImagePart, ...]:
        """All parts, plane by plane."""
        *leading, height, width = self._reader.shapes[0]
        sizes = dict(zip(self._reader.axes, leading, strict=False))
        planes = [range(sizes.get(axis, 1)) for axis in "tcz"]
        down, along = self._side
        starts = (range(0, height, down), range(0, width, along))
        return tuple(
            ImagePart(t, c, z, y, x, min(down, height - y), min(along, width - x))
            for t, c, z, y, x in product(*planes, *starts)
        )

    def missing(self) -> tuple[ImagePart, ...]:
        """Those parts that are not there yet, for whoever goes on after a crash."""
        return tuple(part for part in self.parts if not all(map(Path.exists, self._files(part, 0))))

    def write(self, part: ImagePart, pixels: NDArray[Any], *, fsync: bool = False) -> None:
        """Write a part, and what it becomes at the coarser levels.

        One that is there already is missing until the new one is.

        Parameters
        ----------
        part
            One of `parts`.
        pixels
            Of its shape, and the type that was laid out.
        fsync
            Whether to wait until it has reached the disk.

        Raises
        ------
        LayoutError
            If there is no such part, or the pixels are not of its shape or type.
        NotWrittenError
            If it cannot be written, as on a full disk; what was there before still is.
        NotDurableError
            If it is written and the disk does not confirm it.
        """
        if part not in self._known:
            raise LayoutError(f"{self.path} has no part {part}")
        shape, dtype = (part.height, part.width), self._reader.dtype
        if pixels.shape != shape or pixels.dtype.newbyteorder("=") != dtype:
            raise LayoutError(
                f"{self.path}: pixels are {pixels.dtype} {pixels.shape}, the part has to be "
                f"{dtype} {shape}"
            )
        levels = [pixels]
        for _ in self._chunks[1:]:
            levels.append(self._halve(levels[-1]))
        with atomic_files(fsync=fsync) as put:
            # the finest last: where it is, the others are
            for level, part_of_level in reversed(list(enumerate(levels))):
                self._write_level(part, level, part_of_level, put)

    def finished(self, *, partial: bool) -> tuple[Group, dict[str, Any], frozenset[ImagePart]]:
        """Give the group, what polystore says about it when it is complete, and what is missing.

        Raises
        ------
        LayoutError
            If parts are missing and `partial` is False.
        """
        missing = self.missing()
        if missing and not partial:
            raise LayoutError(
                f"{self.path}: {len(missing)} of {len(self.parts)} parts were not written, the "
                f"first is {missing[0]}"
            )
        group = read_valid(self.path, "multiscales")
        own = dict(group.own or {})
        own.pop("unfinished", None)
        own["missing_parts"] = [
            [*self._plane(part), part.y // self._side[0], part.x // self._side[1]]
            for part in missing
        ]
        return group, own, frozenset(missing)

    @abstractmethod
    def _halve(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Make pixels half as high and wide, rounded up."""

    def _plane(self, part: ImagePart) -> tuple[int, ...]:
        return tuple(getattr(part, axis) for axis in self._reader.axes[:-2])

    @cached_property
    def _known(self) -> frozenset[ImagePart]:
        return frozenset(self.parts)

    def _write_level(
        self,
        part: ImagePart,
        level: int,
        pixels: NDArray[Any],
        put: Callable[[Path, bytes | memoryview], None],
    ) -> None:
        files = self._files(part, level)
        for folder in dict.fromkeys(file.parent for file in files):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        chunks = self._chunks[level]
        if self._reader.version is OmeVersion.V05:
            put(files[0], shard_of(pixels, chunks))
            return
        compress = compressor()
        places = iter(files)
        for _, _, chunk in chunks.cut(pixels):
            put(next(places), compress(chunk))

    def _files(self, part: ImagePart, level: int) -> list[Path]:
        folder = self._reader.level_path(level)
        plane = tuple(map(str, self._plane(part)))
        row, column = part.y // self._side[0], part.x // self._side[1]
        if self._reader.version is OmeVersion.V05:
            return [folder.joinpath("c", *plane, str(row), str(column))]
        # a part is whole chunks, at every level
        chunks = self._chunks[level]
        height, width = halved((part.height, part.width), level)
        down, along = math.ceil(height / chunks.sides[0]), math.ceil(width / chunks.sides[1])
        return [
            folder.joinpath(*plane, str(row * chunks.grid[0] + y), str(column * chunks.grid[1] + x))
            for y, x in product(range(down), range(along))
        ]


@dataclass(frozen=True, slots=True)
class _Side:
    """How one side of a plane is cut into parts and chunks, at all levels.

    A part is halved from level to level, and is whole chunks at each.
    """

    coarsest: int
    chunks: int
    levels: int

    @classmethod
    def of(cls, length: int, levels: int, part_px: int | None) -> _Side:
        coarsest = math.ceil(min(length, part_px or length) / 2 ** (levels - 1))
        chunks = math.ceil(coarsest / _CHUNK_PX)
        return cls(math.ceil(coarsest / chunks) * chunks, chunks, levels)

    def part(self, level: int) -> int:
        return self.coarsest << (self.levels - 1 - level)

    def chunk(self, level: int) -> int:
        side = self.coarsest // self.chunks
        for _ in range(self.levels - 1 - level):
            if 2 * side > _CHUNK_PX:
                break
            side *= 2
        return side
