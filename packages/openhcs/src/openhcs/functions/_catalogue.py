"""The list of functions that come with openhcs."""

from __future__ import annotations

from openhcs.functions._filters import gaussian, gaussian_px, median, subtract_background
from openhcs.functions._illumination import correct_illumination
from openhcs.functions._image_quality import measure_image_quality
from openhcs.functions._measure import measure_objects
from openhcs.functions._project import (
    best_focus,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
)
from openhcs.functions._registry import Registry
from openhcs.functions._segment import segment_cells, segment_cytoplasm, segment_nuclei
from openhcs.functions._stitch import stitch

__all__ = ["REGISTRY"]

REGISTRY = Registry(
    [
        best_focus,
        correct_illumination,
        gaussian,
        gaussian_px,
        measure_image_quality,
        measure_objects,
        median,
        project_max,
        project_mean,
        project_min,
        project_std,
        project_sum,
        segment_cells,
        segment_cytoplasm,
        segment_nuclei,
        stitch,
        subtract_background,
    ]
)
"""Every function that a pipeline may name without naming a module."""
