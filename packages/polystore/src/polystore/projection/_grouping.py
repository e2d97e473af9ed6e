"""Which layer a payload is shown in, and where in it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polystore._components import Components, ComponentValue
    from polystore._kinds import Kind

__all__ = ["ComponentModes", "LayerKey", "Mode"]


class Mode(StrEnum):
    """What the values of a component become in a viewer."""

    AXIS = "axis"
    """Positions along a slider."""
    LAYER = "layer"
    """Layers of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentModes:
    """What each component becomes. The axes are in the order of the attributes."""

    plate: Mode = Mode.LAYER
    step: Mode = Mode.LAYER
    channel: Mode = Mode.LAYER
    well: Mode = Mode.AXIS
    field: Mode = Mode.AXIS
    t: Mode = Mode.AXIS
    z: Mode = Mode.AXIS

    def of(self, mode: Mode) -> tuple[str, ...]:
        """Names of the components that have this mode."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) is mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKey:
    """What makes a layer the same layer, in this run and the next.

    Payloads that lack a component which others have, as a stitched image lacks the field, are in
    another layer than those.

    Attributes
    ----------
    kind, name
        Of the payloads.
    values
        Components that are layers, by name and value.
    axes
        Components that are axes and that these payloads have.
    """

    kind: Kind
    name: str
    values: tuple[tuple[str, ComponentValue], ...]
    axes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [str(self.kind), self.name, *(f"{name}={value}" for name, value in self.values)]
        return "/".join([*parts, "+".join(self.axes)])


class Grouping:
    """Sorts components into layer keys and coordinates; each key is made once."""

    def __init__(self, modes: ComponentModes) -> None:
        self.axes = modes.of(Mode.AXIS)
        self._layers = modes.of(Mode.LAYER)
        self._keys: dict[tuple[object, ...], LayerKey] = {}

    def place(
        self, kind: Kind, name: str, components: Components
    ) -> tuple[LayerKey, tuple[ComponentValue | None, ...]]:
        """Give the layer, and the value on each of `axes`; None where there is none."""
        values = tuple(getattr(components, each) for each in self._layers)
        coordinates = tuple(getattr(components, each) for each in self.axes)
        present = tuple(value is not None for value in coordinates)
        found = (kind, name, values, present)
        key = self._keys.get(found)
        if key is None:
            key = self._keys[found] = LayerKey(
                kind=kind,
                name=name,
                values=tuple(
                    (each, value)
                    for each, value in zip(self._layers, values, strict=True)
                    if value is not None
                ),
                axes=tuple(each for each, there in zip(self.axes, present, strict=True) if there),
            )
        return key, coordinates
