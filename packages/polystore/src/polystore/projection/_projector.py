"""Gathers a stream of payloads into what a viewer should show.

A pure state machine: it starts no thread, reads no clock but the one it is given, and allocates
no picture. It can be called from one thread at a time.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from polystore._components import COMPONENTS, Components
from polystore._errors import ProjectionError
from polystore.projection._batch import Batch
from polystore.projection._debounce import Debounce
from polystore.projection._grouping import ComponentModes, Grouping, LayerKey
from polystore.projection._layer_state import AxisValues, LayerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from polystore._components import ComponentValue
    from polystore._payload import Payload
    from polystore.projection._layers import LayerUpdate

__all__ = ["Projector"]

_SHORT = {"channel": "c", "field": "f", "z": "z", "t": "t"}


class Projector:
    """Payloads in, in any order; layer updates out, when they are due.

    Parameters
    ----------
    modes
        What each component becomes.
    clock
        Gives the time in s; never goes backwards.
    quiet_s, longest_s
        Updates are due when nothing came for `quiet_s`, or the first waits for `longest_s`.
    most_items, most_bytes
        Bounds of one batch of updates; a full batch is due at once.

    Examples
    --------
    ::

        projector = Projector(ComponentModes(), time.monotonic)
        projector.expect({"well": ["A01", "A02"]})
        projector.add(payload)
        ...
        if (due := projector.due()) is not None and due <= time.monotonic():
            for update in projector.take():
                show(update)

    Notes
    -----
    Adding a payload costs the same however many are waiting; taking a batch is linear in its
    size, the number of layers and the number of values on the axes.
    """

    def __init__(
        self,
        modes: ComponentModes,
        clock: Callable[[], float],
        *,
        quiet_s: float = 0.05,
        longest_s: float = 0.25,
        most_items: int = 64,
        most_bytes: int = 256 * 1024**2,
    ) -> None:
        self._grouping = Grouping(modes)
        self._clock = clock
        self._debounce = Debounce(quiet_s, longest_s)
        self._batch: Batch[tuple[LayerKey, tuple[ComponentValue | None, ...]]] = Batch(
            most_items=most_items, most_bytes=most_bytes
        )
        self._axes = {name: AxisValues() for name in self._grouping.axes}
        self._layers: dict[LayerKey, LayerState] = {}
        self._superseded = 0

    @property
    def pending_items(self) -> int:
        """Planes that wait to be taken."""
        return len(self._batch)

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be taken."""
        return self._batch.nbytes

    @property
    def superseded(self) -> int:
        """Planes that were replaced by newer ones before anybody took them."""
        return self._superseded

    def add(self, payload: Payload) -> tuple[Payload, ...]:
        """Take in a payload; the newest for a place counts.

        Parameters
        ----------
        payload
            Arrays of more than two axes are taken apart into planes, without a copy.

        Returns
        -------
        tuple of Payload
            Planes that waited for the same places and will not be shown: who holds memory for
            them may let it go.
        """
        older: list[Payload] = []
        for plane in _planes(payload):
            key, coordinates = self._grouping.place(plane.kind, plane.name, plane.components)
            for name, value in zip(self._grouping.axes, coordinates, strict=True):
                if value is not None:
                    self._axes[name].add(value)
            replaced = self._batch.put((key, coordinates), plane)
            if replaced is not None:
                older.append(replaced)
        self._superseded += len(older)
        self._debounce.arrived(self._clock())
        return tuple(older)

    def expect(self, extents: Mapping[str, Iterable[ComponentValue]]) -> None:
        """Announce values of components, so that the axes have their length from the start.

        Components that are layers are left out. Layers that are there already grow with the next
        batch.

        Parameters
        ----------
        extents
            Values by the name of the component; those known already need not be named again.

        Raises
        ------
        ProjectionError
            If a name is no component.
        """
        for name, values in extents.items():
            if name not in COMPONENTS:
                raise ProjectionError(
                    f"no component is called {name!r}; there are {', '.join(COMPONENTS)}"
                )
            if name in self._axes:
                for value in values:
                    self._axes[name].add(value)
        if any(self._stale(layer) for layer in self._layers.values()):
            self._debounce.arrived(self._clock())

    def due(self) -> float | None:
        """When `take` should be called, on the projector's clock; None while nothing waits."""
        deadline = self._debounce.deadline
        return self._clock() if deadline is not None and self._batch.full else deadline

    def take(self) -> list[LayerUpdate]:
        """Give the next batch of updates, whether it is due or not.

        Returns
        -------
        list of LayerUpdate
            One for each layer that changes, new ones in the order in which they came. What does
            not fit into a batch stays, and is due at once.
        """
        batch = self._batch.take()
        groups: dict[LayerKey, list[tuple[tuple[ComponentValue | None, ...], Payload]]] = {}
        for (key, coordinates), payload in batch:
            groups.setdefault(key, []).append((coordinates, payload))
        for key in groups:
            if key not in self._layers:
                self._layers[key] = LayerState(key, self._title(key, groups[key][0][1]))
        axes = {name: (values.sorted(), values.positions()) for name, values in self._axes.items()}
        updates = [
            layer.update(axes, groups.get(key, []))
            for key, layer in self._layers.items()
            if key in groups or self._stale(layer)
        ]
        if not self._batch:
            self._debounce.taken()
        return updates

    def missing(self, key: LayerKey) -> list[Components]:
        """Positions of a layer that nothing was taken for yet, in the order of the axes.

        Raises
        ------
        ProjectionError
            If there is no such layer.
        """
        if key not in self._layers:
            raise ProjectionError(f"there is no layer {key}")
        layer = self._layers[key]
        values: list[tuple[ComponentValue | None, ...]] = [
            self._axes[name].sorted() if name in key.axes else (None,)
            for name in self._grouping.axes
        ]
        return [
            Components.from_dict(
                {
                    name: value
                    for name, value in zip(self._grouping.axes, place, strict=True)
                    if value is not None
                }
                | dict(key.values)
            )
            for place in product(*values)
            if place not in layer.filled
        ]

    def _stale(self, layer: LayerState) -> bool:
        return any(
            len(self._axes[axis.name]) != len(axis.values)
            for axis in layer.axes
            if axis.name in layer.key.axes
        )

    def _title(self, key: LayerKey, payload: Payload) -> str:
        values = dict(key.values)
        plate = values.pop("plate", None)
        step = values.pop("step", None)
        channel = values.pop("channel", None)
        parts = [key.name or str(step or key.kind)]
        parts += [f"{_SHORT.get(name, '')}{value}" for name, value in values.items()]
        if payload.channel_name is not None:
            parts.append(payload.channel_name)
        elif channel is not None:
            parts.append(f"c{channel}")
        taken = {layer.name for layer in self._layers.values()}
        title = " ".join(parts)
        if title in taken and step is not None and parts[0] != step:
            title = f"{title} ({step})"
        if title in taken and plate is not None:
            title = f"{title} ({plate})"
        number = 2
        unique = title
        while unique in taken:
            unique = f"{title} [{number}]"
            number += 1
        return unique


def _planes(payload: Payload) -> Iterable[Payload]:
    leading = payload.axes[:-2]
    if not leading:
        return (payload,)
    array = payload.array
    return (
        replace(
            payload,
            data=array[index],
            axes=(),
            components=Components.from_dict(
                payload.components.to_dict() | dict(zip(leading, map(int, index), strict=True))
            ),
        )
        for index in np.ndindex(array.shape[: len(leading)])
    )
