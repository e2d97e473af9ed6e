"""Which layer a payload is shown in, and where in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polystore._kinds import Kind
from polystore.projection._modes import Fit, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from polystore._components import Components, ComponentValue
    from polystore._payload import Payload
    from polystore.projection._modes import ComponentModes

__all__ = ["ARRAYS", "Coordinates", "Grouping", "LayerKey", "planes"]

ARRAYS = frozenset({Kind.IMAGE, Kind.LABELS})
"""Kinds that are shown as arrays."""

Coordinates: TypeAlias = tuple["ComponentValue | None", ...]
"""Value of each component that is on an axis; None where there is none."""


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
        Components that are on axes and that these payloads have.
    window
        Those of `values` that are windows: layers of one window may be drawn over each other.
    form
        Size, type and size of a pixel where layers are split by them, as
        ``"512 x 512 uint16 0.65 x 0.65 µm"``; otherwise empty.
    """

    kind: Kind
    name: str
    values: tuple[tuple[str, ComponentValue], ...]
    axes: tuple[str, ...]
    window: tuple[tuple[str, ComponentValue], ...] = ()
    form: str = ""

    def __str__(self) -> str:
        parts = [str(self.kind), self.name, *(f"{name}={value}" for name, value in self.values)]
        parts.append("+".join(self.axes))
        return "/".join([*parts, self.form] if self.form else parts)


class Grouping:
    """Sorts payloads into layer keys and coordinates; each key is made once."""

    def __init__(self, modes: ComponentModes, fit: Fit) -> None:
        self.axes = modes.axes()
        self.on_axes = tuple(name for names in self.axes.values() for name in names)
        self._layers = modes.layers()
        self._windows = frozenset(modes.of(Mode.WINDOW))
        self._values = _getter(self._layers)
        self._coordinates = _getter(self.on_axes)
        self._splits = fit is Fit.SPLIT

    def place(self, plane: Payload) -> tuple[tuple[object, ...], Coordinates]:
        """Give what tells the layer from others, cheaply made, and the value on each axis."""
        components = plane.components
        coordinates = self._coordinates(components)
        found = (
            id(plane.kind),  # an enum's own hash is computed in Python
            plane.name,
            self._values(components),
            tuple(map(type, coordinates)),  # which are there
        )
        if self._splits and plane.kind in ARRAYS:
            array: NDArray[Any] = plane.data  # type: ignore[assignment]  # its kind says so
            dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
            return (*found, array.shape, dtype, plane.pixel_um), coordinates
        return found, coordinates

    def key(self, plane: Payload) -> LayerKey:
        """Make the key of a layer that nothing was known of before."""
        there = plane.components.to_dict()
        values = tuple((name, there[name]) for name in self._layers if name in there)
        split = self._splits and plane.kind in ARRAYS
        return LayerKey(
            kind=plane.kind,
            name=plane.name,
            values=values,
            axes=tuple(name for name in self.on_axes if name in there),
            window=tuple(pair for pair in values if pair[0] in self._windows),
            form=_form(plane) if split else "",
        )


def _getter(names: tuple[str, ...]) -> Callable[[Components], Coordinates]:
    """Make what gives some components as a tuple; it runs for every payload."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    (name,) = names
    return lambda components: (components.get(name),)


def _form(plane: Payload) -> str:
    (height, width), dtype = plane.array.shape, plane.array.dtype.newbyteorder("=")
    form = f"{height} x {width} {dtype}"
    if plane.pixel_um is None:
        return form
    return f"{form} {plane.pixel_um[0]:g} x {plane.pixel_um[1]:g} µm"


def planes(payload: Payload) -> Iterator[Payload]:
    """Take an array of more than two axes apart, without a copy."""
    leading = payload.axes[:-2]
    array = payload.array
    return (
        replace(
            payload,
            data=array[index],
            axes=(),
            components=replace(payload.components, **dict(zip(leading, index, strict=True))),
        )
        for index in np.ndindex(array.shape[: len(leading)])
    )
