"""The shift between two overlapping strips, to a fraction of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._device import on_host, tools_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LEAST_STRIP_PX", "Match", "Strip", "match"]

_LEAST_OVERLAP_PX = 12
"""Narrowest overlap, of strips that smoothing has made 4 px narrower, in which a shift is tried."""
LEAST_STRIP_PX = 26
"""Width of the narrowest strips that can be matched."""
_CANDIDATES = 4
_APART_PX = 3
_LEAD = 0.02
"""By how much the best correlation must exceed the second best."""
_CHANCE = 5.0
"""Standard deviations that a correlation may reach by chance somewhere in a search."""
_BACKGROUND_PX = 65
_STEPS = 8
_LONGEST_STEP_PX = 8
_AMPLE_PX = 65536
"""Pictures of more pixels than these are refined on every other row."""
_ILL_CONDITIONED = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How two strips fit together.

    Attributes
    ----------
    shift_px
        (y, x): pixel ``p`` of the first strip shows what ``p - shift`` of the second does.
    ncc
        Normalised cross-correlation there, -1 to 1.
    chance
        What strips of this size and texture may reach without showing the same.
    unique
        Whether the shift can be told to a fraction of a pixel, and no other one correlates within
        0.02 as well.
    half
        Lesser correlation of the two halves of the overlap, cut across its longer side. In a wide
        search a cell lies upon some other one that looks like it sooner or later; that makes a
        strip of few cells correlate, but one of its halves alone.
    """

    shift_px: tuple[float, float]
    ncc: float
    chance: float
    unique: bool
    half: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A whole shift, its correlation, and what that is worth for the overlap it leaves."""

    shift: tuple[int, int]
    ncc: float
    chance: float
    score: float
    believable: bool


class Strip:
    """A strip of a tile, smoothed once for everything that looks at it.

    Parameters
    ----------
    pixels
        Shape (y, x), 26 px or more each way, on the host or a GPU.

    Attributes
    ----------
    texture
        Energy of the structure over what the noise alone would have: about 1 for white noise,
        also upon slow gradients; more where there is structure; 0 for a constant strip.

    Notes
    -----
    The energy is that of the Laplacian of Gaussian, of variance 1 px². The noise is measured by
    differences that cancel lines and edges: Immerkaer, Computer Vision and Image Understanding 64
    (1996) 300-302.
    """

    __slots__ = ("curved", "smooth", "texture")

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.smooth = _binomial(pixels)
        self.curved = _second_difference(self.smooth, axis=0)[:, 1:-1]
        self.curved += _second_difference(self.smooth, axis=1)[1:-1]
        noise = _second_difference(_second_difference(pixels, axis=0), axis=1)
        vdot = tools_of(pixels).xp.vdot
        expected = float(vdot(noise, noise)) / noise.size / 36 * _NOISE_IN_CURVATURE
        self.curved -= self.curved.mean()
        energy = float(vdot(self.curved, self.curved)) / self.curved.size
        if expected == 0:
            self.texture = 0.0 if energy == 0 else math.inf
        else:
            self.texture = energy / expected


def match(
    first: Strip,
    second: Strip,
    *,
    expected: tuple[float, float],
    limit: tuple[float, float],
) -> Match | None:
    """Find the shift at which two strips agree best.

    Parameters
    ----------
    first, second
        Strips of one shape (y, x).
    expected
        The (y, x) that the stage says.
    limit
        How far from that a shift is believed. One beyond is given only if it correlates by more
        than chance and none within does.

    Returns
    -------
    Match or None
        None if no candidate leaves enough overlap.

    Notes
    -----
    The highest peaks of the correlation of the Laplacians of Gaussian, with half whitened
    spectra, are the candidates. Whole whitening, the phase correlation of Kuglin & Hines (1975),
    would give frequencies of pure noise the weight of all others, and lose smooth cells in it.
    The normalised cross-correlation of the strips without their background decides, counted less
    where the true overlap is smaller than expected.
    """
    one, two = (_without_background(strip.smooth) for strip in (first, second))
    surface = _correlation(first.curved, second.curved)
    wanted = _overlap_px(one.shape, (round(expected[0]), round(expected[1])))
    modes = _modes_per_px(one)
    tried: dict[tuple[int, int], _Trial] = {}
    for shift in _candidates(surface, one.shape, expected, limit):
        if shift not in tried:
            area = _overlap_px(one.shape, shift)
            correlation = ncc(one, two, shift)
            tried[shift] = _Trial(
                shift=shift,
                ncc=correlation,
                chance=_CHANCE / math.sqrt(max(1.0, modes * area)),
                score=correlation * min(1.0, math.sqrt(area / max(1, wanted))),
                believable=_is_within(shift, expected, limit),
            )
    ranked = sorted(
        tried.values(),
        key=lambda trial: (trial.ncc > trial.chance, trial.believable, trial.score),
        reverse=True,
    )
    if not ranked:
        return None
    best = ranked[0]
    rivals = [
        trial
        for trial in ranked[1:]
        if trial.believable == best.believable and best.score - trial.score < _LEAD
    ]
    half = _least_half(one, two, best.shift)
    refined = _refine(on_host(first.smooth), on_host(second.smooth), best.shift)
    if refined is None:
        return Match(shift_px=best.shift, ncc=best.ncc, chance=best.chance, unique=False, half=half)
    nearest = ncc(one, two, (round(refined[0]), round(refined[1])))
    return Match(
        shift_px=refined,
        ncc=max(best.ncc, nearest),
        chance=best.chance,
        unique=all(_one_hill(one, two, best, rival) for rival in rivals),
        half=half,
    )


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate over all cyclic shifts, with half whitened spectra; the surface is on the host."""
    from scipy.fft import next_fast_len

    xp, fft = tools_of(first).xp, tools_of(first).fft
    size = [next_fast_len(length, real=True) for length in first.shape]
    cross = fft.rfft2(_tapered(first), s=size)
    cross *= xp.conj(fft.rfft2(_tapered(second), s=size))
    magnitude = xp.sqrt(xp.abs(cross))
    magnitude += np.float32(1e-3) * magnitude.max() + np.finfo(np.float32).tiny
    cross /= magnitude
    return on_host(fft.irfft2(cross, s=size))


def _modes_per_px(band: NDArray[np.float32]) -> float:
    """Say how many independent values a strip holds per pixel, from how fast it varies."""
    rows = band[1:] - band[:-1]
    columns = band[:, 1:] - band[:, :-1]
    vdot = tools_of(band).xp.vdot
    energy = float(vdot(band, band))
    if energy == 0:
        return 0.0
    return math.sqrt(float(vdot(rows, rows)) * float(vdot(columns, columns))) / (math.pi * energy)


def _tapered(strip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let a strip fade out as Hann's window does, over an eighth of its length at each end."""
    tools = tools_of(strip)
    faded = strip.copy()
    for axis, length in enumerate(strip.shape):
        ramp = max(2, length // 8)
        rise = np.hanning(2 * ramp + 1)[1 : ramp + 1].astype(np.float32)
        ends = faded if axis == 0 else faded.T
        ends[:ramp] *= tools.take(rise[:, None])
        ends[-ramp:] *= tools.take(rise[::-1, None])
    return faded


def _candidates(
    surface: NDArray[np.float32],
    shape: tuple[int, ...],
    expected: tuple[float, float],
    limit: tuple[float, float],
) -> Iterator[tuple[int, int]]:
    """Give whole shifts worth trying: the highest peaks within the limit, and the one beyond."""
    inside = []
    for period, centre, reach in zip(surface.shape, expected, limit, strict=True):
        away = (np.arange(period) - centre + period / 2) % period - period / 2
        inside.append(np.flatnonzero(np.abs(away) <= reach))
    near = surface[np.ix_(*inside)]
    for y, x in _peaks(near):
        for shift in _signs((int(inside[0][y]), int(inside[1][x])), surface.shape, shape):
            if _is_within(shift, expected, limit):
                yield shift
    y, x = divmod(int(np.argmax(surface)), surface.shape[1])
    yield from _signs((y, x), surface.shape, shape)


def _peaks(surface: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Give the highest points that are 3 px or more apart."""
    if surface.size == 0:
        return
    for _ in range(_CANDIDATES):
        y, x = divmod(int(np.argmax(surface)), surface.shape[1])
        if surface[y, x] == -np.inf:
            return
        yield y, x
        reach = _APART_PX - 1
        surface[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = -np.inf


def _signs(
    shift: tuple[int, int], period: tuple[int, ...], shape: tuple[int, ...]
) -> Iterator[tuple[int, int]]:
    """Give what a cyclic shift may stand for, where that leaves enough overlap."""
    for y in (shift[0], shift[0] - period[0]):
        for x in (shift[1], shift[1] - period[1]):
            if shape[0] - abs(y) >= _LEAST_OVERLAP_PX and shape[1] - abs(x) >= _LEAST_OVERLAP_PX:
                yield y, x


def _is_within(
    shift: tuple[int, int], expected: tuple[float, float], limit: tuple[float, float]
) -> bool:
    return all(abs(s - at) <= reach for s, at, reach in zip(shift, expected, limit, strict=True))


def _overlap_px(shape: tuple[int, ...], shift: tuple[int, int]) -> int:
    return math.prod(max(0, size - abs(s)) for size, s in zip(shape, shift, strict=True))


def ncc(first: NDArray[np.float32], second: NDArray[np.float32], shift: tuple[int, int]) -> float:
    """Correlate two strips where they overlap at a shift; 0 where one of them is constant."""
    one, two = _overlap(first, second, shift)
    if one.size == 0:
        return 0.0
    one = one - one.mean()
    two = two - two.mean()
    vdot = tools_of(one).xp.vdot
    scale = math.sqrt(float(vdot(one, one)) * float(vdot(two, two)))
    return float(vdot(one, two)) / scale if scale > 0 else 0.0


def _least_half(
    first: NDArray[np.float32], second: NDArray[np.float32], shift: tuple[int, int]
) -> float:
    """Correlate the halves of an overlap, cut across its longer side, and give the lesser one."""
    one, two = _overlap(first, second, shift)
    if one.shape[0] < one.shape[1]:
        one, two = one.T, two.T
    half = len(one) // 2
    return min(ncc(one[:half], two[:half], (0, 0)), ncc(one[half:], two[half:], (0, 0)))


def _overlap(
    first: NDArray[np.float32], second: NDArray[np.float32], shift: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the parts of two strips that show the same at a shift."""
    ahead, behind = [], []
    for step, size in zip(shift, first.shape, strict=True):
        ahead.append(slice(max(0, step), max(0, min(size, size + step))))
        behind.append(slice(max(0, -step), max(0, min(size, size - step))))
    return first[ahead[0], ahead[1]], second[behind[0], behind[1]]


def _one_hill(
    first: NDArray[np.float32], second: NDArray[np.float32], best: _Trial, rival: _Trial
) -> bool:
    """Say whether the correlation does not fall between two shifts, so that they are one."""
    between = (
        round((best.shift[0] + rival.shift[0]) / 2),
        round((best.shift[1] + rival.shift[1]) / 2),
    )
    return ncc(first, second, between) >= rival.ncc


def _refine(
    first: NDArray[np.float32], second: NDArray[np.float32], start: tuple[int, int]
) -> tuple[float, float] | None:
    """Follow the gradients of two strips from a whole shift to the best one; None if lost.

    Notes
    -----
    Lucas & Kanade, IJCAI 1981. The gradient is the mean of both strips', which cancels errors of
    second order; its square is the product of both, in which independent noise cancels.
    """
    shift = start
    for _ in range(_STEPS):
        one, two = _overlap(first, second, shift)
        if min(one.shape) < _LEAST_OVERLAP_PX - 2:
            return None
        step, with_gain = _gradient_step(one, two)
        if not np.all(np.abs(step) < _LONGEST_STEP_PX):
            return None
        if np.all(np.abs(step) <= 0.6):
            best = with_gain if np.all(np.abs(with_gain - step) <= 1) else step
            return shift[0] + float(best[0]), shift[1] + float(best[1])
        shift = (shift[0] + round(step[0]), shift[1] + round(step[1]))
    return None


def _gradient_step(
    one: NDArray[np.float32], two: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the (y, x) by which a second picture must move to lie upon the first.

    Returns
    -------
    tuple
        The step if the pictures differ by an offset, and the step if they also differ by a gain
        that slopes in y and x, as two sides of a vignetted field do; NaN where there is none.
    """
    every = 2 if one.size > _AMPLE_PX else 1
    inner = one[1:-1:every, 1:-1]
    ay, by = (p[2::every, 1:-1] - p[:-2:every, 1:-1] for p in (one, two))
    ax, bx = (p[1:-1:every, 2:] - p[1:-1:every, :-2] for p in (one, two))
    terms = np.empty((6, *inner.shape), dtype=np.float32)
    np.add(ay, by, out=terms[0])
    np.add(ax, bx, out=terms[1])
    np.subtract(two[1:-1:every, 1:-1], inner, out=terms[2])
    terms[2] -= terms[2].mean()
    np.subtract(inner, inner.mean(), out=terms[3])
    np.multiply(terms[3], _ramp(inner.shape[0])[:, None], out=terms[4])
    np.multiply(terms[3], _ramp(inner.shape[1]), out=terms[5])
    flat = terms.reshape(6, -1)
    products = (flat @ flat.T).astype(np.float64)
    products[0, 0] = 4 * np.vdot(ay, by)
    products[1, 1] = 4 * np.vdot(ax, bx)
    products[0, 1] = products[1, 0] = 2 * (np.vdot(ay, bx) + np.vdot(ax, by))
    return _solved(products, [0, 1]), _solved(products, [0, 1, 3, 4, 5])


def _solved(products: NDArray[np.float64], terms: list[int]) -> NDArray[np.float64]:
    square, right = products[np.ix_(terms, terms)], products[terms, 2]
    diagonal = np.diag(square)
    if not np.all(diagonal > 0):
        return np.full(2, np.nan)
    scale = np.sqrt(diagonal)
    scaled = square / np.multiply.outer(scale, scale)
    if np.linalg.cond(scaled) > _ILL_CONDITIONED:
        return np.full(2, np.nan)
    found: NDArray[np.float64] = np.linalg.solve(scaled, right / scale) / scale
    return 4 * found[:2]  # a term is four times the mean gradient


def _ramp(length: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, length, dtype=np.float32)


def _binomial(strip: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smooth by (1, 4, 6, 4, 1) / 16, of variance 1 px², in y and x; shape (y-4, x-4)."""
    smooth = strip
    for _ in range(4):
        smooth = smooth[1:] + smooth[:-1]
    for _ in range(4):
        smooth = smooth[:, 1:] + smooth[:, :-1]
    smooth *= np.float32(1 / 256)
    return smooth


def _second_difference(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    along = values if axis == 0 else values.T
    curved = along[2:] + along[:-2]
    curved -= along[1:-1]
    curved -= along[1:-1]
    return curved if axis == 0 else curved.T


def _without_background(smooth: NDArray[np.float32]) -> NDArray[np.float32]:
    tools = tools_of(smooth)
    background = tools.ndimage.uniform_filter(smooth, _BACKGROUND_PX, mode="nearest")
    band: NDArray[np.float32] = tools.xp.subtract(smooth, background, out=background)
    return band


def _noise_in_curvature() -> float:
    """Give the variance of the Laplacian of smoothed white noise of variance 1."""
    smooth = np.array([0, 1, 4, 6, 4, 1, 0]) / 16
    curved = np.convolve([1, 4, 6, 4, 1], [1, -2, 1]) / 16
    kernel = np.multiply.outer(curved, smooth) + np.multiply.outer(smooth, curved)
    return float(np.sum(np.square(kernel)))


_NOISE_IN_CURVATURE = _noise_in_curvature()
