"""Small colour pictures of wells, comparable by eye over the whole plate."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CHANNEL_COLOURS", "PlatePictures", "plate_pictures"]

# Sides in px by number of wells, so that a page of 1536 wells still opens at once.
_SIZES_PX: Final = ((24, 256), (96, 176), (384, 112), (1536, 56))
_JPEG_QUALITY: Final = 80

# Light of one colour per channel, in the order of the channels; sums stay apart to the eye.
CHANNEL_COLOURS: Final = (
    (0.25, 0.45, 1.0),
    (0.2, 1.0, 0.35),
    (1.0, 0.35, 0.2),
    (1.0, 0.85, 0.2),
    (0.9, 0.3, 1.0),
    (0.3, 1.0, 1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatePictures:
    """Small pictures of the wells of a plate.

    Attributes
    ----------
    wells
        ``data:`` URI of a JPEG by well.
    channels
        Channel name, its colour (red, green, blue from 0 to 255), and the levels shown darkest and
        brightest, which are the same for all wells.
    """

    wells: Mapping[str, str]
    channels: tuple[tuple[str, tuple[int, int, int], float, float], ...]


def plate_pictures(folder: str | Path, wells: Sequence[str]) -> PlatePictures:
    """Make a picture of each well that has an image.

    One contrast range per channel holds for the whole plate, so that a brighter well looks
    brighter.

    Parameters
    ----------
    folder
        A result folder with ``plate.zarr``.
    wells
        Names of wells; those without an image get no picture.

    Returns
    -------
    PlatePictures
        Pictures of at most 256 px, smaller where there are many wells.
    """
    from polystore import NotStoredError
    from polystore.omezarr import read_plate

    plate = Path(folder) / "plate.zarr"
    try:
        layout = read_plate(plate)
    except NotStoredError:
        return PlatePictures(wells={}, channels=())
    side = next((px for most, px in _SIZES_PX if len(wells) <= most), _SIZES_PX[-1][1])
    small: dict[str, NDArray[np.float32]] = {}
    names: tuple[str, ...] = ()
    for well in wells:
        if well not in layout.wells:
            continue
        found = _small_planes(plate, well, layout.wells[well][0].path, side)
        if found is not None:
            small[well], names = found
    if not small:
        return PlatePictures(wells={}, channels=())
    ranges = _ranges(list(small.values()))
    colours = _colours(len(ranges))
    return PlatePictures(
        wells={
            well: _data_uri(_composite(planes, ranges, colours)) for well, planes in small.items()
        },
        channels=tuple(
            (name, (round(255 * red), round(255 * green), round(255 * blue)), low, high)
            for name, (red, green, blue), (low, high) in zip(names, colours, ranges, strict=False)
        ),
    )


def _small_planes(
    plate: Path, well: str, name: str, side: int
) -> tuple[NDArray[np.float32], tuple[str, ...]] | None:
    """Read every channel of a well's first image at the coarsest level that is still sharp.

    Of a stack, the middle plane is shown; of a series, its beginning.

    Returns
    -------
    tuple or None
        Pixels of shape (channel, y, x) and names of channels; None when the well has no image, or
        one that cannot be read.
    """
    from polystore import NotStoredError, UnreadableError
    from polystore.omezarr import open_image

    try:
        image = open_image(plate, well, name)
        level = image.level_count - 1
        while level and max(image.shapes[level][-2:]) < side:
            level -= 1
        sizes = dict(zip(image.axes, image.shapes[level], strict=True))
        names = tuple(image.channel_names) or ("",)
        planes = [
            _shrunk(image.read(level, c=channel, z=sizes.get("z", 1) // 2), side)
            for channel in range(len(names))
        ]
    except (NotStoredError, UnreadableError):
        return None
    return np.stack(planes), names


def _shrunk(plane: NDArray[Any], side: int) -> NDArray[np.float32]:
    """Take means over blocks so that the longer side has ``side`` px; small planes stay."""
    factor = max(max(plane.shape) / side, 1.0)
    down, across = (_averaging(size, max(round(size / factor), 1)) for size in plane.shape)
    return down @ plane.astype(np.float32) @ across.T


@lru_cache(maxsize=8)
def _averaging(size: int, blocks: int) -> NDArray[np.float32]:
    """Give the matrix that takes means over blocks, shape (blocks, size)."""
    edges = np.linspace(0, size, blocks + 1).astype(np.intp)
    place = np.arange(size)
    inside = (place >= edges[:-1, None]) & (place < edges[1:, None])
    return (inside / np.diff(edges)[:, None]).astype(np.float32)


def _ranges(wells: Sequence[NDArray[np.float32]]) -> list[tuple[float, float]]:
    """Give the 0.1 and 99.8 % quantiles of each channel over all wells."""
    channels = min(len(planes) for planes in wells)
    ranges: list[tuple[float, float]] = []
    for channel in range(channels):
        sample = np.concatenate([planes[channel].ravel()[::7] for planes in wells])
        low, high = np.percentile(sample, [0.1, 99.8])
        ranges.append((float(low), float(max(high, low + 1))))
    return ranges


def _colours(channels: int) -> list[tuple[float, float, float]]:
    """Give each channel its light; a single one is grey."""
    if channels == 1:
        return [(1.0, 1.0, 1.0)]
    return [CHANNEL_COLOURS[number % len(CHANNEL_COLOURS)] for number in range(channels)]


def _composite(
    planes: NDArray[np.float32],
    ranges: Sequence[tuple[float, float]],
    colours: Sequence[tuple[float, float, float]],
) -> NDArray[np.uint8]:
    """Add up the channels in their colours; shape (y, x, 3)."""
    picture = np.zeros((*planes.shape[1:], 3), np.float32)
    for plane, (low, high), colour in zip(planes, ranges, colours, strict=False):
        light = np.clip((plane - low) / (high - low), 0, 1) ** 0.8
        picture += light[..., None] * np.asarray(colour, np.float32)
    shown: NDArray[np.uint8] = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return shown


def _data_uri(picture: NDArray[np.uint8]) -> str:
    import imagecodecs

    encoded: Any = imagecodecs.jpeg_encode(picture, level=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")
