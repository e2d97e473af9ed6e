"""What is known about a layer so far, and what changes with a batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._components import sort_key
from polystore._kinds import Kind
from polystore.projection._layers import Axis, LayerUpdate, Placement, Resize

if TYPE_CHECKING:
    from polystore._components import ComponentValue
    from polystore._payload import Payload
    from polystore.projection._grouping import LayerKey

__all__ = ["AxisValues", "LayerState"]

_ARRAYS = frozenset({Kind.IMAGE, Kind.LABELS})


class AxisValues:
    """Values of a component, in order."""

    def __init__(self) -> None:
        self._values: set[ComponentValue] = set()
        self._sorted: tuple[ComponentValue, ...] = ()
        self._positions: dict[ComponentValue, int] = {}

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: ComponentValue) -> None:
        self._values.add(value)

    def sorted(self) -> tuple[ComponentValue, ...]:
        if len(self._sorted) != len(self._values):
            self._sorted = tuple(sorted(self._values, key=sort_key))
            self._positions = {value: at for at, value in enumerate(self._sorted)}
        return self._sorted

    def positions(self) -> dict[ComponentValue, int]:
        self.sorted()
        return self._positions


Axes = dict[str, tuple[tuple["ComponentValue", ...], dict["ComponentValue", int]]]


class LayerState:
    """What has been said about a layer so far."""

    def __init__(self, key: LayerKey, name: str) -> None:
        self.key = key
        self.name = name
        self.axes: tuple[Axis, ...] = ()
        self.filled: set[tuple[ComponentValue | None, ...]] = set()
        self._created = False
        self._sides = (0, 0)
        self._dtype: np.dtype[Any] | None = None
        self._pixel_um: tuple[float, float] | None = None
        self._limits: tuple[float, float] | None = None
        self._guessed: tuple[float, float] | None = None
        self._channel_name: str | None = None

    @property
    def _shape(self) -> tuple[int, ...]:
        leading = tuple(axis.length for axis in self.axes)
        return (*leading, *self._sides) if self.key.kind in _ARRAYS else leading

    def update(
        self,
        axes: Axes,
        items: list[tuple[tuple[ComponentValue | None, ...], Payload]],
    ) -> LayerUpdate:
        before = (self.axes, self._shape, self._dtype)
        self.axes = tuple(
            Axis(name, values if name in self.key.axes else ())
            for name, (values, _) in axes.items()
        )
        notes: list[str] = []
        for coordinates, payload in items:
            self._learn(payload, notes)
            self.filled.add(coordinates)
        created, self._created = not self._created, True
        positions = [lookup for _, lookup in axes.values()]
        placements = tuple(
            self._placement(
                tuple(
                    0 if value is None else lookup[value]
                    for lookup, value in zip(positions, coordinates, strict=True)
                ),
                payload,
                notes,
            )
            for coordinates, payload in items
        )
        resize = None
        if not created and before != (self.axes, self._shape, self._dtype):
            places = tuple(
                tuple(lookup[value] for value in axis.values) or (0,)
                for lookup, axis in zip(positions, before[0], strict=True)
            )
            resize = Resize(shape=before[1], places=places)
        return LayerUpdate(
            key=self.key,
            created=created,
            name=self.name,
            axes=self.axes,
            shape=self._shape,
            dtype=self._dtype,
            resize=resize,
            placements=placements,
            pixel_um=self._pixel_um,
            contrast_limits=self._limits or self._guessed,
            channel_name=self._channel_name,
            filled=len(self.filled),
            expected=math.prod(axis.length for axis in self.axes),
            notes=tuple(notes),
        )

    def _learn(self, payload: Payload, notes: list[str]) -> None:
        if self._channel_name is None:
            self._channel_name = payload.channel_name
        if payload.pixel_um is not None and payload.pixel_um != self._pixel_um:
            if self._pixel_um is None:
                self._pixel_um = payload.pixel_um
            else:
                notes.append(
                    f"{self._where(payload)} has pixels of {payload.pixel_um} µm and is shown with "
                    f"{self._pixel_um}"
                )
        if self.key.kind not in _ARRAYS:
            return
        array = payload.array
        dtype = array.dtype.newbyteorder("=")
        self._dtype = dtype if self._dtype is None else _both(self.key.kind, self._dtype, dtype)
        height, width = array.shape
        self._sides = (max(self._sides[0], height), max(self._sides[1], width))
        if self.key.kind is Kind.IMAGE:
            self._limits = _around(self._limits, payload.contrast_limits)
            if self._limits is None:
                self._guessed = _around(self._guessed, _limits(payload))

    def _where(self, payload: Payload) -> str:
        return payload.components.label() or self.name

    def _placement(self, index: tuple[int, ...], payload: Payload, notes: list[str]) -> Placement:
        padded = self.key.kind in _ARRAYS and payload.array.shape != self._sides
        if padded:
            height, width = payload.array.shape
            notes.append(
                f"{self._where(payload)} is {height} x {width} px and is shown "
                f"padded to {self._sides[0]} x {self._sides[1]}"
            )
        return Placement(index=index, payload=payload, padded=padded)


def _both(kind: Kind, one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    both = np.promote_types(one, other)
    # there is no integer above both i8 and u8, and labels are integers in every viewer
    return np.dtype(np.int64) if kind is Kind.LABELS and both.kind == "f" else both


def _around(
    one: tuple[float, float] | None, other: tuple[float, float] | None
) -> tuple[float, float] | None:
    if one is None or other is None:
        return one or other
    return (min(one[0], other[0]), max(one[1], other[1]))


def _limits(payload: Payload) -> tuple[float, float]:
    array = payload.array
    if array.dtype.kind == "b":
        return (0.0, 1.0)
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        return (float(limits.min), float(limits.max))
    known = array[np.isfinite(array)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
