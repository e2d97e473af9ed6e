"""One image that several processes write at once, each its own parts of it.

It is laid out before, with all its metadata, and said to be complete when all parts are there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore.files._atomic import atomic_folder
from polystore.omezarr._groups import write_group
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._image_write import (
    IMAGE_AXES,
    checked_image,
    image_ome,
    image_place,
    own_of,
    percentiles,
)
from polystore.omezarr._multiscales import ImageMeta, channels
from polystore.omezarr._parts import PartsWriter, check_part_px, lay_out
from polystore.omezarr._plate_read import PlateReader, as_plate
from polystore.omezarr._pyramid import halve_mean, halved, level_shapes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PartWriter", "create_image", "finish_image"]


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
    check_part_px(folder, part_px)
    levels = level_shapes(*full[-2:], coarsest_px=coarsest_px)
    unset = [c for c in range(full[1]) if not meta.channels or meta.channels[c].window is None]
    described = channels(meta, full[1], kind, {c: [_whole_range(kind)] for c in unset})
    own = {"format": 1, "valid_px": full[-2:], "missing_planes": [], **own_of(meta)}
    own |= {"unfinished": True, "unset": unset}
    with atomic_folder(folder) as partial:
        own["part_px"] = lay_out(
            partial,
            version,
            shape=full,
            levels=levels,
            dtype=kind,
            axes=IMAGE_AXES,
            part_px=(part_px, part_px),
        )
        ome = image_ome(image, meta, len(levels), described)
        write_group(partial, version, ome, {**meta.attributes, "polystore": own})
    return folder


class PartWriter(PartsWriter):
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
        super().__init__(as_plate(plate).open_image(well, image), "create_image")

    def _halve(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return halve_mean(pixels)


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
    group, own, missing = writer.finished(partial=partial)
    reader = ImageReader(writer.path)
    ranges: dict[int, list[tuple[float, float]]] = {c: [] for c in own.pop("unset", [])}
    coarsest = reader.level_count - 1
    for part in writer.parts:
        if part.c in ranges and part not in missing:
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


def _whole_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return (0.0, 1.0)
    limits = np.iinfo(dtype)
    return (float(limits.min), float(limits.max))
