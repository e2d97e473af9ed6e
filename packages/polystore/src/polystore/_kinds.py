"""What a payload is."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Kind"]


class Kind(StrEnum):
    """What a payload is, and so how it is stored and shown."""

    IMAGE = "image"
    """Intensities; an array whose last two axes are y and x."""
    LABELS = "labels"
    """Integers of the same axes: 0 is background, each object has a number of its own."""
    POINTS = "points"
    """Places in one plane; floats of shape (points, 2), columns y and x in pixels."""
    REGIONS = "regions"
    """Objects of one plane as points, lines, outlines or masks; a `Regions` value."""
    TABLE = "table"
    """Named columns of equal length, of numbers or text; a `Table`."""
    TEXT = "text"
    """A string."""
