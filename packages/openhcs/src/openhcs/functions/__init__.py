"""Functions that pipelines are made of: arrays in, arrays and tables out."""

from openhcs.functions._aggregate import (
    Outlier,
    aggregate_groups,
    aggregate_objects,
    flag_outliers,
)
from openhcs.functions._arithmetic import Composite, Ratio, Unmixed, composite, ratio, unmix
from openhcs.functions._catalogue import REGISTRY
from openhcs.functions._cellpose import segment_cellpose
from openhcs.functions._cellprofiler import measure_cellprofiler
from openhcs.functions._colocalise import Colocalisation, measure_colocalisation
from openhcs.functions._device import (
    ARRAYS,
    Device,
    Tools,
    device_problem,
    from_device,
    gpu_free_bytes,
    gpu_is_lost,
    on_device,
    on_host,
    out_of_memory,
    tools_of,
)
from openhcs.functions._dose_response import DoseResponse, DoseVerdict, dose_response
from openhcs.functions._enhance import difference_of_gaussians, white_top_hat
from openhcs.functions._exclude import exclude_fields
from openhcs.functions._filters import gaussian, gaussian_px, median, subtract_background
from openhcs.functions._fuse import laid_out
from openhcs.functions._granularity import Granularity, measure_granularity
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
from openhcs.functions._installed import (
    declared_functions,
    installed_functions,
    installed_modules,
)
from openhcs.functions._library import LIBRARIES, Libraries, adapt, library_functions
from openhcs.functions._measure import measure_objects
from openhcs.functions._neighbours import measure_neighbours
from openhcs.functions._neurites import Neurites, trace_neurites
from openhcs.functions._normalise import Normalised, normalise
from openhcs.functions._parameter import ParameterSpec, ParameterValue, plain
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
from openhcs.functions._profile_file import SavedProfile, read_profile, write_profile
from openhcs.functions._project import (
    best_focus,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
)
from openhcs.functions._quantiles import measure_intensity_quantiles
from openhcs.functions._quantities import FileName
from openhcs.functions._radial import measure_radial_distribution
from openhcs.functions._register import Registered, RegistrationVerdict, register_channels
from openhcs.functions._registry import (
    Axes,
    FunctionSpec,
    Kind,
    LibraryCall,
    Output,
    Preparation,
    Prepared,
    Registry,
    Weights,
    function,
    spec_of,
)
from openhcs.functions._replicates import (
    CellCounts,
    Replicates,
    cell_counts,
    replicate_correlation,
)
from openhcs.functions._segment import segment_cells, segment_cytoplasm, segment_nuclei
from openhcs.functions._spots import Spots, detect_spots
from openhcs.functions._stardist import segment_stardist
from openhcs.functions._stitch import stitch
from openhcs.functions._texture import measure_texture
from openhcs.functions._track import Tracks, track_objects

__all__ = [
    "ARRAYS",
    "LIBRARIES",
    "REGISTRY",
    "Axes",
    "BScores",
    "CellCounts",
    "ChannelPlanes",
    "ChannelTiles",
    "Colocalisation",
    "Columns",
    "Composite",
    "Device",
    "DoseResponse",
    "DoseVerdict",
    "EdgeEffect",
    "FileName",
    "FunctionSpec",
    "Granularity",
    "Kind",
    "Libraries",
    "LibraryCall",
    "Neurites",
    "Normalised",
    "Outlier",
    "Output",
    "ParameterSpec",
    "ParameterValue",
    "PlaneArray",
    "Preparation",
    "Prepared",
    "Ratio",
    "Registered",
    "RegistrationVerdict",
    "Registry",
    "Replicates",
    "SavedProfile",
    "Spots",
    "Stack",
    "Tile",
    "Tools",
    "Tracks",
    "Trend",
    "Unmixed",
    "Weights",
    "adapt",
    "aggregate_groups",
    "aggregate_objects",
    "b_score",
    "best_focus",
    "cell_counts",
    "composite",
    "correct_illumination",
    "declared_functions",
    "detect_spots",
    "device_problem",
    "difference_of_gaussians",
    "dose_response",
    "edge_effect",
    "exclude_fields",
    "flag_outliers",
    "from_device",
    "function",
    "gaussian",
    "gaussian_px",
    "gpu_free_bytes",
    "gpu_is_lost",
    "installed_functions",
    "installed_modules",
    "laid_out",
    "library_functions",
    "measure_cellprofiler",
    "measure_colocalisation",
    "measure_granularity",
    "measure_image_quality",
    "measure_intensity_quantiles",
    "measure_neighbours",
    "measure_objects",
    "measure_radial_distribution",
    "measure_texture",
    "median",
    "normalise",
    "on_device",
    "on_host",
    "out_of_memory",
    "percent_of_control",
    "plain",
    "project_max",
    "project_mean",
    "project_min",
    "project_std",
    "project_sum",
    "ratio",
    "read_profile",
    "register_channels",
    "replicate_correlation",
    "robust_z",
    "segment_cellpose",
    "segment_cells",
    "segment_cytoplasm",
    "segment_nuclei",
    "segment_stardist",
    "spec_of",
    "ssmd",
    "stitch",
    "subtract_background",
    "tools_of",
    "trace_neurites",
    "track_objects",
    "unmix",
    "white_top_hat",
    "write_profile",
    "z_prime",
]
