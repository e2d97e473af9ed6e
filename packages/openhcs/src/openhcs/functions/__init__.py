"""Functions that pipelines are made of: arrays in, arrays and tables out."""

from openhcs.functions._aggregate import Outlier, aggregate_objects, flag_outliers
from openhcs.functions._catalogue import REGISTRY
from openhcs.functions._filters import gaussian, gaussian_px, median, subtract_background
from openhcs.functions._illumination import correct_illumination
from openhcs.functions._image_quality import measure_image_quality
from openhcs.functions._inputs import (
    ChannelPlanes,
    ChannelTiles,
    Columns,
    PlaneArray,
    Stack,
    Tile,
)
from openhcs.functions._measure import measure_objects
from openhcs.functions._plate_statistics import (
    BScores,
    EdgeEffect,
    Trend,
    b_score,
    edge_effect,
    percent_of_control,
    robust_z,
    ssmd,
    z_prime,
)
from openhcs.functions._project import (
    best_focus,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
)
from openhcs.functions._registry import (
    Axes,
    FunctionSpec,
    Kind,
    Output,
    Preparation,
    Prepared,
    Registry,
    function,
    spec_of,
)
from openhcs.functions._segment import segment_cells, segment_cytoplasm, segment_nuclei
from openhcs.functions._stitch import stitch

__all__ = [
    "REGISTRY",
    "Axes",
    "BScores",
    "ChannelPlanes",
    "ChannelTiles",
    "Columns",
    "EdgeEffect",
    "FunctionSpec",
    "Kind",
    "Outlier",
    "Output",
    "PlaneArray",
    "Preparation",
    "Prepared",
    "Registry",
    "Stack",
    "Tile",
    "Trend",
    "aggregate_objects",
    "b_score",
    "best_focus",
    "correct_illumination",
    "edge_effect",
    "flag_outliers",
    "function",
    "gaussian",
    "gaussian_px",
    "measure_image_quality",
    "measure_objects",
    "median",
    "percent_of_control",
    "project_max",
    "project_mean",
    "project_min",
    "project_std",
    "project_sum",
    "robust_z",
    "segment_cells",
    "segment_cytoplasm",
    "segment_nuclei",
    "spec_of",
    "ssmd",
    "stitch",
    "subtract_background",
    "z_prime",
]
