"""A viewer without a window: it does what layer updates say, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import ProjectionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from polystore._payload import Payload
    from polystore.projection import LayerKey, LayerUpdate, Placement

__all__ = ["StandInViewer"]


class StandInViewer:
    """Layers as arrays and payloads, for tests and examples.

    It copies every picture, and makes an array anew whenever a layer grows; a viewer for people
    leaves room.

    Attributes
    ----------
    last
        The newest update of each layer that there is.
    arrays
        Images and labels: shape (positions on each axis ..., y, x).
    items
        What points, regions, tables and text there are, by their index in the layer.

    Examples
    --------
    ::

        viewer = StandInViewer()
        viewer.show(projector.take())
        print(viewer)
    """

    def __init__(self) -> None:
        self.last: dict[LayerKey, LayerUpdate] = {}
        self.arrays: dict[LayerKey, NDArray[Any]] = {}
        self.items: dict[LayerKey, dict[tuple[int, ...], Payload]] = {}

    def show(self, updates: Iterable[LayerUpdate]) -> None:
        """Carry out updates, in their order.

        Raises
        ------
        ProjectionError
            If an update does not fit what is there.
        """
        for update in updates:
            self._show(update)

    def forget(self, key: LayerKey) -> None:
        """Close a layer, as a user does; say so to the projector too."""
        for entries in (self.last, self.arrays, self.items):
            entries.pop(key, None)

    def named(self, name: str) -> LayerKey:
        """Give the key of the layer that has a name.

        Raises
        ------
        ProjectionError
            If there is none.
        """
        for key, update in self.last.items():
            if update.name == name:
                return key
        names = ", ".join(update.name for update in self.last.values()) or "none"
        raise ProjectionError(f"there is no layer {name!r}; there are {names}")

    def __str__(self) -> str:
        lines = []
        for update in self.last.values():
            axes = ", ".join(f"{axis.length} {axis.name}" for axis in update.axes)
            line = f"{update.name}: {update.filled} of {update.expected} ({axes})"
            if update.dtype is not None:
                height, width = update.shape[-2:]
                line += f", {height} x {width} px of {update.dtype}"
            lines.append(line)
        return "\n".join(lines)

    def _show(self, update: LayerUpdate) -> None:
        key = update.key
        if update.created == (key in self.last):
            raise ProjectionError(f"{update.name} is there already, or is not there yet")
        if update.removed:
            self.forget(key)
            return
        if update.dtype is None:
            self._set_items(update)
        else:
            self._set_array(update, update.dtype)
        self.last[key] = update

    def _set_array(self, update: LayerUpdate, dtype: np.dtype[Any]) -> None:
        key = update.key
        array = self.arrays.get(key)
        if array is None:
            array = np.zeros(update.shape, dtype)
        elif update.resize is not None:
            old, resize = array, update.resize
            if old.shape != resize.shape:
                raise ProjectionError(f"{update.name} is {old.shape}, and not {resize.shape}")
            array = np.zeros(update.shape, dtype)
            height, width = old.shape[-2:]
            there: Any = (*np.ix_(*resize.places), slice(height), slice(width))
            array[there] = old
        if (array.shape, array.dtype) != (update.shape, dtype):
            raise ProjectionError(f"{update.name} is {array.shape}, and not {update.shape}")
        for index in update.cleared:
            array[index] = 0
        for placement in update.placements:
            _draw(array, placement)
        self.arrays[key] = array

    def _set_items(self, update: LayerUpdate) -> None:
        items = self.items.get(update.key, {})
        if update.resize is not None:
            places = update.resize.places
            items = {
                tuple(place[at] for place, at in zip(places, index, strict=True)): payload
                for index, payload in items.items()
            }
        for index in update.cleared:
            items.pop(index, None)
        items.update((each.index, each.payload) for each in update.placements)
        self.items[update.key] = items


def _draw(array: NDArray[Any], placement: Placement) -> None:
    plane = placement.payload.array
    height, width = plane.shape
    if placement.padded:
        array[placement.index] = 0
    array[placement.index][:height, :width] = plane
