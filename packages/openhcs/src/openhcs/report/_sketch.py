"""Small pictures of curves, as SVG that stands in the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from openhcs.report._doses import DoseCurve

__all__ = ["HEIGHT", "WIDTH", "points", "sketch_line"]

WIDTH: Final = 180
HEIGHT: Final = 96
_ROOM: Final = 8
_STEPS: Final = 40


def points(curve: DoseCurve) -> list[tuple[float, float]]:
    """Give the places of the wells in the picture; those without any dose stand at its left."""
    return [
        _place(curve, dose, value) for dose, value in zip(curve.doses_um, curve.values, strict=True)
    ]


def sketch_line(curve: DoseCurve) -> str:
    """Give the curve as points of an SVG polyline; empty where there is none to be drawn."""
    doses = [dose for dose in curve.doses_um if dose > 0]
    if not doses or math.isnan(curve.fit.half_dose_um):
        return ""
    along = np.geomspace(min(doses), max(doses), _STEPS)
    places = (
        _place(curve, float(dose), float(value))
        for dose, value in zip(along, curve.fit.at(along), strict=True)
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _place(curve: DoseCurve, dose: float, value: float) -> tuple[float, float]:
    doses = [math.log10(each) for each in curve.doses_um if each > 0]
    low, high = min(doses, default=0.0), max(doses, default=1.0)
    span = high - low or 1.0
    left = low - span / 6  # where wells without any dose stand
    x = math.log10(dose) if dose > 0 else left
    least, most = min(curve.values), max(curve.values)
    height = most - least or 1.0
    across = _ROOM + (WIDTH - 2 * _ROOM) * (x - left) / (high - left)
    down = HEIGHT - _ROOM - (HEIGHT - 2 * _ROOM) * min(max((value - least) / height, 0.0), 1.0)
    return across, down
