"""The list of functions that come with openhcs."""

from __future__ import annotations

from openhcs.functions._image_quality import measure_image_quality
from openhcs.functions._measure import measure_objects
from openhcs.functions._registry import Registry
from openhcs.functions._segment import segment_cells, segment_cytoplasm, segment_nuclei

__all__ = ["REGISTRY"]

REGISTRY = Registry(
    [
        measure_image_quality,
        measure_objects,
        segment_cells,
        segment_cytoplasm,
        segment_nuclei,
    ]
)
"""Every function that a pipeline may name without naming a module."""
