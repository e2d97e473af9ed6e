"""Small colour pictures of wells, comparable by eye over the whole plate."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CHANNEL_COLOURS", "well_thumbnails"]

_SIZE_PX: Final = 160
_JPEG_QUALITY: Final = 82

# Light of one colour per channel, in the order of the channels; sums stay apart to the eye.
CHANNEL_COLOURS: Final = (
    (0.25, 0.45, 1.0),
    (0.2, 1.0, 0.35),
    (1.0, 0.35, 0.2),
    (1.0, 0.85, 0.2),
    (0.9, 0.3, 1.0),
    (0.3, 1.0, 1.0),
)


def well_thumbnails(folder: Path, wells: Sequence[str]) -> Mapping[str, str]:
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
    Mapping
        ``data:`` URI of a JPEG by well.
    """
    from polystore import NotStoredError
    from polystore.backends import read_plate

    plate = folder / "plate.zarr"
    try:
        layout = read_plate(plate)
    except NotStoredError:
        return {}
    small = {
        well: planes
        for well in wells
        if well in layout.wells
        and (planes := _small_planes(plate, well, layout.wells[well][0].path)) is not None
    }
    if not small:
        return {}
    ranges = _ranges(list(small.values()))
    return {well: _data_uri(_composite(planes, ranges)) for well, planes in small.items()}


def _small_planes(plate: Path, well: str, name: str) -> NDArray[np.float32] | None:
    """Read every channel of a well's first image at the coarsest level that is still sharp.

    Returns
    -------
    ndarray or None
        Shape (channel, y, x); None when the well has no image.
    """
    from polystore import NotStoredError
    from polystore.backends import open_image

    try:
        image = open_image(plate, well, name)
    except NotStoredError:
        return None
    level = image.level_count - 1
    while level and max(image.shapes[level][-2:]) < _SIZE_PX:
        level -= 1
    step = max(1, max(image.shapes[level][-2:]) // _SIZE_PX)
    channels = range(max(len(image.channel_names), 1))
    planes = [_binned(image.read(level, c=channel), step) for channel in channels]
    return np.stack(planes)


def _binned(plane: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Take means of step x step pixels; what is left over at the edges is cut off."""
    height, width = (size // step * step for size in plane.shape)
    blocks = plane[:height, :width].reshape(height // step, step, width // step, step)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def _ranges(wells: Sequence[NDArray[np.float32]]) -> list[tuple[float, float]]:
    """Give the 0.1 and 99.8 % quantiles of each channel over all wells."""
    channels = min(len(planes) for planes in wells)
    ranges: list[tuple[float, float]] = []
    for channel in range(channels):
        sample = np.concatenate([planes[channel].ravel()[::7] for planes in wells])
        low, high = np.percentile(sample, [0.1, 99.8])
        ranges.append((float(low), float(max(high, low + 1))))
    return ranges


def _composite(
    planes: NDArray[np.float32], ranges: Sequence[tuple[float, float]]
) -> NDArray[np.uint8]:
    """Add up the channels in their colours; shape (y, x, 3)."""
    picture = np.zeros((*planes.shape[1:], 3), np.float32)
    for index, (low, high) in enumerate(ranges):
        light = np.clip((planes[index] - low) / (high - low), 0, 1) ** 0.8
        colour = CHANNEL_COLOURS[index % len(CHANNEL_COLOURS)] if len(ranges) > 1 else (1, 1, 1)
        picture += light[..., None] * np.asarray(colour, np.float32)
    shown: NDArray[np.uint8] = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return shown


def _data_uri(picture: NDArray[np.uint8]) -> str:
    import imagecodecs

    encoded: Any = imagecodecs.jpeg_encode(picture, level=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode("ascii")
