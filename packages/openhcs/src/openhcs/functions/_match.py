"""The shift between two overlapping strips, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Match", "match", "texture"]

_CANDIDATES = 4
_APART_PX = 3
_LEAST_OVERLAP_PX = 20
_LEAD = 0.02
"""By how much the best correlation must exceed the second best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How two strips fit together.

    Attributes
    ----------
    shift_px
        (y, x): pixel ``p`` of the first strip shows what ``p - shift`` of the second does.
    ncc
        Normalised cross-correlation there, -1 to 1.
    unique
        Whether no other shift correlates within 0.02 as well.
    """

    shift_px: tuple[float, float]
    ncc: float
    unique: bool


def texture(strip: NDArray[np.float32]) -> float:
    """Compare the energy of fine structure with what the noise alone would have.

    Parameters
    ----------
    strip
        Shape (y, x), at least 7 by 7 px.

    Returns
    -------
    float
        About 1 for white noise, or for noise upon slow gradients; more where there is structure;
        0 for a constant strip.

    Notes
    -----
    The noise is measured by differences that cancel lines and edges: Immerkaer, Computer Vision
    and Image Understanding 64 (1996) 300-302.
    """
    across = _second_difference(strip, axis=0)
    noise = _second_difference(across, axis=1)
    energy = float(laplacian(strip).var(dtype=np.float64))
    expected = float(np.square(noise).mean(dtype=np.float64)) / 36 * _noise_gain()
    if expected == 0:
        return 0.0 if energy == 0 else float("inf")
    return energy / expected


def laplacian(strip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the Laplacian of a strip smoothed by a binomial of variance 1 px²; shape (y-6, x-6)."""
    smooth = strip
    for axis in (0, 1):
        for _ in range(4):
            smooth = _pair_sum(smooth, axis)
    smooth *= np.float32(1 / 256)
    curved = _second_difference(smooth, axis=0)[:, 1:-1]
    curved += _second_difference(smooth, axis=1)[1:-1]
    return curved


def _noise_gain() -> float:
    """Give the variance of the Laplacian of white noise of variance 1."""
    smooth = np.array([1, 4, 6, 4, 1]) / 16
    curved = np.convolve(smooth, [1, -2, 1])
    padded = np.pad(smooth, 1)
    kernel = np.multiply.outer(curved, padded) + np.multiply.outer(padded, curved)
    return float(np.sum(np.square(kernel)))


def _pair_sum(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    if axis == 0:
        return values[1:] + values[:-1]
    return values[:, 1:] + values[:, :-1]


def _second_difference(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    low, middle, high = (
        (values[:-2], values[1:-1], values[2:])
        if axis == 0
        else (values[:, :-2], values[:, 1:-1], values[:, 2:])
    )
    curved = low + high
    curved -= middle
    curved -= middle
    return curved


def match(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    *,
    expected: tuple[float, float],
) -> Match | None:
    """Find the shift at which two strips agree best.

    Parameters
    ----------
    first, second
        Strips of one shape (y, x), at least 20 px wide.
    expected
        The (y, x) that the stage says; breaks no ties, but is tried as well.

    Returns
    -------
    Match or None
        None if no shift leaves 20 px of overlap.

    Notes
    -----
    Phase correlation (Kuglin & Hines, 1975) of the Laplacians names candidates, and a normalised
    cross-correlation of the strips themselves decides between them. A parabola through its
    neighbours gives the fraction of a pixel.
    """
    tried = {}
    for shift in _candidates(first, second):
        tried[shift] = ncc(first, second, shift)
    del expected
    ranked = sorted(tried, key=lambda shift: tried[shift], reverse=True)
    if not ranked:
        return None
    best = ranked[0]
    unique = len(ranked) < 2 or tried[best] - tried[ranked[1]] >= _LEAD
    return Match(shift_px=_refine(first, second, best), ncc=tried[best], unique=unique)


def _candidates(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> Iterator[tuple[int, int]]:
    """Give whole shifts worth trying: the peaks of the phase correlation, with both signs."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    curved = [laplacian(strip) for strip in (first, second)]
    shape = curved[0].shape
    windows = [_taper(length) for length in shape]
    for strip in curved:
        strip -= strip.mean(dtype=np.float64)
        strip *= windows[0][:, None]
        strip *= windows[1]
    size = [next_fast_len(length, real=True) for length in shape]
    cross = rfft2(curved[0], s=size)
    cross *= np.conj(rfft2(curved[1], s=size))
    magnitude = np.abs(cross)
    magnitude += magnitude.mean(dtype=np.float64) + np.finfo(np.float32).tiny
    cross /= magnitude
    surface = irfft2(cross, s=size)
    for peak in _peaks(surface):
        for y in _signs(peak[0], size[0], first.shape[0]):
            for x in _signs(peak[1], size[1], first.shape[1]):
                yield (y, x)


def _taper(length: int) -> NDArray[np.float32]:
    """Give a window that rises and falls as Hann's does, over an eighth of the length."""
    ramp = max(2, length // 8)
    rise = np.hanning(2 * ramp + 1)[1 : ramp + 1]
    window = np.ones(length, dtype=np.float32)
    window[:ramp], window[-ramp:] = rise, rise[::-1]
    return window


def _peaks(surface: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Give the highest points of a periodic surface that are 3 px or more apart."""
    left = surface.copy()
    height, width = left.shape
    reach = np.arange(-_APART_PX + 1, _APART_PX)
    found = []
    for _ in range(_CANDIDATES):
        y, x = divmod(int(np.argmax(left)), width)
        found.append((y, x))
        left[np.ix_((y + reach) % height, (x + reach) % width)] = -np.inf
    return found


def _signs(shift: int, period: int, size: int) -> list[int]:
    return [s for s in (shift, shift - period) if size - abs(s) >= _LEAST_OVERLAP_PX]


def ncc(first: NDArray[np.float32], second: NDArray[np.float32], shift: tuple[int, int]) -> float:
    """Correlate the parts of two strips that overlap at a shift; 0 where one of them is constant."""
    one, two = first, second
    for axis, step in enumerate(shift):
        size = first.shape[axis]
        ahead = slice(max(0, step), min(size, size + step))
        behind = slice(max(0, -step), min(size, size - step))
        one = one[ahead] if axis == 0 else one[:, ahead]
        two = two[behind] if axis == 0 else two[:, behind]
    one = one - one.mean()
    two = two - two.mean()
    scale = float(np.sqrt(np.vdot(one, one) * np.vdot(two, two)))
    return float(np.vdot(one, two)) / scale if scale > 0 else 0.0


def _refine(
    first: NDArray[np.float32], second: NDArray[np.float32], best: tuple[int, int]
) -> tuple[float, float]:
    """Find the top of the correlation around a whole shift."""
    y, x = best
    centre = ncc(first, second, best)
    dy = _vertex(ncc(first, second, (y - 1, x)), centre, ncc(first, second, (y + 1, x)))
    dx = _vertex(ncc(first, second, (y, x - 1)), centre, ncc(first, second, (y, x + 1)))
    return y + dy, x + dx


def _vertex(before: float, at: float, after: float) -> float:
    """Give the top of the parabola through three values, at most 1 from the middle one."""
    bend = before - 2 * at + after
    if bend >= 0:
        return 0.0
    return float(np.clip((before - after) / (2 * bend), -1, 1))
