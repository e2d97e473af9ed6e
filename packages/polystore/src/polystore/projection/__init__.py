"""The receiver's half of a stream: payloads in any order become updates of a viewer's layers."""

from __future__ import annotations

from polystore.projection._batch import Batch
from polystore.projection._debounce import Debounce
from polystore.projection._grouping import ComponentModes, LayerKey, Mode
from polystore.projection._layers import Axis, LayerUpdate, Placement, Resize
from polystore.projection._projector import Projector

__all__ = [
    "Axis",
    "Batch",
    "ComponentModes",
    "Debounce",
    "LayerKey",
    "LayerUpdate",
    "Mode",
    "Placement",
    "Projector",
    "Resize",
]
