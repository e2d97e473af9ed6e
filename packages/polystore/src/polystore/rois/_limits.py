"""How much may be read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RoiLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiLimits:
    """How much a ROI set may hold; what is over is refused before memory is taken for it.

    Attributes
    ----------
    rois
        Most entries.
    roi_bytes
        Longest ROI, as it is when it was expanded.
    total_bytes
        Most bytes of all ROIs, and of the pixels of all masks at eight to a byte.
    """

    rois: int = 1_000_000
    roi_bytes: int = 64 * 1024**2
    total_bytes: int = 1024**3
