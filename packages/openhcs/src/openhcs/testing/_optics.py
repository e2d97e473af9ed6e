"""What microscope and camera do to a scene: sampling, defocus, illumination, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Illumination", "defocus", "expose", "illumination", "sample"]

# Shape of the fall-off, as the coefficients c[n][k] of x**(n-k) * y**k: not symmetric, as real
# profiles are not, so that a flipped or transposed profile is noticed. The rows follow each other
# from channel to channel.
_FALL_OFF = (
    ((0.06, -0.09), (-1.9, 0.16, -1.5), (0.20, -0.14, 0.24, -0.16), (-0.6, 0.1, -0.4, 0.2, -1.0)),
    ((-0.10, 0.07), (-1.4, -0.12, -2.0), (-0.18, 0.22, -0.10, 0.20), (-0.9, -0.2, 0.3, 0.1, -0.5)),
    ((0.08, 0.11), (-1.7, 0.20, -1.6), (0.12, 0.18, -0.22, -0.14), (-0.4, 0.2, -0.6, -0.1, -0.7)),
)

_BLOCK_ROWS = 32  # of a tile sampled at a time, so that they stay in the processor's cache


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
    canvas: NDArray[np.float32], top: float, left: float, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Take a tile out of a canvas at a place between its pixels.

    The canvas holds the coefficients of a cubic B-spline. The scene is that continuous function,
    so tiles at any two places are exact samples of the same thing.

    Parameters
    ----------
    canvas
        Coefficients, shape (Y, X).
    top, left
        Place of the centre of the tile's first pixel, in px of the canvas.
    shape
        Pixels of the tile (y, x).

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
    """
    height, width = shape
    y, x = int(np.floor(top)), int(np.floor(left))
    if y < 1 or x < 1 or y + height + 2 > canvas.shape[0] or x + width + 2 > canvas.shape[1]:
        raise ValueError(
            f"a tile of {shape} px at ({top:.2f}, {left:.2f}) leaves a canvas of {canvas.shape} px"
        )
    down, across = _spline_weights(top - y), _spline_weights(left - x)
    tile = np.empty(shape, np.float32)
    scratch = np.empty((_BLOCK_ROWS, width + 3), np.float32)
    mixed = np.empty_like(scratch)
    for first in range(0, height, _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, height - first)
        source = canvas[y - 1 + first : y + 2 + first + rows, x - 1 : x + width + 2]
        _weigh([source[step : step + rows] for step in range(4)], down, mixed[:rows], scratch)
        block = mixed[:rows]
        _weigh(
            [block[:, step : step + width] for step in range(4)],
            across,
            tile[first : first + rows],
            scratch,
        )
    return tile


def _weigh(
    parts: list[NDArray[np.float32]],
    weights: tuple[np.float32, ...],
    out: NDArray[np.float32],
    scratch: NDArray[np.float32],
) -> None:
    """Write the weighted sum of the parts, all of one shape, to `out`."""
    room = scratch[: out.shape[0], : out.shape[1]]
    np.multiply(parts[0], weights[0], out=out)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        np.multiply(part, weight, out=room)
        out += room


def _spline_weights(fraction: float) -> tuple[np.float32, ...]:
    """Weights of the four coefficients around a point `fraction` of a pixel past the second."""
    f = fraction
    return (
        np.float32((1 - f) ** 3 / 6),
        np.float32((3 * f**3 - 6 * f**2 + 4) / 6),
        np.float32((-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6),
        np.float32(f**3 / 6),
    )


def defocus(canvas: NDArray[np.float32], blur_px: float) -> NDArray[np.float32]:
    """Blur a canvas as a lens out of focus does.

    Parameters
    ----------
    canvas
        Shape (Y, X).
    blur_px
        Standard deviation of the Gaussian that stands for the defocused point; below 0.05 px the
        canvas itself comes back.

    Returns
    -------
    NDArray[np.float32]
        Shape (Y, X); the sum stays.
    """
    if blur_px < 0.05:
        return canvas
    from scipy import ndimage

    blurred: NDArray[np.float32] = ndimage.gaussian_filter(
        canvas, blur_px, mode="nearest", truncate=3.0
    )
    return blurred


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
        Expected counts above the offset, shape (y, x); is overwritten.
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
    """
    if rng is not None:
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        spread = np.maximum(light, np.float32(0))
        spread += np.float32(read_noise**2)
        np.sqrt(spread, out=spread)
        noise *= spread
        light += noise
    light += np.float32(offset + 0.5)
    np.clip(light, 0, 65535, out=light)
    return light.astype(np.uint16)
