"""What can be said about a plane before anything is found in it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping  # noqa: TC003  # annotations are read when compiling
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._inputs import PlaneArray  # noqa: TC001  # annotations are read when compiling
from openhcs.functions._registry import Kind, Output, function

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_image_quality"]

_FULL_SCALES = frozenset({(1 << bits) - 1 for bits in (8, 10, 12, 14, 16)})
_CROP = 256
_BLOCKS = 8
_EMPTY_CONTRAST = 8.0
_SCANNED_BYTES = 1 << 19


@function(outputs=(Output("image_quality", Kind.RECORD),), version=3)
def measure_image_quality(plane: PlaneArray) -> Mapping[str, float | bool | str]:
    """Measure exposure, background, noise and focus of one plane; the plane passes on unchanged.

    Parameters
    ----------
    plane
        Shape (y, x), integer or floating point; best the raw one.

    Returns
    -------
    Mapping[str, float | bool | str]
        ``saturated_fraction``: pixels at the plane's maximum where that is the full scale of a
        camera (8, 10, 12, 14 or 16 bits); ``zero_fraction``; ``constant``: all pixels alike;
        ``minimum``, ``maximum``; ``mean``, ``median``, ``p01``, ``p99``;
        ``background``: median over an 8 x 8 grid of each block's lower quartile;
        ``background_gradient``: how much a plane fitted to that grid varies over the field;
        ``noise``: standard deviation from pixel to pixel; ``snr``: brightest objects over
        background in units of it; ``empty``: nothing stands out from the background;
        ``focus_slope``: slope of the log power spectrum, more negative when blurred;
        ``focus_laplacian``: variance of the Laplacian over the squared mean, less when blurred;
        ``content_hash``: over all pixels, the same for planes of one shape and type with the same
        pixels and, but for one pair in 10^18, for no others.
        Levels are in the plane's units. Pixels that are not finite are left out.

    Raises
    ------
    ValueError
        If the plane is not two-dimensional or has no pixels.

    Notes
    -----
    Extremes, saturation, zeros and the hash take every pixel. Everything else is made from a fixed
    part of the plane, so that this costs little beside reading it (1 ms on 1080²): background and
    noise from every eighth row, levels from every sixteenth, the focus from the central 256 x 256
    pixels. Of planes of less than 256 rows, more are used. The hash is made of two checksums,
    CRC-32 and Adler-32: they are fast, and no proof against planes that were made to have the same.
    """
    if plane.ndim != 2 or plane.size == 0:
        raise ValueError(f"a plane has two axes (y, x); this one has shape {plane.shape}")
    content_hash, low, high = _scan(plane)
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = plane[np.isfinite(plane)]
        plane = np.nan_to_num(
            plane,
            nan=float(np.median(finite)) if finite.size else 0.0,
            posinf=float(finite.max()) if finite.size else 0.0,
            neginf=float(finite.min()) if finite.size else 0.0,
        )
        low, high = float(plane.min()), float(plane.max())
    saturated = int(np.count_nonzero(plane == plane.max())) if high in _FULL_SCALES else 0
    zeros = plane.size - int(np.count_nonzero(plane)) if low <= 0 <= high else 0
    constant = low == high
    step = max(1, min(8, min(plane.shape) // 32))
    rows = np.ascontiguousarray(plane[::step])
    half = rows[:: min(step, 2)]
    mean, (p01, median, p99) = _levels(half, (0.01, 0.5, 0.99))
    averages = _row_averages(rows, step)
    background, gradient = _background(averages)
    noise, snr, empty = _signal(rows, averages, background, step)
    slope, laplacian = (0.0, 0.0) if constant else _focus(plane, noise)
    return {
        "saturated_fraction": saturated / plane.size,
        "zero_fraction": zeros / plane.size,
        "constant": constant,
        "minimum": low,
        "maximum": high,
        "mean": mean,
        "median": median,
        "p01": p01,
        "p99": p99,
        "background": background,
        "background_gradient": gradient,
        "noise": noise,
        "snr": snr,
        "empty": constant or empty,
        "focus_slope": slope,
        "focus_laplacian": laplacian,
        "content_hash": content_hash,
    }


def _scan(plane: NDArray[Any]) -> tuple[str, float, float]:
    """Give the hash and the extremes of all pixels, each read from memory once.

    The hash has 24 hexadecimal digits; there were 16 when every 32nd row was looked at.
    """
    import imagecodecs

    flat = np.ascontiguousarray(plane).reshape(-1)
    every = max(_SCANNED_BYTES // flat.itemsize, 1)
    crc, adler = 0, 1
    extremes: list[Any] = []
    with np.errstate(invalid="ignore"):  # of NaN, which the extremes then are
        for start in range(0, flat.size, every):
            part = flat[start : start + every]
            data: Any = part.view(np.uint8)  # any buffer will do, whatever the stubs say
            crc = imagecodecs.deflate_crc32(data, crc)
            adler = imagecodecs.deflate_adler32(data, adler)
            extremes += [part.min(), part.max()]
        low, high = float(np.min(extremes)), float(np.max(extremes))
    about = repr((plane.shape, plane.dtype.str, crc, adler))
    return hashlib.blake2b(about.encode(), digest_size=12).hexdigest(), low, high


def _levels(rows: NDArray[Any], wanted: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    """Give the mean and quantiles; of integers by counting, without sorting them."""
    if rows.dtype in (np.uint8, np.uint16):
        counts = np.bincount(rows.ravel())
        mean = int(counts @ np.arange(counts.size)) / rows.size
        ranks = [q * (rows.size - 1) for q in wanted]
        places = np.cumsum(counts).searchsorted(ranks, side="right")
        return mean, tuple(float(place) for place in places)
    quantiles = np.quantile(rows[::2], wanted)
    return float(rows.mean(dtype=np.float64)), tuple(float(value) for value in quantiles)


def _row_averages(rows: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Average neighbouring pixels of each row, ``step`` at a time."""
    columns = rows.shape[1] // step
    runs = rows[:, : columns * step].astype(np.float32).reshape(-1, step)
    averages: NDArray[np.float32] = runs @ np.full(step, 1 / step, np.float32)
    return averages.reshape(rows.shape[0], columns)


def _background(averages: NDArray[np.float32]) -> tuple[float, float]:
    """Give the level of the background and its variation over the field."""
    down, across = (min(_BLOCKS, n) for n in averages.shape)
    height, width = averages.shape[0] // down, averages.shape[1] // across
    blocks = averages[: down * height, : across * width].reshape(down, height, across, width)
    listed = blocks.transpose(0, 2, 1, 3).reshape(down * across, height * width)
    quarter = (height * width) // 4
    levels = np.partition(listed, quarter, axis=1)[:, quarter].reshape(down, across)
    return _median(levels), sum(
        abs(_slope(np.arange(along.size, dtype=np.float64), along)) * along.size
        for along in (levels.mean(axis=1), levels.mean(axis=0))
    )


def _signal(
    rows: NDArray[Any], averages: NDArray[np.float32], background: float, step: int
) -> tuple[float, float, bool]:
    """Give noise, signal to noise, and whether nothing stands out."""
    some = rows[::8].astype(np.float32)
    noise = 0.0
    if some.shape[1] > 1:
        # Neighbouring pixels share the signal and differ by the noise, twice.
        apart = np.abs(np.diff(some[:, ::2]))
        whole = np.issubdtype(rows.dtype, np.integer)
        noise = 1.4826 / math.sqrt(2) * (_middle_of_whole(apart) if whole else _middle(apart))
    flat, some_runs = averages.ravel(), averages[::4].ravel()
    # The third brightest run: a nucleus covers more, a hot pixel or two do not.
    third = max(flat.size - 3, 0)
    bright = float(np.partition(flat, third)[third]) - background
    spread = 1.4826 * _middle(np.abs(some_runs - _middle(some_runs)))
    floor = max(noise / math.sqrt(step), spread)
    return noise, bright / noise if noise > 0 else 0.0, not bright > _EMPTY_CONTRAST * floor


def _median(values: NDArray[Any]) -> float:
    """Give the median of a few finite values, without the hundred µs of ``numpy.median``."""
    half = values.size // 2
    middle = np.partition(values, (half, max(half - 1, 0)), axis=None)
    return float(middle[half] if values.size % 2 else (middle[half - 1] + middle[half]) / 2)


def _middle(values: NDArray[Any]) -> float:
    """Give the upper median; a fifth of the time of ``numpy.median``, which looks for NaN too."""
    half = values.size // 2
    return float(np.partition(values, half, axis=None)[half])


def _middle_of_whole(values: NDArray[Any]) -> float:
    """Give the median of numbers from 0 that were rounded, as if they had not been.

    Their middle moves in steps of 1; without the steps, planes of one plate whose noise hardly
    differs do not fall into two or three classes, beside which any other looks far away.
    """
    middle = _middle(values)
    if middle == 0:
        return 0.0
    below = np.count_nonzero(values < middle)
    same = np.count_nonzero(values == middle)
    return float(middle - 0.5 + (values.size / 2 - below) / same)


def _focus(plane: PlaneArray, noise: float) -> tuple[float, float]:
    """Give the slope of the log power spectrum and the normalised variance of the Laplacian.

    Both are taken of the centre at half resolution, and what noise adds to them is taken away:
    noise is as sharp out of focus as in it.
    """
    import scipy.fft

    size = min(_CROP, *plane.shape) // 2
    top, left = ((n - 2 * size) // 2 for n in plane.shape)
    full = plane[top : top + 2 * size, left : left + 2 * size]
    if size < 8:
        return 0.0, 0.0
    pairs = full[::2].astype(np.float32)
    pairs += full[1::2]
    crop = pairs[:, ::2] + pairs[:, 1::2]
    crop *= np.float32(0.25)
    mean = float(crop.mean())
    if mean == 0 and not crop.any():
        return 0.0, 0.0
    laplacian = 4 * crop[1:-1, 1:-1] - crop[:-2, 1:-1] - crop[2:, 1:-1]
    laplacian -= crop[1:-1, :-2] + crop[1:-1, 2:]
    variance = max(float(laplacian.var()) - 20 * noise**2 / 4, 0.0)
    window, ring, count = _spectrum_tables(size)
    spectrum = scipy.fft.rfft2((crop - np.float32(mean)) * window)
    power = np.bincount(ring, weights=(spectrum.real**2 + spectrum.imag**2).ravel())
    used = slice(2, size // 4)
    floor = noise**2 / 4 * float((window**2).sum())
    level = np.maximum(power[used] / count[used] - floor, 0.01 * floor)
    normalised = variance / mean**2 if mean > 0 else 0.0
    if level.size < 2 or not (level > 0).all():
        return 0.0, normalised
    frequency = np.log(np.arange(power.size, dtype=np.float64)[used])
    return _slope(frequency, np.log(level)), normalised


@lru_cache(maxsize=4)
def _spectrum_tables(
    size: int,
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float64]]:
    """Give a Hann window, the ring of each coefficient, and how many each ring has."""
    taper = np.hanning(size)
    window = np.outer(taper, taper).astype(np.float32)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    ring = radius.round().astype(np.intp).ravel()
    return window, ring, np.bincount(ring).astype(np.float64)


def _slope(x: NDArray[np.float64], y: NDArray[Any]) -> float:
    """Give the slope of a straight line through points; 0 for a single one."""
    centred = x - x.mean()
    total = float(centred @ centred)
    return float(centred @ y.astype(np.float64)) / total if total > 0 else 0.0
