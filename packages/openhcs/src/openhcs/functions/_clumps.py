"""Connected objects, parted where they have a neck.

Filters cost by the pixel and by the call, and most of a plane is background. So objects are laid
side by side on a sheet without the background between them, and each filter runs once per sheet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._device import on_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._device import Tools

__all__ = ["part_clumps", "watershed"]

_GAP = 2
_SHEET_PIXELS = 1 << 22


@dataclass(frozen=True, slots=True)
class _Sheet:
    """Where objects lie on a sheet.

    Attributes
    ----------
    shape
        (y, x) of the sheet.
    numbers
        The objects.
    places
        Their boxes on the sheet.
    """

    shape: tuple[int, int]
    numbers: tuple[int, ...]
    places: tuple[tuple[slice, slice], ...]


def part_clumps(
    clumps: NDArray[np.int32],
    numbers: NDArray[np.intp],
    *,
    tools: Tools,
    pixel_um: tuple[float, float],
    diameter_um: float,
    depth: float,
) -> tuple[NDArray[np.int32], int]:
    """Give every part of every object a number of its own.

    Parameters
    ----------
    clumps
        Connected objects numbered from 1 without gaps, shape (y, x).
    numbers
        Those to look at; the others keep their numbers.
    tools
        What filters the sheets.
    pixel_um
        Size of a pixel (y, x) in µm.
    diameter_um
        Of the smallest part.
    depth
        How much narrower than the thinner part a neck is, as a fraction.

    Returns
    -------
    NDArray[np.int32], int
        ``clumps``, changed in place: objects with several parts have lost their numbers to them.
        And the highest number.

    Notes
    -----
    The distance to the edge of each object is smoothed a little; its maxima are seeds. Seeds
    without a neck between them are one; objects with several are flooded from them.
    """
    from scipy.ndimage import find_objects

    ndimage = tools.ndimage
    boxes = [(box[0], box[1]) for box in find_objects(clumps)]
    highest = len(boxes)
    smoothing = tuple(0.1 * diameter_um / size for size in pixel_um)
    window = tuple(2 * max(1, round(0.3 * diameter_um / size)) + 1 for size in pixel_um)
    for sheet in _sheets(boxes, numbers):
        objects = np.zeros(sheet.shape, np.int32)
        for number, place in zip(sheet.numbers, sheet.places, strict=True):
            np.copyto(objects[place], number, where=clumps[boxes[number - 1]] == number)
        there = tools.take(objects)
        far = ndimage.distance_transform_edt(there, sampling=pixel_um).astype(np.float32)
        far = ndimage.gaussian_filter(far, smoothing, mode="constant", truncate=3.0)
        peaks = (ndimage.maximum_filter(far, window) == far) & (there > 0)
        found = tools.xp.zeros(sheet.shape, np.int32)
        ndimage.label(peaks, np.ones((3, 3), bool), output=found)
        distance, seeds = on_host(far), on_host(found)
        _merge_seeds(seeds, objects, distance, depth=depth, pixel_um=pixel_um)
        several = np.flatnonzero(np.bincount(_owners(seeds, objects), minlength=1) > 1)
        if several.size == 0:
            continue
        mask = np.isin(objects, several)
        parts = watershed(-distance, np.where(mask, seeds, 0).astype(np.int32), mask)
        wanted = set(several.tolist())
        for number, place in zip(sheet.numbers, sheet.places, strict=True):
            if number in wanted:
                part = np.where(objects[place] == number, parts[place], 0)
                np.copyto(clumps[boxes[number - 1]], part + highest, where=part > 0)
        highest += int(seeds.max())
    return clumps, highest


def watershed(
    height: NDArray[np.float32], seeds: NDArray[np.int32], mask: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Flood from the seeds, which keep their numbers."""
    from skimage import segmentation

    flooded: NDArray[Any] = segmentation.watershed(  # type: ignore[no-untyped-call]  # scikit-image
        height, seeds, mask=mask
    )
    return flooded.astype(np.int32, copy=False)


def _sheets(boxes: Sequence[tuple[slice, slice]], numbers: NDArray[np.intp]) -> Iterator[_Sheet]:
    """Lay boxes side by side on shelves, the highest first."""
    sizes = {
        int(number): (
            boxes[number - 1][0].stop - boxes[number - 1][0].start + _GAP,
            boxes[number - 1][1].stop - boxes[number - 1][1].start + _GAP,
        )
        for number in numbers
    }
    if not sizes:
        return
    total = sum(height * width for height, width in sizes.values())
    width = max(*(size[1] for size in sizes.values()), 0)
    width = max(width, math.isqrt(min(total, _SHEET_PIXELS))) + _GAP
    placed: dict[int, tuple[slice, slice]] = {}
    top, left, shelf = _GAP, _GAP, 0
    for number, (tall, wide) in sorted(sizes.items(), key=lambda item: -item[1][0]):
        if left + wide > width:
            top, left, shelf = top + shelf, _GAP, 0
        if placed and (top + tall) * width > _SHEET_PIXELS:
            yield _Sheet((top + shelf, width), tuple(placed), tuple(placed.values()))
            placed = {}
            top, left, shelf = _GAP, _GAP, 0
        placed[number] = np.s_[top : top + tall - _GAP, left : left + wide - _GAP]
        left += wide
        shelf = max(shelf, tall)
    yield _Sheet((top + shelf, width), tuple(placed), tuple(placed.values()))


def _firsts(seeds: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give row and column of one pixel of each seed, by number from 1."""
    flat = np.flatnonzero(seeds)
    _, first = np.unique(seeds.ravel()[flat], return_index=True)
    y, x = np.divmod(flat[first], seeds.shape[1])
    return y, x


def _owners(seeds: NDArray[np.int32], objects: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the object in which each seed lies, by number from 1."""
    return objects[_firsts(seeds)]


def _merge_seeds(
    seeds: NDArray[np.int32],
    objects: NDArray[np.int32],
    distance: NDArray[np.float32],
    *,
    depth: float,
    pixel_um: tuple[float, float],
) -> None:
    """Give one number, in place, to seeds of an object with no neck between them."""
    from scipy.spatial import KDTree

    y, x = _firsts(seeds)
    owners, heights = objects[y, x], distance[y, x]
    shared = np.flatnonzero(np.bincount(owners, minlength=1)[owners] > 1)
    parent = list(range(y.size))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    places = np.stack([y[shared] * pixel_um[0], x[shared] * pixel_um[1]], axis=1)
    tree = KDTree(places) if shared.size else None
    for i, place in zip(shared.tolist(), places, strict=True):
        # Farther than that, something narrower or a third seed lies between.
        near = [] if tree is None else tree.query_ball_point(place, 2.5 * float(heights[i]))
        for j in shared[near].tolist():
            if owners[i] != owners[j] or (heights[j], j) >= (heights[i], i):
                continue
            steps = int(math.hypot(y[i] - y[j], x[i] - x[j])) + 2
            along_y = np.linspace(y[i], y[j], steps).round().astype(np.intp)
            along_x = np.linspace(x[i], x[j], steps).round().astype(np.intp)
            if distance[along_y, along_x].min() >= (1 - depth) * heights[j]:
                parent[root(j)] = root(i)
    roots = [root(i) for i in range(y.size)]
    order = {kept: number for number, kept in enumerate(dict.fromkeys(roots), start=1)}
    table = np.array([0, *(order[kept] for kept in roots)], np.int32)
    seeds[...] = table[seeds]
