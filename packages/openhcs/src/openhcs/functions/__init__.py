"""Functions that pipelines are made of: arrays in, arrays and tables out."""

from openhcs.functions._inputs import (
    ChannelPlanes,
    ChannelTiles,
    Columns,
    PlaneArray,
    Stack,
    Tile,
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

__all__ = [
    "Axes",
    "ChannelPlanes",
    "ChannelTiles",
    "Columns",
    "FunctionSpec",
    "Kind",
    "Output",
    "PlaneArray",
    "Preparation",
    "Prepared",
    "Registry",
    "Stack",
    "Tile",
    "function",
    "spec_of",
]
