"""Illumination profiles that vendors ship: a polynomial over the field of view, or an image."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs.plates._tiff import read_tiff_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.plates._findings import FindingLog

__all__ = ["FLOOR", "ImageProfile", "PolynomialProfile", "Profile", "report_clamped"]

FLOOR = 0.1
"""Parts of a profile that are below are raised to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialProfile:
    """Relative brightness p over the field, so that corrected = (image - offset) / p.

    Parameters
    ----------
    coefficients
        ``coefficients[n][k]`` belongs to x to the power n - k times y to the power k. Empty
        means flat: p is 1 everywhere.
    dims
        Width and height of the image that the polynomial was fitted to, pixels.
    origin
        Column and row where x and y are 0.
    scale
        x and y per column and row.

    Notes
    -----
    Rows count downward and nothing is flipped; see `formats.md`. The mean of p over the image
    is 1 as stored, so it is not normalised again. The offset is 0, as it is in the pixels of the
    instruments that store polynomials.
    """

    coefficients: tuple[tuple[float, ...], ...] = ()
    dims: tuple[int, int] = (1, 1)
    origin: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)

    def evaluate(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Give p for every pixel of an image, at least 0.1.

        Parameters
        ----------
        shape
            Height and width of the image, pixels; a binned or smaller image than the one
            that was fitted is sampled at the centres of its pixels.

        Returns
        -------
        NDArray[np.float32]
            Shape (y, x).

        Raises
        ------
        ValueError
            If the shape is not positive.
        """
        return np.maximum(self._polynomial(shape), FLOOR).astype(np.float32)

    def clamped_pixels(self, shape: tuple[int, int]) -> int:
        """Count the pixels of an image where the polynomial is below 0.1, and so was raised.

        Parameters
        ----------
        shape
            Height and width of the image, pixels.

        Returns
        -------
        int
            0 for every sound profile.

        Raises
        ------
        ValueError
            If the shape is not positive.
        """
        return int(np.count_nonzero(self._polynomial(shape) < FLOOR))

    def dark_level(self, shape: tuple[int, int]) -> float:  # noqa: ARG002  # as of images
        """Give the counts of a pixel that sees no light: 0."""
        return 0.0

    def _polynomial(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        height, width = shape
        if height < 1 or width < 1:
            raise ValueError(f"an image of {height} x {width} pixels has no profile")
        if not self.coefficients:
            return np.ones(shape)
        x = _places(width, self.dims[0], self.origin[0], self.scale[0])
        y = _places(height, self.dims[1], self.origin[1], self.scale[1])
        # p = sum over k of y^k * (sum over n of C[n][k] x^(n-k)): one row vector per power of y,
        # nested as in Horner's rule, so that only as many full images are touched as y has powers.
        degree = len(self.coefficients) - 1
        total = np.zeros(shape)
        for k in range(degree, -1, -1):
            in_x = np.zeros(width)
            for n in range(degree, k - 1, -1):
                in_x = in_x * x + self.coefficients[n][k]
            total = total * y[:, None] + in_x
        return total


def _places(pixels: int, fitted: int, origin: float, scale: float) -> NDArray[np.float64]:
    places = (np.arange(pixels) + 0.5) * (fitted / pixels) - 0.5
    return np.asarray((places - origin) * scale, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProfile:
    """Relative brightness p over the field as an image of an even object, less the dark image.

    Parameters
    ----------
    shading
        The image of the even object, absolute; None where there is none, or none with light in it.
    dark
        The image without light; None where there is none.
    """

    shading: Path | None
    dark: Path | None = None

    def evaluate(self, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Give p for every pixel of an image, mean 1 before it is kept at 0.1 and above.

        Parameters
        ----------
        shape
            Height and width of the image, pixels; of a binned one, the pixels of the profile are
            averaged.

        Returns
        -------
        NDArray[np.float32] | None
            Shape (y, x); None without a shading image.

        Raises
        ------
        ValueError
            If an image cannot be read, has no light in it, or is not of the shape or a whole
            multiple of it; the message says which and why.
        """
        if self.shading is None:
            return None
        light = self.check()
        factors = [full // part for full, part in zip(light.shape, shape, strict=True)]
        if any(f * part != full for f, part, full in zip(factors, shape, light.shape, strict=True)):
            raise ValueError(f"{self.shading.name} is {light.shape} px, the images are {shape}")
        light = light.reshape(shape[0], factors[0], shape[1], factors[1]).mean(axis=(1, 3))
        return np.asarray(np.maximum(light, FLOOR), np.float32)

    def dark_level(self, shape: tuple[int, int]) -> float | None:
        """Give the counts of a pixel that sees no light: the mean of the dark image.

        Parameters
        ----------
        shape
            Height and width of the image, pixels.

        Returns
        -------
        float | None
            None without a dark image, and for images of another size than it has: what binning
            does to the counts is not said.

        Raises
        ------
        ValueError
            If the dark image cannot be read; the message says which and why.
        """
        if self.dark is None:
            return None
        dark = _pixels(self.dark)
        return float(dark.mean(dtype=np.float64)) if dark.shape == shape else None

    def check(self) -> NDArray[np.float64]:
        """Read the images, and see whether there is a profile in them.

        Returns
        -------
        NDArray[np.float64]
            The profile in the size of its image, mean 1, shape (y, x).

        Raises
        ------
        ValueError
            If there is no shading image, an image cannot be read, the two differ in shape, or
            there is no light in them.
        """
        if self.shading is None:
            raise ValueError("there is no shading image")
        light = _pixels(self.shading).astype(np.float64)
        if self.dark is not None:
            dark = _pixels(self.dark)
            if dark.shape != light.shape:
                raise ValueError(f"{self.dark.name} is {dark.shape} px, not {light.shape}")
            light -= dark
        mean = float(light.mean())
        if mean <= 0:
            raise ValueError(f"{self.shading.name} has no light in it")
        return light / mean


Profile: TypeAlias = PolynomialProfile | ImageProfile


def report_clamped(
    clamped: int, pixels: int, channel: int, name: str, path: str, findings: FindingLog
) -> None:
    """Name a profile that is below 0.1 somewhere.

    Parameters
    ----------
    clamped, pixels
        How many pixels are below, of how many.
    channel, name
        Number and name of the channel.
    path
        File of the profile, relative to the plate.
    findings
        Takes a ``FLATFIELD_CLAMPED``, where there is such a pixel.
    """
    if clamped:
        findings.add(
            "FLATFIELD_CLAMPED",
            f"The illumination profile of channel {name} is below {FLOOR} in {clamped} of {pixels} "
            f"pixels, and is taken to be {FLOOR} there.",
            channel=channel,
            path=path,
        )


def _pixels(path: Path) -> NDArray[Any]:
    import tifffile

    try:
        # one image, whose header was seen to promise no more than the file holds
        read_tiff_header(path, size=path.stat().st_size)
        pixels = np.asarray(tifffile.imread(path, key=0))
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    if pixels.ndim != 2:
        raise ValueError(f"{path.name} has shape {pixels.shape}")
    return pixels
