"""Regions as a label image: what pixels they cover, as spans of rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from polystore._errors import PayloadError
from polystore.regions._region import KIND_CODES, RegionKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from polystore.regions._regions import Overlap, Regions

__all__ = ["fill"]

_CROSSINGS_MOST = 2**28
_BATCH_PIXELS = 2**22

_KIND = {kind: code for code, kind in enumerate(KIND_CODES)}


@dataclass(frozen=True, slots=True)
class _Spans:
    """Pixels side by side in a row: region, row, first column, and that behind the last."""

    region: NDArray[np.int64]
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    end: NDArray[np.int64]


def fill(
    regions: Regions, shape: tuple[int, int], dtype: np.dtype[Any], overlap: Overlap
) -> NDArray[Any]:
    """Paint regions: see `Regions.to_labels`."""
    if len(shape) != 2 or min(shape) < 0:
        raise PayloadError(f"the shape has to be height and width, not {shape}")
    if dtype.kind not in "iu":
        raise PayloadError(f"labels have to be integers, not {dtype}")
    if overlap not in ("error", "first", "last"):
        raise PayloadError(f"overlap is 'error', 'first' or 'last', not {overlap!r}")
    labels = regions.labels
    if len(labels) and (labels.min() < 1 or labels.max() > np.iinfo(dtype).max):
        raise PayloadError(
            f"labels from {labels.min()} to {labels.max()} do not fit {dtype}, where 0 is "
            "background: choose a wider type, or number the objects from 1"
        )
    spans = _joined(list(_spans(regions, shape)))
    first = spans.row * shape[1] + spans.first
    end = spans.row * shape[1] + spans.end
    order = np.argsort(first, kind="stable")
    if (first[order][1:] >= end[order][:-1]).all():
        return _apart(first[order], end[order], labels[spans.region[order]], shape, dtype)
    return _over(spans.region, first, end, labels, shape, dtype, overlap)


def _spans(regions: Regions, shape: tuple[int, int]) -> Iterator[_Spans]:
    kinds = regions.kinds
    closed = (kinds == _KIND[RegionKind.POLYGON]) | (kinds == _KIND[RegionKind.RECTANGLE])
    yield _closed(regions, np.flatnonzero(closed), shape)
    if not closed.all():
        for number, region in enumerate(regions):
            ring = region.rings[0].astype(np.float64) if region.rings else np.zeros((0, 2))
            match region.kind:
                case RegionKind.POINT:
                    pixels = np.floor(ring + 0.5)
                    yield _clipped(number, pixels[:, 0], pixels[:, 1], pixels[:, 1] + 1, shape)
                case RegionKind.LINE:
                    pixels = _stepped(ring, shape)
                    yield _clipped(number, pixels[:, 0], pixels[:, 1], pixels[:, 1] + 1, shape)
                case RegionKind.ELLIPSE:
                    yield _ellipse(number, ring, shape)
                case RegionKind.MASK:
                    yield _mask(number, ring, cast("NDArray[np.bool_]", region.mask), shape)
                case RegionKind.POLYGON | RegionKind.RECTANGLE:
                    pass  # done above, all at once


def _closed(regions: Regions, chosen: NDArray[np.int64], shape: tuple[int, int]) -> _Spans:
    """Cover polygons: between odd and even crossings of each row's centre with their sides."""
    height, width = shape
    of_ring = np.repeat(np.arange(len(regions)), np.diff(regions.rings))
    lengths = np.diff(regions.offsets)
    of_vertex = np.repeat(of_ring, lengths)
    wanted = np.zeros(len(regions), np.bool_)
    wanted[chosen] = True
    ahead = np.arange(1, len(regions.vertices) + 1)
    filled = lengths > 0
    ahead[regions.offsets[1:][filled] - 1] = regions.offsets[:-1][filled]
    there = np.flatnonzero(wanted[of_vertex])
    one = regions.vertices[there].astype(np.float64)
    other = regions.vertices[ahead[there]].astype(np.float64)
    upper = one[:, 0] <= other[:, 0]
    top, bottom = np.where(upper[:, None], one, other), np.where(upper[:, None], other, one)
    # a side reaches the rows whose centres are from its upper end to above its lower one
    begin = np.clip(np.ceil(top[:, 0]), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(bottom[:, 0]), 0, height).astype(np.int64)
    count = np.maximum(stop - begin, 0)
    total = int(count.sum())
    if total > _CROSSINGS_MOST:
        raise PayloadError(
            f"the sides of these polygons cross {total} rows, more than {_CROSSINGS_MOST}: "
            "paint fewer at a time"
        )
    side = np.repeat(np.arange(len(there)), count)
    row = np.arange(total) + np.repeat(begin - (np.cumsum(count) - count), count)
    rise = np.where(count > 0, bottom[:, 0] - top[:, 0], 1.0)
    slope = (bottom[:, 1] - top[:, 1]) / rise
    x = top[side, 1] + (row - top[side, 0]) * slope[side]
    column = np.clip(np.ceil(x), 0, width).astype(np.int64)
    region = of_vertex[there[side]]
    order = np.lexsort((column, row, region))
    region, row, column = region[order], row[order], column[order]
    return _Spans(*_kept(region[0::2], row[0::2], column[0::2], column[1::2]))


def _ellipse(number: int, ring: NDArray[np.float64], shape: tuple[int, int]) -> _Spans:
    middle = (ring[0] + ring[2]) / 2
    axes = np.stack([(ring[1] - ring[0]) / 2, (ring[3] - ring[0]) / 2], axis=1)
    if abs(np.linalg.det(axes)) < 1e-12:
        return _clipped(number, *(np.zeros(0),) * 3, shape)
    (a, b), (c, d) = np.linalg.inv(axes)  # places to parts of the half axes
    reach = float(np.hypot(axes[0, 0], axes[0, 1]))
    low = max(0, int(np.ceil(middle[0] - reach)))
    high = min(shape[0] - 1, int(np.floor(middle[0] + reach)))
    row = np.arange(low, high + 1)
    dy = row - middle[0]
    # |(a dy + b dx, c dy + d dx)| <= 1 is a quadratic of dx
    square, half, rest = b * b + d * d, (a * b + c * d) * dy, (a * a + c * c) * dy * dy - 1
    under = half * half - square * rest
    row, half, under = row[under >= 0], half[under >= 0], np.sqrt(under[under >= 0])
    first = np.ceil(middle[1] + (-half - under) / square)
    end = np.ceil(middle[1] + (-half + under) / square)
    return _clipped(number, row, first, end, shape)


def _mask(
    number: int, ring: NDArray[np.float64], mask: NDArray[np.bool_], shape: tuple[int, int]
) -> _Spans:
    top, left = (ring[0] + 0.5).astype(int).tolist()
    edges = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    edges[:, 1:-1] = mask
    change = np.diff(edges, axis=1)
    row, first = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    return _clipped(number, row + top, first + left, end + left, shape)


def _stepped(ring: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Give one pixel for each step along the longer side of every part of a line."""
    parts = [np.zeros((0, 2))]
    for one, other in pairwise(ring):
        along = other - one
        steps = max(1.0, float(np.ceil(np.abs(along).max())))
        begin, end = 0.0, 1.0
        for start, way, side in zip(one, along, shape, strict=True):
            if way:
                edges = sorted(((-1 - start) / way, (side - start) / way))
                begin, end = max(begin, edges[0]), min(end, edges[1])
            elif not -1 <= start <= side:
                end = -1.0
        if begin <= end:
            share = np.arange(np.ceil(begin * steps), np.floor(end * steps) + 1)[:, None] / steps
            parts.append(np.floor(one + share * along + 0.5))
    return np.unique(np.concatenate(parts), axis=0)


def _clipped(
    number: int,
    row: NDArray[Any],
    first: NDArray[Any],
    end: NDArray[Any],
    shape: tuple[int, int],
) -> _Spans:
    inside = (row >= 0) & (row < shape[0])
    columns = [np.clip(edge[inside], 0, shape[1]).astype(np.int64) for edge in (first, end)]
    rows = row[inside].astype(np.int64)
    return _Spans(*_kept(np.full(len(rows), number), rows, columns[0], columns[1]))


def _kept(
    region: NDArray[np.int64],
    row: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    some = end > first
    return region[some], row[some], first[some], end[some]


def _joined(parts: list[_Spans]) -> _Spans:
    return _Spans(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("region", "row", "first", "end")
        )
    )


def _apart(
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    labels: NDArray[np.int64],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Paint spans in the order of the image, none over another: runs of it, one after the other."""
    lengths = np.zeros(2 * len(first) + 1, dtype=np.int64)
    lengths[0::2] = np.diff(first, append=shape[0] * shape[1], prepend=0)
    lengths[1::2] = end - first
    lengths[2::2] -= lengths[1::2]
    values = np.zeros(len(lengths), dtype=dtype)
    values[1::2] = labels
    return np.repeat(values, lengths).reshape(shape)


def _over(
    region: NDArray[np.int64],
    first: NDArray[np.int64],
    end: NDArray[np.int64],
    labels: NDArray[np.int64],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    overlap: Overlap,
) -> NDArray[Any]:
    """Paint spans that lie over each other, in batches; the later one stays."""
    flat = np.zeros(shape[0] * shape[1], dtype=dtype)
    order = np.argsort(-region if overlap == "first" else region, kind="stable")
    region, first, end = region[order], first[order], end[order]
    edges = np.cumsum(end - first)
    batches = np.searchsorted(edges, np.arange(0, int(edges[-1]), _BATCH_PIXELS))
    bounds = np.unique(np.append(batches, len(edges)))
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    for part in parts:
        pixels, painted = _pixels(region[part], first[part], end[part])
        flat[pixels] = labels[painted]
    if overlap == "error":
        for part in parts:
            pixels, painted = _pixels(region[part], first[part], end[part])
            lost = np.flatnonzero(flat[pixels] != labels[painted])
            if len(lost):
                row, column = divmod(int(pixels[lost[0]]), shape[1])
                raise PayloadError(
                    f"regions {labels[painted[lost[0]]]} and {flat[pixels[lost[0]]]} overlap at "
                    f"row {row}, column {column}: say overlap='first' or 'last' where one of "
                    "them may cover the other"
                )
    return flat.reshape(shape)


def _pixels(
    region: NDArray[np.int64], first: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = end - first
    before = np.cumsum(lengths) - lengths
    pixels = np.arange(int(lengths.sum())) + np.repeat(first - before, lengths)
    return pixels, np.repeat(region, lengths)
