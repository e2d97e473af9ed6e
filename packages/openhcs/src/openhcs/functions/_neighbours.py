"""Objects that lie beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._checks import checked_labels, positive
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._quantities import PositiveUm  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy.spatial import cKDTree

    from openhcs.functions._inputs import ChannelPlanes, Columns

__all__ = ["measure_neighbours"]

_PAIRS = 2_000_000
"""Pairs of pixels that are held at once, about."""

_AROUND = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("neighbours", Kind.TABLE),),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_neighbours(
    channels: ChannelPlanes,  # noqa: ARG001  # every function is handed its axes first
    *,
    labels: NDArray[Any],
    pixel_um: tuple[float, float],
    distance_um: PositiveUm = 5.0,
) -> Columns:
    """Count the neighbours of every object, and measure how near the nearest is.

    Parameters
    ----------
    channels
        Not looked at.
    labels
        Shape (y, x), integer: 0 is background.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    distance_um
        Up to which another object is a neighbour, in µm, from the nearest pixel of the one to the
        nearest pixel of the other; above 0. Objects that touch always are.

    Returns
    -------
    Columns
        One row per object: ``ObjectNumber``; ``Neighbors_NumberOfNeighbors``;
        ``Neighbors_NumberTouching``, those with a pixel beside one of this object, also diagonally;
        ``Neighbors_PercentTouching``, the part of this object's outline that has another beside it;
        ``Neighbors_FirstClosestObjectNumber`` and ``Neighbors_FirstClosestDistance_um``, of the
        object whose pixels are nearest, 0 and NaN when there is no other;
        ``Neighbors_FirstClosestCenterDistance_um``, from centre to nearest centre.

    Raises
    ------
    ValueError
        If labels are no integers (y, x) or the distance is not above 0.

    Notes
    -----
    Names follow CellProfiler. Distances are exact, between centres of pixels of the two outlines,
    by a k-d tree of those.
    """
    from scipy.spatial import cKDTree

    positive(distance_um=distance_um)
    pixels = ObjectPixels.of(checked_labels(labels, pixel_um))
    count = pixels.numbers.size
    outline, touching, part = _outline(labels, pixels)
    y, x = np.divmod(pixels.flat[outline], max(labels.shape[1], 1))
    places = np.stack([y * pixel_um[0], x * pixel_um[1]], axis=1)
    owner = pixels.objects[outline]
    tree = cKDTree(places) if count > 1 else None
    near = [_nearest(tree, places, owner, np.arange(owner.size), distance_um, count)]
    first, second, _ = near[0]
    pairs = np.unique(np.concatenate([first * count + second, touching]))
    closest, closest_um = _closest(near[0], count)
    reach = distance_um
    while tree is not None and (closest < 0).any():
        reach *= 2
        of = np.flatnonzero(closest[owner] < 0)
        found, found_um = _closest(_nearest(tree, places, owner, of, reach, count), count)
        new = (closest < 0) & (found >= 0)
        closest[new], closest_um[new] = found[new], found_um[new]
    return {
        "ObjectNumber": pixels.numbers,
        "Neighbors_NumberOfNeighbors": np.bincount(pairs // max(count, 1), minlength=count),
        "Neighbors_NumberTouching": np.bincount(touching // max(count, 1), minlength=count),
        "Neighbors_PercentTouching": 100 * part,
        "Neighbors_FirstClosestObjectNumber": (
            np.where(closest < 0, 0, pixels.numbers[closest]) if count else pixels.numbers
        ),
        "Neighbors_FirstClosestDistance_um": closest_um,
        "Neighbors_FirstClosestCenterDistance_um": _centre_distances(
            pixels, labels.shape, pixel_um
        ),
    }


def _outline(
    labels: NDArray[Any], pixels: ObjectPixels
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Give the outline's pixels, touching pairs of objects, and which part of the outline touches.

    Pairs are written as first row times the number of objects plus second row, both ways round.
    """
    height, width = labels.shape
    count = pixels.numbers.size
    stride = width + 2
    y, x = np.divmod(pixels.flat, max(width, 1))
    place = (y + 1) * stride + x + 1
    owners = np.full((height + 2) * stride, -1, np.intp)
    owners[place] = pixels.objects
    edge = np.zeros(place.size, bool)
    beside_other = np.zeros(place.size, bool)
    pairs: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    for dy, dx in _AROUND:
        other = owners[place + dy * stride + dx]
        foreign = (other >= 0) & (other != pixels.objects)
        # An outline of pixels that are beside each other, as a pencil would draw it.
        edge |= (other != pixels.objects) & (dy == 0 or dx == 0)
        edge |= foreign
        beside_other |= foreign
        pairs.append(np.unique(pixels.objects[foreign] * count + other[foreign]))
    outline = np.flatnonzero(edge)
    owner = pixels.objects[outline]
    length = np.bincount(owner, minlength=count)
    touched = np.bincount(owner[beside_other[outline]], minlength=count)
    return outline, np.unique(np.concatenate(pairs)), touched / np.maximum(length, 1)


Near = tuple["NDArray[np.intp]", "NDArray[np.intp]", "NDArray[np.float64]"]


def _nearest(
    tree: cKDTree | None,
    places: NDArray[np.float64],
    owner: NDArray[np.intp],
    of: NDArray[np.intp],
    reach_um: float,
    count: int,
) -> Near:
    """Give pairs of objects within reach and the distance of their nearest pixels.

    Parameters
    ----------
    of
        Pixels of the outline to begin at; all of each object that has any.
    """
    codes, distances = [np.zeros(0, np.intp)], [np.zeros(0)]
    if tree is not None:
        for part in _portions(places, of, reach_um):
            i, j, apart = _within(tree, places[part], reach_um)
            first, second = owner[part[i]], owner[j]
            other = first != second
            codes.append(first[other] * count + second[other])
            distances.append(apart[other])
            codes[-1], distances[-1] = _least(codes[-1], distances[-1])
    code, apart = _least(np.concatenate(codes), np.concatenate(distances))
    return code // max(count, 1), code % max(count, 1), apart


def _portions(
    places: NDArray[np.float64], of: NDArray[np.intp], reach_um: float
) -> Iterator[NDArray[np.intp]]:
    """Part pixels so that each part has some millions of pairs, if outlines lie evenly."""
    height, width = np.ptp(places, axis=0) + 2 * reach_um
    around = 1 + len(places) * min(1.0, math.pi * reach_um**2 / (height * width))
    yield from np.array_split(of, max(1, math.ceil(of.size * around / _PAIRS)))


def _within(
    tree: cKDTree, places: NDArray[np.float64], reach_um: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    from scipy.spatial import cKDTree as Tree

    pairs = Tree(places).sparse_distance_matrix(tree, reach_um, output_type="ndarray")
    return pairs["i"], pairs["j"], pairs["v"]


def _least(
    code: NDArray[np.intp], distance: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Keep the least distance of each code."""
    order = np.argsort(code, kind="stable")
    code, distance = code[order], distance[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))
    return code[first], np.minimum.reduceat(distance, first) if first.size else distance


def _closest(near: Near, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give the nearest other object of each, -1 for none, and its distance."""
    first, second, apart = near
    order = np.lexsort((second, apart, first))
    first, second, apart = first[order], second[order], apart[order]
    own, at = np.unique(first, return_index=True)
    closest, distance = np.full(count, -1, np.intp), np.full(count, np.nan)
    closest[own], distance[own] = second[at], apart[at]
    return closest, distance


def _centre_distances(
    pixels: ObjectPixels, shape: tuple[int, ...], pixel_um: tuple[float, float]
) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    count = pixels.numbers.size
    if count < 2:
        return np.full(count, np.nan)
    y, x = np.divmod(pixels.flat, max(shape[1], 1))
    centres = np.stack([pixels.total(y) * pixel_um[0], pixels.total(x) * pixel_um[1]], axis=1)
    centres /= pixels.areas[:, None]
    distance, _ = cKDTree(centres).query(centres, k=[2])
    return np.asarray(distance).ravel()
