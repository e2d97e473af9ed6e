"""What microscope and camera do to a scene: sampling, defocus, illumination, noise."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Illumination", "expose", "illumination", "sample"]

# Shape of the fall-off, as the coefficients c[n][k] of x**(n-k) * y**k: not symmetric, as real
# profiles are not, so that a flipped or transposed profile is noticed. The rows follow each other
# from channel to channel.
_FALL_OFF = (
    ((0.06, -0.09), (-1.9, 0.16, -1.5), (0.20, -0.14, 0.24, -0.16), (-0.6, 0.1, -0.4, 0.2, -1.0)),
    ((-0.10, 0.07), (-1.4, -0.12, -2.0), (-0.18, 0.22, -0.10, 0.20), (-0.9, -0.2, 0.3, 0.1, -0.5)),
    ((0.08, 0.11), (-1.7, 0.20, -1.6), (0.12, 0.18, -0.22, -0.14), (-0.4, 0.2, -0.6, -0.1, -0.7)),
)

_BLOCK = 8  # pixels along an axis sampled at a time
_EXPOSED_ROWS = 64  # of a tile exposed at a time, so that they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Illumination:
    """The illumination of one channel as a polynomial over the field.

    Parameters
    ----------
    coefficients
        ``coefficients[n][k]`` belongs to ``x**(n-k) * y**k``, with x and y from -0.5 to 0.5 over
        the field, x to the right and y downward. The mean over the field is 1.

    Notes
    -----
    This is the form in which Harmony stores its flat-field profiles.
    """

    coefficients: tuple[tuple[float, ...], ...]

    def evaluate(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Compute the profile at every pixel.

        Parameters
        ----------
        shape
            Pixels (y, x).

        Returns
        -------
        NDArray[np.float32]
            Relative illumination, shape (y, x).
        """
        height, width = shape
        y = ((np.arange(height) - (height - 1) / 2) / height)[:, None]
        x = ((np.arange(width) - (width - 1) / 2) / width)[None, :]
        profile = np.zeros(shape)
        for n, row in enumerate(self.coefficients):
            for k, value in enumerate(row):
                profile += value * x ** (n - k) * y**k
        return profile.astype(np.float32)


def illumination(channel: int, corner: float) -> Illumination:
    """Make the illumination of a channel.

    Parameters
    ----------
    channel
        0-based; neighbouring channels differ.
    corner
        Mean of the four corners relative to the middle of the field; 1 is even illumination.

    Returns
    -------
    Illumination
        Coefficients rounded to three decimals, as they stand in a vendor's file.
    """
    if corner == 1.0:
        return Illumination(((1.0,),))
    terms = ((0.0,), *_FALL_OFF[channel % len(_FALL_OFF)])
    # At the corners odd terms cancel; x and y are +-0.5.
    depth = -sum(
        value * 0.5**n
        for n, row in enumerate(terms)
        for k, value in enumerate(row)
        if n % 2 == 0 and k % 2 == 0
    )
    scaled = [[value * (1.0 - corner) / depth for value in row] for row in terms]
    scaled[0][0] = 1.0
    mean = sum(
        value * _mean_of_power(n - k) * _mean_of_power(k)
        for n, row in enumerate(scaled)
        for k, value in enumerate(row)
    )
    return Illumination(tuple(tuple(round(value / mean, 3) for value in row) for row in scaled))


def _mean_of_power(exponent: int) -> float:
    """Mean of x**exponent for x from -0.5 to 0.5."""
    return 0.0 if exponent % 2 else float(0.5**exponent / (exponent + 1))


def sample(
    canvas: NDArray[np.float32],
    top: float,
    left: float,
    shape: tuple[int, int],
    blur_px: float = 0.0,
) -> NDArray[np.float32]:
    """Take a tile out of a canvas at a place between its pixels, in focus or out of it.

    The canvas holds the coefficients of a cubic B-spline. The scene is that continuous function,
    so tiles at any two places are exact samples of the same thing.

    Parameters
    ----------
    canvas
        Coefficients, shape (Y, X); beyond its borders they go on as they are there.
    top, left
        Place of the centre of the tile's first pixel, in px of the canvas.
    shape
        Pixels of the tile (y, x).
    blur_px
        Standard deviation of the Gaussian that stands for a point out of focus; below 0.05 px the
        tile is sharp.

    Returns
    -------
    NDArray[np.float32]
        Shape (y, x).

    Raises
    ------
    ValueError
        If the tile, with one pixel before and two after it, does not lie on the canvas.

    Notes
    -----
    Unser, IEEE Signal Processing Magazine 16 (1999) 22-38. Against the coefficients the function
    is blurred by the spline's standard deviation, 0.58 px; centroids stay where they are.

    Along each axis a pixel is a weighted sum of coefficients, the same for all but for its place:
    a product with a band matrix. It is done for a few pixels at a time, as most of a large one is
    zeros, and as a product that is small enough is no work that a library divides among threads.
    """
    height, width = shape
    y, x = math.floor(top), math.floor(left)
    if y < 1 or x < 1 or y + height + 2 > canvas.shape[0] or x + width + 2 > canvas.shape[1]:
        raise ValueError(
            f"a tile of {shape} px at ({top:.2f}, {left:.2f}) leaves a canvas of {canvas.shape} px"
        )
    down, across = _band(_weights(top - y, blur_px)), _band(_weights(left - x, blur_px))
    reach = down.shape[1] - _BLOCK  # coefficients that a pixel takes beside the one at its place
    before = reach // 2
    source = _cut(canvas, y - before, x - before, (height + reach, width + reach))
    mixed = np.empty((height, width + reach), np.float32)
    for first in range(0, height, _BLOCK):
        count = min(_BLOCK, height - first)
        rows = source[first : first + count + reach]
        np.matmul(down[:count, : count + reach], rows, out=mixed[first : first + count])
    tile = np.empty(shape, np.float32)
    for first in range(0, width, _BLOCK):
        count = min(_BLOCK, width - first)
        columns = mixed[:, first : first + count + reach]
        np.matmul(columns, across[:count, : count + reach].T, out=tile[:, first : first + count])
    return tile


def _weights(fraction: float, blur_px: float) -> NDArray[np.float64]:
    """Weights of the coefficients around a point `fraction` of a pixel past one of them.

    They are those of the spline, for the coefficient before that one and the two after it;
    blurred, for as many more on either side.
    """
    f = fraction
    spline = np.array(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]
    )
    spline /= 6
    if blur_px < 0.05:
        return spline
    reach = math.ceil(3 * blur_px)
    point = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur_px) ** 2)
    return np.convolve(spline, point / point.sum())


def _band(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Make the matrix that gives `_BLOCK` neighbouring pixels from the coefficients they need."""
    band = np.zeros((_BLOCK, _BLOCK + len(weights) - 1), np.float32)
    for pixel, row in enumerate(band):
        row[pixel : pixel + len(weights)] = weights
    return band


def _cut(
    canvas: NDArray[np.float32], top: int, left: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Cut a rectangle out of a canvas; beyond the borders it goes on as it is there."""
    spans, beyond = [], []
    for first, count, size in zip((top, left), shape, canvas.shape, strict=True):
        end = first + count
        spans.append(slice(max(first, 0), min(end, size)))
        beyond.append((max(-first, 0), max(end - size, 0)))
    inside = canvas[tuple(spans)]
    return np.pad(inside, beyond, mode="edge") if np.any(beyond) else inside


def expose(
    light: NDArray[np.float32],
    *,
    offset: float,
    read_noise: float,
    rng: np.random.Generator | None,
) -> NDArray[np.uint16]:
    """Turn light on the sensor into counts.

    Parameters
    ----------
    light
        Expected counts above the offset, shape (y, x).
    offset
        Counts of a dark camera.
    read_noise
        Standard deviation in counts.
    rng
        Source of the noise; None leaves it out.

    Returns
    -------
    NDArray[np.uint16]
        Rounded and clipped to 0 … 65535, shape (y, x).

    Notes
    -----
    Shot noise is a normal of the same variance, not a Poisson variate: above 20 expected counts,
    where every background of ours lies, the two cannot be told apart after rounding with read
    noise, and it is three times cheaper. One count stands for one photoelectron.

    The normal is one of 65,536 equally likely values, which is three times cheaper again: up to
    4.3 standard deviations they lie closer than the counts that they are rounded to.
    """
    counts = np.empty(light.shape, np.uint16)
    for first in range(0, len(light), _EXPOSED_ROWS):
        rows = slice(first, first + _EXPOSED_ROWS)
        seen = light[rows] + np.float32(offset + 0.5)
        if rng is not None:
            spread = np.maximum(light[rows], 0)
            spread += np.float32(read_noise**2)
            np.sqrt(spread, out=spread)
            spread *= _standard_normal(rng, spread.shape)
            seen += spread
        np.clip(seen, 0, 65535, out=seen)
        counts[rows] = seen
    return counts


def _standard_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw from `_normal_values`, four at a time: a random number of 64 bits is four of 16."""
    size = math.prod(shape)
    chosen = rng.integers(1 << 64, size=math.ceil(size / 4), dtype=np.uint64).view(np.uint16)
    return _normal_values().take(chosen[:size], mode="wrap").reshape(shape)


@functools.cache
def _normal_values() -> NDArray[np.float32]:
    """Values of a standard normal in the middles of 65,536 equal shares of it; read-only."""
    z = np.linspace(-6, 6, 1 << 17)
    share = np.cumsum(np.exp(-(z**2) / 2))
    values = np.interp((np.arange(1 << 16) + 0.5) / (1 << 16), share / share[-1], z)
    normal: NDArray[np.float32] = ((values - values.mean()) / values.std()).astype(np.float32)
    normal.setflags(write=False)
    return normal
