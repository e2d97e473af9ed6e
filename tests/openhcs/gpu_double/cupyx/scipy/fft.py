"""Fourier transforms of SciPy, for the double's arrays."""

from __future__ import annotations

from typing import Any

import scipy.fft
from cupy import lifted  # type: ignore[import-not-found]  # the double beside this


def __getattr__(name: str) -> Any:
    return lifted(f"cupyx.scipy.fft.{name}", getattr(scipy.fft, name))
