"""Blobs of stated sizes: bright places that stand out from the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._canvas import bare_canvas, filled
from openhcs.functions._device import on_host, tools_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["Blobs", "disk_sums", "find_blobs"]

_NOISE_ROWS = 4
"""Every so many rows the noise is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """Blobs of one plane, brightest first.

    Attributes
    ----------
    y, x
        Centres in px; shape (blobs,).
    scale
        Row of the scale of each.
    contrast
        Height above the surroundings.
    noise, threshold
        Of the contrast at the smallest scale.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    scale: NDArray[np.intp]
    contrast: NDArray[np.float64]
    noise: float
    threshold: float


def find_blobs(
    plane: PlaneArray,
    sigmas_px: Sequence[tuple[float, float]],
    threshold_sd: float,
    least_contrast: float,
) -> Blobs:
    """Find local maxima over place and scale of a normalised Laplacian of a Gaussian.

    Parameters
    ----------
    plane
        Shape (y, x); what is not finite counts as 0. Canvas that no tile covers has no blobs, and
        no edge.
    sigmas_px
        Scales (y, x) in px, ascending.
    threshold_sd
        How many standard deviations of the noise at its scale a maximum has to have.
    least_contrast
        What it has to have at least.
    """
    bare = bare_canvas([plane])
    xp = tools_of(plane).xp
    pixels = xp.nan_to_num(plane.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if bare is not None:
        pixels = filled(pixels, bare)
    filtered = [_answer(pixels, sigma) for sigma in sigmas_px]
    noises = [_noise(answer, bare) for answer in filtered]
    # Maxima are few, and looked for one after the other.
    answers = [on_host(answer) for answer in filtered]
    bare = None if bare is None else on_host(bare)
    if bare is not None:
        for answer in answers:
            answer[bare] = 0
    thresholds = [max(threshold_sd * noise, least_contrast) for noise in noises]
    places: list[NDArray[np.intp]] = []
    scales: list[NDArray[np.intp]] = []
    for row, (answer, threshold) in enumerate(zip(answers, thresholds, strict=True)):
        flat = _maxima(answer, threshold)
        for other in (row - 1, row + 1):
            if 0 <= other < len(answers):
                flat = flat[_stands_out(answer, answers[other], flat, strictly=other < row)]
        places.append(flat)
        scales.append(np.full(flat.size, row))
    flat, scale = np.concatenate(places), np.concatenate(scales)
    stack = np.stack([answer.ravel()[flat] for answer in answers])
    contrast = stack[scale, np.arange(flat.size)].astype(np.float64)
    order = np.lexsort((flat, -contrast))
    flat, scale, contrast = flat[order], scale[order], contrast[order]
    y, x = np.divmod(flat, max(plane.shape[1], 1))
    moved_y, moved_x = np.zeros(y.size), np.zeros(x.size)
    for row, answer in enumerate(answers):
        of = scale == row
        moved_y[of] = _vertex(answer, y[of], x[of], axis=0)
        moved_x[of] = _vertex(answer, y[of], x[of], axis=1)
    return Blobs(
        y=y + moved_y,
        x=x + moved_x,
        scale=scale,
        contrast=contrast,
        noise=noises[0],
        threshold=thresholds[0],
    )


def _answer(pixels: NDArray[np.float32], sigma: tuple[float, float]) -> NDArray[np.float32]:
    """Filter at one scale; a Gaussian spot of this scale gives its height."""
    gaussian_filter1d = tools_of(pixels).ndimage.gaussian_filter1d
    smooth_x = gaussian_filter1d(pixels, sigma[1], axis=1, mode="nearest")
    curved_y = gaussian_filter1d(smooth_x, sigma[0], axis=0, order=2, mode="nearest")
    smooth_y = gaussian_filter1d(pixels, sigma[0], axis=0, mode="nearest")
    curved_x = gaussian_filter1d(smooth_y, sigma[1], axis=1, order=2, mode="nearest")
    curved_y *= np.float32(-2 * sigma[0] ** 2)
    curved_x *= np.float32(-2 * sigma[1] ** 2)
    curved_y += curved_x
    answer: NDArray[np.float32] = curved_y
    return answer


def _noise(answer: NDArray[np.float32], bare: NDArray[np.bool_] | None) -> float:
    rows = answer[::_NOISE_ROWS]
    if bare is not None:
        rows = rows[~bare[::_NOISE_ROWS]]
    if rows.size == 0:
        return 0.0
    xp = tools_of(rows).xp
    return 1.4826 * float(xp.median(xp.abs(rows - xp.median(rows))))


def _maxima(answer: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Give places above a threshold and above their neighbours; of equal ones the first."""
    height, width = answer.shape
    flat = np.flatnonzero(answer > max(threshold, 0.0))
    y, x = np.divmod(flat, max(width, 1))
    values = answer.ravel()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                continue
            other_y, other_x = (y + dy).clip(0, height - 1), (x + dx).clip(0, width - 1)
            beside = values[other_y * width + other_x]
            outside = (other_y != y + dy) | (other_x != x + dx)
            earlier = (dy, dx) < (0, 0)
            own = values[flat]
            kept = outside | ((own > beside) if earlier else (own >= beside))
            flat, y, x = flat[kept], y[kept], x[kept]
    return flat


def _stands_out(
    answer: NDArray[np.float32],
    other: NDArray[np.float32],
    flat: NDArray[np.intp],
    *,
    strictly: bool,
) -> NDArray[np.bool_]:
    """Say which places answer more than their surroundings do at the scale beside."""
    height, width = answer.shape
    y, x = np.divmod(flat, max(width, 1))
    own = answer.ravel()[flat]
    most = np.full(flat.size, -np.inf, np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            beside = other[(y + dy).clip(0, height - 1), (x + dx).clip(0, width - 1)]
            np.maximum(most, beside, out=most)
    return own > most if strictly else own >= most


def _vertex(
    answer: NDArray[np.float32], y: NDArray[np.intp], x: NDArray[np.intp], *, axis: int
) -> NDArray[np.float64]:
    """Give how far, along an axis, the top of a parabola lies from each maximum, in px."""
    last = answer.shape[axis] - 1
    along = (y, x)[axis]
    inner = (along > 0) & (along < last)
    steps = ((1, 0), (0, 1))[axis]
    before = answer[y - steps[0] * inner, x - steps[1] * inner].astype(np.float64)
    after = answer[y + steps[0] * inner, x + steps[1] * inner].astype(np.float64)
    bend = before - 2 * answer[y, x].astype(np.float64) + after
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(bend < 0, 0.5 * (before - after) / bend, 0.0)
    return np.asarray(np.clip(moved, -0.5, 0.5))


def disk_sums(
    plane: PlaneArray,
    found: Blobs,
    diameter_um: NDArray[np.float64],
    pixel_um: tuple[float, float],
) -> NDArray[np.float64]:
    """Sum up the disk of each blob above the median of a ring around it.

    Parameters
    ----------
    plane
        Shape (y, x).
    found
        Blobs of that plane.
    diameter_um
        Of each blob's disk; shape (blobs,). The ring is from one to one and a half of it.
    pixel_um
        Size of a pixel (y, x) in µm.
    """
    result = np.zeros(found.y.size)
    # What is not finite is the background's, as for finding.
    values = plane if plane.dtype.kind in "ui" else np.nan_to_num(plane, posinf=0.0, neginf=0.0)
    for diameter in np.unique(diameter_um):
        of = np.flatnonzero(diameter_um == diameter)
        disk = _offsets(0.0, diameter / 2, pixel_um)
        ring = _offsets(diameter, 1.5 * diameter, pixel_um)
        for part in np.array_split(of, max(1, of.size * len(ring[0]) // 4_000_000)):
            y, x = np.rint(found.y[part]).astype(np.intp), np.rint(found.x[part]).astype(np.intp)
            around = np.median(_gathered(values, y, x, ring), axis=1)
            result[part] = (_gathered(values, y, x, disk) - around[:, None]).sum(axis=1)
    return result


def _offsets(
    least_um: float, most_um: float, pixel_um: tuple[float, float]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give the pixels at these distances from a centre."""
    reach = [math.ceil(most_um / size) for size in pixel_um]
    y, x = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    distance = np.hypot(y * pixel_um[0], x * pixel_um[1])
    there = (distance >= least_um) & (distance <= most_um)
    return y[there], x[there]


def _gathered(
    plane: PlaneArray,
    y: NDArray[np.intp],
    x: NDArray[np.intp],
    offsets: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float64]:
    rows = np.add.outer(y, offsets[0]).clip(0, plane.shape[0] - 1)
    columns = np.add.outer(x, offsets[1]).clip(0, plane.shape[1] - 1)
    return np.asarray(plane[rows, columns], np.float64)
