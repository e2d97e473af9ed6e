"""The receiver's half of a stream: payloads in any order become updates of a viewer's layers."""

from __future__ import annotations

from polystore.projection._axes import Axis
from polystore.projection._batch import Batch
from polystore.projection._debounce import Debounce
from polystore.projection._grouping import LayerKey
from polystore.projection._hyperstack import Hyperstack, StackPosition
from polystore.projection._layers import LayerUpdate, Placement, Resize
from polystore.projection._modes import ComponentModes, Fit, Mode
from polystore.projection._projector import Projector

__all__ = [
    "Axis",
    "Batch",
    "ComponentModes",
    "Debounce",
    "Fit",
    "Hyperstack",
    "LayerKey",
    "LayerUpdate",
    "Mode",
    "Placement",
    "Projector",
    "Resize",
    "StackPosition",
]
