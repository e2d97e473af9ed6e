"""Functions that pipelines are made of: arrays in, arrays and tables out."""

from openhcs.functions._aggregate import Outlier, aggregate_objects, flag_outliers
from openhcs.functions._catalogue import REGISTRY
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

__all__ = [
    "REGISTRY",
    "Axes",
    "ChannelPlanes",
    "ChannelTiles",
    "Columns",
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
    "aggregate_objects",
    "flag_outliers",
    "function",
    "measure_image_quality",
    "measure_objects",
    "segment_cells",
    "segment_cytoplasm",
    "segment_nuclei",
    "spec_of",
]
