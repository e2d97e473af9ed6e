"""Nuclei, cells and cytoplasm as label images."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray  # noqa: TC002  # annotations are read when compiling

from openhcs.functions._clumps import part_clumps, watershed
from openhcs.functions._device import ARRAYS, on_host, tools_of
from openhcs.functions._inputs import (  # noqa: TC001  # annotations are read when compiling
    ChannelPlanes,
    PlaneArray,
)
from openhcs.functions._quantities import (  # noqa: TC001  # annotations are read when compiling
    Factor,
    Fraction,
    LengthUm,
    PositiveUm,
)
from openhcs.functions._registry import Axes, Kind, Output, function
from openhcs.functions._threshold import Cut, Histogram, minimum_error, one_class, otsu

__all__ = ["segment_cells", "segment_cytoplasm", "segment_nuclei"]

Threshold: TypeAlias = Literal["otsu", "local", "minimum-error"] | float

_THRESHOLDS = ("otsu", "local", "minimum-error")

_LEAST_STEP = 6.0  # between two classes, in standard deviations of the noise; plain noise has 1.4
_CELL_EDGE_UM = 5.0  # within which the edge of a cell body rises
_LEAST_RISE = 0.3  # over half a nucleus, as a fraction of the step; a slope has 0.05


@function(outputs=(Output("nuclei", Kind.LABELS),), needs=frozenset({"pixel_um"}), gpu=ARRAYS)
def segment_nuclei(
    plane: PlaneArray,
    *,
    pixel_um: tuple[float, float],
    threshold: Threshold = "otsu",
    threshold_factor: Factor = 1.0,
    smoothing_um: LengthUm = 0.7,
    min_diameter_um: PositiveUm = 5.0,
    max_diameter_um: PositiveUm = 40.0,
    split_depth: Fraction = 0.08,
    local_window_um: PositiveUm = 80.0,
) -> NDArray[np.int32]:
    """Find bright, roundish objects such as nuclei and part those that touch.

    Parameters
    ----------
    plane
        Shape (y, x), integer or floating point.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    threshold
        ``"otsu"``: one value for the plane; ``"local"``: the same over a background that varies
        within the plane; ``"minimum-error"``: for classes of very different size; or a number in
        the plane's own units.
    threshold_factor
        Moves a found threshold away from the background (above 1) or towards it; greater than 0.
    smoothing_um
        Standard deviation of the Gaussian applied first; 0 for none.
    min_diameter_um, max_diameter_um
        Objects whose area is that of a smaller or greater disk are left out; 0 < min < max.
    split_depth
        Two centres in one object belong to two nuclei when the neck between them is narrower than
        the thinner of the two by this fraction; 0 to 1, where 1 never splits.
    local_window_um
        Width over which ``"local"`` lets the background vary; greater than a clump of nuclei.

    Returns
    -------
    NDArray[np.int32]
        Shape (y, x): 0 is background, objects count from 1 without gaps. Objects at the border
        are kept; `measure_objects` marks them.

    Raises
    ------
    ValueError
        If the plane is not two-dimensional or a parameter is out of its range.

    Notes
    -----
    Gaussian, threshold, small holes filled, then for each object the distance to its edge,
    smoothed; the maxima of it are seeds of a watershed. Objects with one seed, which are most,
    never see the watershed. Holes up to the size of the smallest nucleus are filled at the end.
    Where a threshold found from the histogram follows no edges, as in an empty field, signal is
    what stands six robust standard deviations above the median. A minority of pixels that are
    exactly 0 after smoothing is canvas that no tile covers, and has no say in the threshold. What
    is not finite is background. Cost: about 0.06 s/Mpx. On a GPU filters, threshold, distances and
    the first numbering are made there; clumps are parted and flooded on the host.
    """
    tools = tools_of(plane)
    xp = tools.xp
    _check_nuclei(plane, pixel_um, min_diameter_um, max_diameter_um, smoothing_um)
    if not 0 <= split_depth <= 1:
        raise ValueError(f"split_depth is {split_depth}; it is a fraction from 0 to 1")
    if not threshold_factor > 0:
        raise ValueError(f"threshold_factor is {threshold_factor}; it must be greater than 0")
    smoothed, covered, noise = _smoothed(plane, smoothing_um, pixel_um)
    if threshold == "local":
        if not local_window_um > 0:
            raise ValueError(f"local_window_um is {local_window_um}; it must be greater than 0")
        if covered is not None:
            # Bare canvas would pull the background down along the edges of the tiles.
            smoothed[~covered] = xp.median(smoothed[covered])
        smoothed = smoothed - _background(smoothed, local_window_um, pixel_um)
    mask = smoothed > _cut(
        smoothed,
        covered,
        threshold,
        threshold_factor,
        integer=not np.issubdtype(plane.dtype, np.floating),
        noise=noise,
        reach_px=tuple(max(1, round(min_diameter_um / 2 / size)) for size in pixel_um),
    )

    pixel_area = pixel_um[0] * pixel_um[1]
    least = max(math.pi / 4 * min_diameter_um**2 / pixel_area, 1.0)
    most = math.pi / 4 * max_diameter_um**2 / pixel_area
    holes = _fill_holes(mask, least / 8, least)
    clumps = xp.zeros(plane.shape, np.int32)
    count = int(tools.ndimage.label(mask, output=clumps))
    areas = on_host(xp.bincount(clumps.ravel(), minlength=count + 1))
    areas[0] = 0
    labels, count = part_clumps(
        on_host(clumps),
        np.flatnonzero(areas >= 2 * least),
        tools=tools,
        pixel_um=pixel_um,
        diameter_um=min_diameter_um,
        depth=split_depth,
    )
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = (areas >= least) & (areas <= most)
    labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]
    _fill_enclosed(labels, holes)
    return labels


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("cells", Kind.LABELS),),
    inputs={"nuclei": (Kind.LABELS, "nuclei")},
    needs=frozenset({"pixel_um"}),
    gpu=ARRAYS,
)
def segment_cells(
    channels: ChannelPlanes,
    *,
    nuclei: NDArray[Any],
    pixel_um: tuple[float, float],
    guide: str | None = None,
    distance_um: LengthUm = 8.0,
    threshold: Threshold = "otsu",
    threshold_factor: Factor = 0.6,
    smoothing_um: LengthUm = 1.0,
) -> NDArray[np.int32]:
    """Give every nucleus the cell around it, with the same number.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each.
    nuclei
        Labels, shape (y, x).
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    guide
        Name of a channel that shows the cell body: cells reach to its threshold and meet where it
        is darkest between them. Without one, cells reach as far as ``distance_um``.
    distance_um
        Greatest distance from the nucleus; 0 or more.
    threshold, threshold_factor, smoothing_um
        As in `segment_nuclei`, for the guide.

    Returns
    -------
    NDArray[np.int32]
        Shape (y, x), numbered as the nuclei; every nucleus lies within its cell.

    Raises
    ------
    ValueError
        If the guide is no channel, shapes differ, or a parameter is out of its range.
    """
    if distance_um < 0:
        raise ValueError(f"distance_um is {distance_um}; it must be 0 or more")
    if guide is not None and guide not in channels:
        raise ValueError(f"guide {guide!r} is no channel; there are {', '.join(channels)}")
    tools = tools_of(nuclei)
    seeds = nuclei.astype(np.int32)
    if not seeds.any():
        return seeds
    distance, (rows, columns) = tools.ndimage.distance_transform_edt(
        seeds == 0, sampling=pixel_um, return_indices=True
    )
    near = distance <= distance_um
    if guide is None:
        reached: NDArray[np.int32] = tools.xp.where(near, seeds[rows, columns], 0).astype(np.int32)
        return reached
    plane = channels[guide]
    if plane.shape != seeds.shape:
        raise ValueError(f"channel {guide!r} has shape {plane.shape}, the nuclei {seeds.shape}")
    smoothed, covered, noise = _smoothed(plane, smoothing_um, pixel_um)
    body = smoothed > _cut(
        smoothed,
        covered,
        threshold,
        threshold_factor,
        integer=not np.issubdtype(plane.dtype, np.floating),
        noise=noise,
        reach_px=tuple(max(1, round(_CELL_EDGE_UM / size)) for size in pixel_um),
    )
    body &= near
    body |= seeds > 0
    return watershed(on_host(-smoothed), on_host(seeds), on_host(body))


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("cytoplasm", Kind.LABELS),),
    inputs={"cells": (Kind.LABELS, "cells"), "nuclei": (Kind.LABELS, "nuclei")},
)
def segment_cytoplasm(
    channels: ChannelPlanes,  # noqa: ARG001  # every function is handed its axes first
    *,
    cells: NDArray[Any],
    nuclei: NDArray[Any],
) -> NDArray[np.int32]:
    """Take the nuclei out of the cells; what is left keeps the cell's number.

    Parameters
    ----------
    channels
        Not looked at.
    cells, nuclei
        Labels of one shape (y, x).

    Returns
    -------
    NDArray[np.int32]
        Shape (y, x). A cell that is all nucleus has no cytoplasm: its number is missing.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if cells.shape != nuclei.shape:
        raise ValueError(f"cells have shape {cells.shape}, nuclei {nuclei.shape}")
    return np.where(np.asarray(nuclei) > 0, 0, cells).astype(np.int32, copy=False)


def _check_nuclei(
    plane: PlaneArray,
    pixel_um: tuple[float, float],
    min_diameter_um: float,
    max_diameter_um: float,
    smoothing_um: float,
) -> None:
    if plane.ndim != 2:
        raise ValueError(f"a plane has two axes (y, x); this one has shape {plane.shape}")
    if not (pixel_um[0] > 0 and pixel_um[1] > 0):
        raise ValueError(f"pixel_um is {pixel_um}; both sizes must be greater than 0")
    if not 0 < min_diameter_um < max_diameter_um:
        raise ValueError(
            f"min_diameter_um is {min_diameter_um} and max_diameter_um {max_diameter_um}; "
            "the first must be greater than 0 and less than the second"
        )
    if smoothing_um < 0:
        raise ValueError(f"smoothing_um is {smoothing_um}; it must be 0 or more")


def _smoothed(
    plane: PlaneArray, smoothing_um: float, pixel_um: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, float]:
    """Smooth a plane; say where tiles cover it (None for everywhere) and how much noise is left."""
    xp, ndimage = tools_of(plane).xp, tools_of(plane).ndimage
    smoothed = xp.nan_to_num(plane.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    noise = 0.0
    if smoothed.shape[1] > 1:
        noise = 1.4826 / math.sqrt(2) * float(xp.median(xp.abs(xp.diff(smoothed[::16]))))
    sigma = tuple(smoothing_um / size for size in pixel_um)
    if smoothing_um > 0:
        smoothed = ndimage.gaussian_filter(smoothed, sigma, truncate=3.0)
        noise /= math.prod(max(1.0, math.sqrt(2 * math.sqrt(math.pi) * s)) for s in sigma)
    free = smoothed == 0
    if not 0 < int(xp.count_nonzero(free)) < free.size / 2:
        return smoothed, None, noise
    # Smoothing has carried the edge of the canvas as far to either side.
    reach = tuple(4 * math.ceil(3 * s) + 3 for s in sigma)
    covered = ndimage.maximum_filter(free.astype(np.uint8), reach) == 0
    return smoothed, covered if covered.any() else None, noise


def _cut(
    smoothed: NDArray[np.float32],
    covered: NDArray[np.bool_] | None,
    threshold: str | float,
    factor: float,
    *,
    integer: bool,
    noise: float,
    reach_px: tuple[int, ...],
) -> float:
    """Find the value above which a pixel is signal; infinity where all pixels are alike."""
    if not isinstance(threshold, str):
        return float(threshold)
    if threshold not in _THRESHOLDS:
        raise ValueError(
            f"threshold is {threshold!r}; it must be a number or one of {', '.join(_THRESHOLDS)}"
        )
    histogram = None if covered is None else Histogram.of(smoothed[covered], integer=integer)
    if histogram is None:
        histogram = Histogram.of(smoothed, integer=integer)
    if histogram is None:
        return math.inf
    cut = minimum_error(histogram) if threshold == "minimum-error" else otsu(histogram)
    if not (cut.sure or _has_edges(smoothed, cut, noise, reach_px)):
        cut = one_class(histogram)
    return cut.background + factor * (cut.value - cut.background)


def _has_edges(
    smoothed: NDArray[np.float32], cut: Cut, noise: float, reach_px: tuple[int, ...]
) -> bool:
    """Say whether a threshold follows edges of objects, not noise or a slope.

    Within the reach of half a nucleus an edge rises by much of the step between the two classes.
    """
    step = cut.signal - cut.background
    if step < _LEAST_STEP * noise:
        return False
    xp = tools_of(smoothed).xp
    at = xp.flatnonzero(xp.abs(smoothed - cut.value) < 0.1 * step)
    if at.size == 0:
        return True
    y, x = xp.divmod(at[:: max(1, at.size // 10_000)], smoothed.shape[1])
    rise = xp.zeros(y.size, np.float32)
    for dy, dx in ((-reach_px[0], 0), (reach_px[0], 0), (0, -reach_px[1]), (0, reach_px[1])):
        beside_y = (y + dy).clip(0, smoothed.shape[0] - 1)
        beside_x = (x + dx).clip(0, smoothed.shape[1] - 1)
        xp.maximum(rise, xp.abs(smoothed[beside_y, beside_x] - cut.value), out=rise)
    return bool(float(xp.median(rise)) > _LEAST_RISE * step)


def _background(
    smoothed: NDArray[np.float32], window_um: float, pixel_um: tuple[float, float]
) -> NDArray[np.float32]:
    """Follow the lower side of a plane at a scale at which this costs little, on the host."""
    from scipy import ndimage
    from skimage.transform import resize

    step = tuple(max(1, round(window_um / 8 / size)) for size in pixel_um)
    step = (min(step[0], smoothed.shape[0]), min(step[1], smoothed.shape[1]))
    rows, columns = smoothed.shape[0] // step[0], smoothed.shape[1] // step[1]
    blocks = smoothed[: rows * step[0], : columns * step[1]]
    coarse = on_host(blocks.reshape(rows, step[0], columns, step[1]).mean(axis=(1, 3)))
    # A slope is taken off first: an opening would flatten it at the border.
    y, x = (grid.ravel() for grid in np.indices(coarse.shape))
    terms = np.stack([np.ones(y.size), y, x], axis=1)
    slope = (terms @ np.linalg.lstsq(terms, coarse.ravel(), rcond=None)[0]).reshape(coarse.shape)
    opened = ndimage.grey_opening(coarse - slope, size=(9, 9))
    even = slope + ndimage.gaussian_filter(opened, 4.0)
    background: NDArray[Any] = resize(  # type: ignore[no-untyped-call]  # scikit-image has no types
        even, smoothed.shape, order=1, mode="edge", preserve_range=True, anti_aliasing=False
    )
    return tools_of(smoothed).take(background.astype(np.float32))  # type: ignore[no-any-return]


def _fill_holes(
    mask: NDArray[np.bool_], small: float, large: float
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Fill, in place, holes of at most ``small`` pixels; give the pixels of those up to ``large``.

    Those may be gaps between nuclei that touch all round, which part where the gap is.
    """
    from scipy.ndimage import find_objects

    xp = tools_of(mask).xp
    holes, count = tools_of(mask).ndimage.label(~mask)
    sizes = xp.bincount(holes.ravel(), minlength=int(count) + 1)
    # What reaches the border is no hole, also where the whole plane is smaller than one.
    beyond = max(mask.size, math.ceil(large)) + 1
    for edge in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        sizes[edge] = beyond
    sizes[0] = beyond
    fill = sizes <= small
    if fill.any():
        mask |= fill[holes]
    gaps = np.flatnonzero(on_host((sizes > small) & (sizes <= large)))
    holes = on_host(holes) if gaps.size else holes
    boxes = find_objects(holes) if gaps.size else []
    found = []
    for number in gaps:
        rows, columns = boxes[number - 1]
        y, x = np.nonzero(holes[rows, columns] == number)
        found.append((y + rows.start, x + columns.start))
    return found


def _fill_enclosed(
    labels: NDArray[np.int32], holes: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
) -> None:
    """Give, in place, holes to the object round them where that is a single one."""
    for y, x in holes:
        # Holes do not reach the border: every pixel has four neighbours.
        around = np.concatenate(
            [labels[y - 1, x], labels[y + 1, x], labels[y, x - 1], labels[y, x + 1]]
        )
        objects = np.unique(around[around > 0])
        if objects.size == 1:
            labels[y, x] = objects[0]
