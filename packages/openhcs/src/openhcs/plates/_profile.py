"""An illumination profile that a vendor ships: a polynomial over the field of view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PolynomialProfile"]

FLOOR = 0.1


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
    is 1 as stored, so it is not normalised again.
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
