"""What is expected of layers that have axes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._components import Components, ComponentValue
    from polystore.projection._axes import AxisValues
    from polystore.projection._layer_state import LayerState

__all__ = ["Announced"]


class Announced:
    """Values that were announced, for layers there are and layers to come."""

    def __init__(self) -> None:
        self._values: dict[Components, dict[str, set[ComponentValue]]] = {}

    def add(self, where: Components, name: str, values: Iterable[ComponentValue]) -> None:
        """Announce values of a component, for the layers of these plates or steps."""
        self._values.setdefault(where, {}).setdefault(name, set()).update(values)

    def put_on(self, layer: LayerState) -> list[AxisValues]:
        """Put what is announced for a layer on its axes; gives those that are longer by that."""
        return [
            layer.values[name]
            for where, announced in self._values.items()
            if layer.matches(where.to_dict()) is not None
            for name, values in announced.items()
            if name in layer.values and layer.values[name].update(values)
        ]
