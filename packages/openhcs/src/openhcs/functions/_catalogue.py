"""The list of functions that come with openhcs."""

from __future__ import annotations

from openhcs.functions._arithmetic import composite, ratio, unmix
from openhcs.functions._cellpose import segment_cellpose
from openhcs.functions._cellprofiler import measure_cellprofiler
from openhcs.functions._colocalise import measure_colocalisation
from openhcs.functions._enhance import difference_of_gaussians, white_top_hat
from openhcs.functions._exclude import exclude_fields
from openhcs.functions._filters import gaussian, gaussian_px, median, subtract_background
from openhcs.functions._granularity import measure_granularity
from openhcs.functions._illumination import correct_illumination
from openhcs.functions._image_quality import measure_image_quality
from openhcs.functions._measure import measure_objects
from openhcs.functions._neighbours import measure_neighbours
from openhcs.functions._neurites import trace_neurites
from openhcs.functions._normalise import normalise
from openhcs.functions._project import (
    best_focus,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
)
from openhcs.functions._quantiles import measure_intensity_quantiles
from openhcs.functions._radial import measure_radial_distribution
from openhcs.functions._register import register_channels
from openhcs.functions._registry import Registry
from openhcs.functions._segment import segment_cells, segment_cytoplasm, segment_nuclei
from openhcs.functions._spots import detect_spots
from openhcs.functions._stardist import segment_stardist
from openhcs.functions._stitch import stitch
from openhcs.functions._texture import measure_texture
from openhcs.functions._track import track_objects

__all__ = ["REGISTRY"]

REGISTRY = Registry(
    [
        best_focus,
        composite,
        correct_illumination,
        detect_spots,
        difference_of_gaussians,
        exclude_fields,
        gaussian,
        gaussian_px,
        measure_cellprofiler,
        measure_colocalisation,
        measure_granularity,
        measure_image_quality,
        measure_intensity_quantiles,
        measure_neighbours,
        measure_objects,
        measure_radial_distribution,
        measure_texture,
        median,
        normalise,
        project_max,
        project_mean,
        project_min,
        project_std,
        project_sum,
        ratio,
        register_channels,
        segment_cellpose,
        segment_cells,
        segment_cytoplasm,
        segment_nuclei,
        segment_stardist,
        stitch,
        subtract_background,
        trace_neurites,
        track_objects,
        unmix,
        white_top_hat,
    ]
)
"""Every function that a pipeline may name without naming a module."""
