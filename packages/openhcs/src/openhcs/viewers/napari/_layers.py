"""Layer updates, carried out on a napari viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openhcs.viewers.napari._stack import PlaneStack
from polystore import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from polystore import ComponentValue
    from polystore.projection import Axis, LayerUpdate, Placement

__all__ = ["LayerBook"]

# Light that adds up: the first channel is mostly a nuclear stain.
_COLORMAPS: Final = ("bop blue", "green", "red", "yellow", "magenta", "cyan")
_ONE_CHANNEL: Final = "gray"
_TAG: Final = "openhcs"


class LayerBook:
    """Keeps the layers of a viewer as a projector says.

    A layer is known by its key, never by its name, which the user may change. What the user set
    (contrast, colours, visibility, place, camera) stays. Arrays belong to the book: planes are
    copied into them, so that what they came from can be given back at once.

    Images of different plates are never drawn over each other: when a plate comes that was not
    there before, the layers of the others are hidden, until `show_plate` or the user shows them.

    Parameters
    ----------
    viewer
        A `napari.components.ViewerModel` or `napari.Viewer`.
    placed
        Whether layers lie where their images do in the well; else all begin in one corner.
    """

    def __init__(self, viewer: Any, *, placed: bool = False) -> None:
        self._viewer = viewer
        self._placed = placed
        self._layers: dict[str, Any] = {}
        self._stacks: dict[str, PlaneStack] = {}
        self._axes: dict[str, tuple[Axis, ...]] = {}
        self._plates: dict[str, str] = {}
        self._channels: dict[str, list[str]] = {}  # by plate, in the order they came
        self._hidden: set[str] = set()  # by the book, not by the user
        self._applying = False
        self.plate = ""
        """The plate that is shown: the newest one, or the one chosen last."""

    @property
    def axis_values(self) -> dict[str, tuple[ComponentValue, ...]]:
        """Values along each leading axis, by the name of the component."""
        longest: dict[str, tuple[ComponentValue, ...]] = {}
        for axes in self._axes.values():
            for axis in axes:
                if len(axis.values) >= len(longest.get(axis.name, ())):
                    longest[axis.name] = axis.values
        return longest

    def apply(self, update: LayerUpdate) -> tuple[Placement, ...]:
        """Carry out one update.

        Parameters
        ----------
        update
            Of an image or labels; other kinds are left to others.

        Returns
        -------
        tuple of Placement
            Those that are on the screen now or with the next frame.
        """
        if update.key.kind not in (Kind.IMAGE, Kind.LABELS) or update.dtype is None:
            return ()
        key = str(update.key)
        if key in self._layers and self._layers[key] not in self._viewer.layers:
            self._forget(key)  # the user removed it; what comes from now on is shown again
        if update.removed:
            self._remove(key)
            return ()
        if key not in self._layers and not update.placements:
            return ()
        stack = self._stacks.setdefault(key, PlaneStack())
        stack.fit(update.axes, (update.shape[-2], update.shape[-1]), _drawable(update))
        for index in update.cleared:
            stack.clear(index)
        for placement in update.placements:
            stack.put(placement.index, placement.payload.array)
        self._applying = True
        try:
            layer = self._layers.get(key)
            if layer is None:
                layer = self._layers[key] = self._add(key, update, stack.array)
            elif layer.data is not stack.array:
                self._keep_view(lambda: setattr(layer, "data", stack.array), update.axes)
            self._axes[key] = update.axes
            self._set_place(layer, update)
            self._set_contrast(layer, update)
        finally:
            self._applying = False
        shown = tuple(each for each in update.placements if self._is_shown(layer, each))
        if shown or update.cleared:
            layer.refresh(extent=False, thumbnail=False, highlight=False)
        return shown

    def refresh_thumbnails(self) -> None:
        """Draw the small pictures in the layer list anew; call it when things are quiet."""
        for layer in self._layers.values():
            if layer in self._viewer.layers:
                layer.refresh(extent=False, thumbnail=True, highlight=False)

    def show_plate(self, plate: str) -> None:
        """Show the layers of one plate and hide those of the others; an unknown one does nothing.

        Parameters
        ----------
        plate
            The component of its payloads.
        """
        if plate == self.plate or plate not in self._plates.values():
            return
        self.plate = plate
        for key, layer in self._layers.items():
            if self._plates[key] == plate:
                if key in self._hidden:  # what the user hid stays hidden
                    layer.visible = True
            elif layer.visible:
                self._hidden.add(key)
                layer.visible = False
        self._hidden -= {key for key in self._layers if self._plates[key] == plate}

    def _remove(self, key: str) -> None:
        layer = self._layers.get(key)
        self._forget(key)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _forget(self, key: str) -> None:
        for entries in (self._layers, self._stacks, self._axes, self._plates):
            entries.pop(key, None)
        self._hidden.discard(key)

    def _add(self, key: str, update: LayerUpdate, array: NDArray[Any]) -> Any:
        names = (*(axis.name for axis in update.axes), "y", "x")
        pixel = update.pixel_um
        shared: dict[str, Any] = {
            "name": update.name,
            "metadata": {_TAG: {"key": key, "pixel_um": pixel}},
            "scale": (1.0,) * len(update.axes) + (pixel or (1.0, 1.0)),
            "axis_labels": names,
            "units": ("pixel",) * len(update.axes)
            + (("micrometer",) * 2 if pixel else ("pixel",) * 2),
        }
        first = not self._viewer.layers
        plate = str(dict(update.key.values).get("plate", ""))
        new_plate = plate not in self._plates.values()
        shown = new_plate or plate == self.plate
        shared["visible"] = shown
        if update.key.kind is Kind.LABELS:
            layer = self._viewer.add_labels(array, opacity=0.5, **shared)
        else:
            layer = self._viewer.add_image(
                array,
                contrast_limits=_rising(update.contrast_limits),
                colormap=self._colormap(plate, update.channel_name),
                blending="additive",
                **shared,
            )
            layer.events.contrast_limits.connect(self._mark_as_users)
        self._plates[key] = plate
        if not shown:
            self._hidden.add(key)
        if new_plate:
            self.show_plate(plate)
        if first:
            self._viewer.reset_view()
            if update.placements:  # napari begins in the middle, where there may be nothing yet
                index = update.placements[0].index
                self._viewer.dims.set_current_step(tuple(range(len(index))), index)
        return layer

    def _colormap(self, plate: str, channel: str | None) -> str:
        """Give the colour of a channel, in which all its images are, whatever was done to them."""
        if channel is None:
            return _ONE_CHANNEL
        channels = self._channels.setdefault(plate, [])
        if channel not in channels:
            channels.append(channel)
        return _COLORMAPS[channels.index(channel) % len(_COLORMAPS)]

    def _set_place(self, layer: Any, update: LayerUpdate) -> None:
        """Put a layer where its image lies, unless the user has moved it."""
        if not self._placed or update.origin_um is None or update.pixel_um is None:
            return
        # napari means the middle of the first pixel, an update its corner
        place = tuple(
            corner + pixel / 2
            for corner, pixel in zip(update.origin_um, update.pixel_um, strict=True)
        )
        before = layer.metadata[_TAG].get("place", (0.0, 0.0))
        if place != before and np.allclose(layer.translate[-2:], before):
            layer.translate = (0.0,) * len(update.axes) + place
            layer.metadata[_TAG]["place"] = place

    def _mark_as_users(self, event: Any) -> None:
        """Remember that contrast is the user's from now on."""
        if not self._applying:
            event.source.metadata[_TAG]["contrast"] = "user"

    def _set_contrast(self, layer: Any, update: LayerUpdate) -> None:
        if update.contrast_limits is None or layer.metadata[_TAG].get("contrast") == "user":
            return
        limits = _rising(update.contrast_limits)
        if tuple(layer.contrast_limits) != limits:
            low, high = layer.contrast_limits_range
            layer.contrast_limits_range = (min(low, limits[0]), max(high, limits[1]))
            layer.contrast_limits = limits

    def _keep_view(self, change: Callable[[], None], axes: tuple[Axis, ...]) -> None:
        """Make a change that may alter the extent without moving what the user looks at."""
        camera, step = self._viewer.scene.camera, self._viewer.dims.current_step
        before = (camera.center, camera.zoom, camera.angles)
        looked_at = [
            values[at] if at < len(values) else None
            for at, values in zip(step, self.axis_values.values(), strict=False)
        ]
        change()
        camera.center, camera.zoom, camera.angles = before
        for number, (axis, value) in enumerate(zip(axes, looked_at, strict=False)):
            if value not in axis.values:
                continue
            at = axis.values.index(value)  # it has moved when a well came before it
            if at != self._viewer.dims.current_step[number]:
                self._viewer.dims.set_current_step(number, at)

    def _is_shown(self, layer: Any, placement: Placement) -> bool:
        dims = self._viewer.dims
        leading = dims.current_step[: len(placement.index)]
        return bool(
            layer.visible
            and all(
                axis in dims.displayed or at == index
                for axis, (at, index) in enumerate(zip(leading, placement.index, strict=False))
            )
        )


def _drawable(update: LayerUpdate) -> np.dtype[Any]:
    """Give the type that napari keeps as it is: labels of bool would be copied."""
    if update.dtype is None or (update.key.kind is Kind.LABELS and update.dtype.kind == "b"):
        return np.dtype(np.uint8)
    return update.dtype


def _rising(limits: tuple[float, float] | None) -> tuple[float, float]:
    """Give limits that rise, as napari asks for."""
    low, high = limits or (0.0, 1.0)
    return (low, high if high > low else low + 1.0)
