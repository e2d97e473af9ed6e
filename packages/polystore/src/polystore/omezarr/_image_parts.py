"""One image that several processes write at once, each its own parts of it.

The image is laid out before, with all its metadata. A part is a rectangle of a plane, at all its
levels, and each is a file of its own that appears by one rename (in OME-Zarr 0.4 each chunk of it
is). So processes that write different parts touch no file of each other, there is no lock, and
what one of them leaves when it is killed is whole parts, and leftovers that are known by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import LayoutError
from polystore.files._atomic import atomic_folder, write_bytes, write_json, writing
from polystore.omezarr._chunk_files import chunked_document
from polystore.omezarr._chunks import PlaneChunks, compressor
from polystore.omezarr._groups import OmeVersion, write_group
from polystore.omezarr._image_read import ImageReader, read_valid
from polystore.omezarr._image_write import (
    IMAGE_AXES,
    checked_image,
    image_ome,
    image_place,
    own_of,
    percentiles,
)
from polystore.omezarr._multiscales import ImageMeta, channels
from polystore.omezarr._plate_read import PlateReader, as_plate
from polystore.omezarr._pyramid import halve_mean, halved, level_shapes
from polystore.omezarr._shards import array_document, shard_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImagePart", "PartWriter", "create_image", "finish_image"]

_CHUNK_PX = 1024


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A rectangle of a plane that one process writes.

    Attributes
    ----------
    t, c, z
        Which plane.
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


def create_image(
    plate: PlateReader | Path | str,
    well: str,
    image: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | type[Any] | str,
    meta: ImageMeta | None = None,
    *,
    part_px: int | None = None,
    coarsest_px: int = 512,
) -> Path:
    """Lay out an image that several processes will write with `PartWriter`.

    Called once, before them; an image that is there is replaced.

    Parameters
    ----------
    plate, well, image, shape, dtype, meta, coarsest_px
        As for `ImageWriter`.
    part_px
        About how high and wide a part is; None for whole planes.

    Returns
    -------
    Path
        Of the image's group.

    Raises
    ------
    NotStoredError
        If the plate has no such well or image.
    LayoutError
        If shape or type are none that can be written.
    NotWrittenError
        If it cannot be written.
    """
    folder, version = image_place(plate, well, image)
    meta = meta or ImageMeta()
    full, kind = checked_image(folder, shape, dtype, meta)
    if part_px is not None and part_px < 1:
        raise LayoutError(f"{folder}: parts cannot be {part_px} pixels wide")
    levels = level_shapes(*full[-2:], coarsest_px=coarsest_px)
    sides = [_Side.of(side, len(levels), part_px) for side in full[-2:]]
    unset = [c for c in range(full[1]) if not meta.channels or meta.channels[c].window is None]
    described = channels(meta, full[1], kind, {c: [_whole_range(kind)] for c in unset})
    own = {"format": 1, "valid_px": full[-2:], "missing_planes": [], **own_of(meta)}
    own |= {"part_px": [side.part(0) for side in sides], "unfinished": True, "unset": unset}
    with atomic_folder(folder) as partial:
        for level, size in enumerate(levels):
            array = partial / str(level)
            with writing(folder):
                array.mkdir()
            chunk = (sides[0].chunk(level), sides[1].chunk(level))
            shape = (*full[:-2], *size)
            if version is OmeVersion.V05:
                shard = (1, 1, 1, sides[0].part(level), sides[1].part(level))
                document = array_document(shape, kind, IMAGE_AXES, shard=shard, sides=chunk)
                write_json(array / "zarr.json", document)
            else:
                document = chunked_document(shape, kind.newbyteorder("<"), chunk)
                write_json(array / ".zarray", document)
        ome = image_ome(image, meta, len(levels), described)
        write_group(partial, version, ome, {**meta.attributes, "polystore": own})
    return folder


class PartWriter:
    """Writes parts of an image that `create_image` laid out. Any number of processes may.

    Two must not write the same part at the same time.

    Parameters
    ----------
    plate, well, image
        Of the image.

    Raises
    ------
    NotStoredError
        If it is not there.
    LayoutError
        If it is none that is written in parts.
    UnreadableError
        If its metadata cannot be read.

    Examples
    --------
    ::

        create_image(plate, "B03", "stitched", (2, 30_000, 30_000), np.uint16, part_px=4096)
        # in each of several processes
        writer = PartWriter(plate, "B03", "stitched")
        for part in writer.parts[number::processes]:
            writer.write(part, fuse(part))
        # in one, when they are done
        finish_image(plate, "B03", "stitched")
    """

    def __init__(self, plate: PlateReader | Path | str, well: str, image: str) -> None:
        self._reader = as_plate(plate).open_image(well, image)
        self.path = self._reader.path
        if self._reader.part_px is None:
            raise LayoutError(f"{self.path} is not written in parts: create_image makes one")
        self._side = side = self._reader.part_px
        self._chunks = [
            PlaneChunks(
                side[0] >> level,
                side[1] >> level,
                self._reader.dtype.newbyteorder("<"),
                sides=self._reader.chunk_px(level),
            )
            for level in range(self._reader.level_count)
        ]

    @cached_property
    def parts(self) -> tuple[ImagePart, ...]:
        """All parts of the image, plane by plane."""
        *leading, height, width = self._reader.shapes[0]
        down, along = self._side
        starts = (range(0, height, down), range(0, width, along))
        return tuple(
            ImagePart(t, c, z, y, x, min(down, height - y), min(along, width - x))
            for t, c, z, y, x in product(*map(range, leading), *starts)
        )

    def missing(self) -> tuple[ImagePart, ...]:
        """Those parts that are not there yet, for whoever goes on after a crash."""
        return tuple(part for part in self.parts if not all(map(Path.exists, self._files(part, 0))))

    def write(self, part: ImagePart, pixels: NDArray[Any], *, fsync: bool = False) -> None:
        """Write a part, and what it becomes at the coarser levels.

        Parameters
        ----------
        part
            One of `parts`.
        pixels
            Of its shape, and the type of the image.
        fsync
            Whether to wait until it has reached the disk.

        Raises
        ------
        LayoutError
            If the part is none of the image's, or the pixels are not of its shape or type.
        NotWrittenError
            If it cannot be written.
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
            levels.append(halve_mean(levels[-1]))
        # the finest last: where it is, the others are
        for level, part_of_level in reversed(list(enumerate(levels))):
            self._write_level(part, level, part_of_level, fsync=fsync)

    @cached_property
    def _known(self) -> frozenset[ImagePart]:
        return frozenset(self.parts)

    def _write_level(
        self, part: ImagePart, level: int, pixels: NDArray[Any], *, fsync: bool
    ) -> None:
        files = self._files(part, level)
        for folder in dict.fromkeys(file.parent for file in files):
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        chunks = self._chunks[level]
        if self._reader.version is OmeVersion.V05:
            write_bytes(files[0], shard_of(pixels, chunks), fsync=fsync)
            return
        compress = compressor()
        places = iter(files)
        for _, _, chunk in chunks.cut(pixels):
            write_bytes(next(places), compress(chunk), fsync=fsync)

    def _files(self, part: ImagePart, level: int) -> list[Path]:
        folder = self._reader.level_path(level)
        plane = (str(part.t), str(part.c), str(part.z))
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


def finish_image(
    plate: PlateReader | Path | str, well: str, image: str, *, partial: bool = False
) -> Path:
    """Say that an image which was written in parts is complete.

    Called once, when all have been written. Channels without a window get one.

    Parameters
    ----------
    plate, well, image
        Of the image.
    partial
        Whether parts may be missing. They read as zero and are listed in the attribute
        ``polystore.missing_parts``.

    Returns
    -------
    Path
        Of the image's group.

    Raises
    ------
    NotStoredError
        If it is not there.
    LayoutError
        If it is none that is written in parts, or parts are missing and `partial` is False.
    NotWrittenError
        If it cannot be said.
    """
    writer = PartWriter(plate, well, image)
    missing = writer.missing()
    if missing and not partial:
        raise LayoutError(
            f"{writer.path}: {len(missing)} of {len(writer.parts)} parts were not written, the "
            f"first is {missing[0]}"
        )
    group = read_valid(writer.path, "multiscales")
    reader = ImageReader(writer.path)
    own = dict(group.own or {})
    own.pop("unfinished", None)
    side = reader.part_px or (1, 1)
    own["missing_parts"] = [[p.t, p.c, p.z, p.y // side[0], p.x // side[1]] for p in missing]
    ranges: dict[int, list[tuple[float, float]]] = {c: [] for c in own.pop("unset", [])}
    coarsest = reader.level_count - 1
    absent = frozenset(missing)
    for part in writer.parts:
        if part.c in ranges and part not in absent:
            down, along = (part.y >> coarsest, part.x >> coarsest)
            height, width = halved((part.height, part.width), coarsest)
            region = (slice(down, down + height), slice(along, along + width))
            plane = reader.read(coarsest, c=part.c, z=part.z, t=part.t, region=region)
            ranges[part.c].extend(percentiles(plane))
    meta = ImageMeta(
        channels=tuple(
            replace(channel, window=None) if c in ranges else channel
            for c, channel in enumerate(reader.channels)
        )
    )
    ome = dict(group.ome)
    described = channels(meta, len(meta.channels), reader.dtype, ranges)
    ome["omero"] = {**ome["omero"], "channels": described}
    write_group(writer.path, group.version, ome, {**group.others, "polystore": own})
    return writer.path


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


def _whole_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return (0.0, 1.0)
    limits = np.iinfo(dtype)
    return (float(limits.min), float(limits.max))
