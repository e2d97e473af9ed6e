"""Layer updates, carried out on a napari viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

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

    Parameters
    ----------
    viewer
        A `napari.components.ViewerModel` or `napari.Viewer`.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layers: dict[str, Any] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self._axes: dict[str, tuple[Axis, ...]] = {}
        self._applying = False
        self._images = 0

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
        array = self._array(key, update)
        for placement in update.placements:
            _place(array, placement)
        self._applying = True
        try:
            layer = self._layers.get(key)
            if layer is None:
                layer = self._layers[key] = self._add(key, update, array)
            elif layer.data is not array:
                self._keep_camera(lambda: setattr(layer, "data", array))
            self._axes[key] = update.axes
            self._set_contrast(layer, update)
        finally:
            self._applying = False
        shown = tuple(each for each in update.placements if self._is_shown(layer, each))
        if shown:
            layer.refresh(extent=False, thumbnail=False, highlight=False)
        return shown

    def refresh_thumbnails(self) -> None:
        """Draw the small pictures in the layer list anew; call it when things are quiet."""
        for layer in self._layers.values():
            if layer in self._viewer.layers:
                layer.refresh(extent=False, thumbnail=True, highlight=False)

    def _forget(self, key: str) -> None:
        del self._layers[key]
        self._arrays.pop(key, None)

    def _array(self, key: str, update: LayerUpdate) -> NDArray[Any]:
        """Give the layer's array, made or enlarged as the update says."""
        array = self._arrays.get(key)
        dtype = _drawable(update.dtype, update.key.kind)
        if array is not None and array.shape == update.shape and array.dtype == dtype:
            return array
        larger = np.zeros(update.shape, dtype)
        if array is not None and update.resize is not None:
            old = update.resize.shape
            places: tuple[Any, ...] = np.ix_(*update.resize.places)
            larger[(*places, slice(old[-2]), slice(old[-1]))] = array
        self._arrays[key] = larger
        return larger

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
        if update.key.kind is Kind.LABELS:
            layer = self._viewer.add_labels(array, opacity=0.5, **shared)
        else:
            layer = self._viewer.add_image(
                array,
                contrast_limits=_rising(update.contrast_limits),
                colormap=self._colormap(update),
                blending="additive",
                **shared,
            )
            layer.events.contrast_limits.connect(self._mark_as_users)
            self._images += 1
        if first:
            self._viewer.reset_view()
            if update.placements:  # napari begins in the middle, where there may be nothing yet
                index = update.placements[0].index
                self._viewer.dims.set_current_step(tuple(range(len(index))), index)
        return layer

    def _colormap(self, update: LayerUpdate) -> str:
        if update.channel_name is None:
            return _ONE_CHANNEL
        return _COLORMAPS[self._images % len(_COLORMAPS)]

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

    def _keep_camera(self, change: Callable[[], None]) -> None:
        """Make a change that may alter the extent without moving what the user looks at."""
        camera, step = self._viewer.scene.camera, self._viewer.dims.current_step
        before = (camera.center, camera.zoom, camera.angles)
        change()
        camera.center, camera.zoom, camera.angles = before
        if len(step) == len(self._viewer.dims.current_step):
            self._viewer.dims.current_step = step

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


def _place(array: NDArray[Any], placement: Placement) -> None:
    plane = placement.payload.array
    target = array[placement.index]
    if placement.padded:
        target[...] = 0
    np.copyto(target[: plane.shape[0], : plane.shape[1]], plane, casting="unsafe")


def _drawable(dtype: np.dtype[Any] | None, kind: Kind) -> np.dtype[Any]:
    """Give the type that napari keeps as it is: labels of bool would be copied."""
    if dtype is None or (kind is Kind.LABELS and dtype.kind == "b"):
        return np.dtype(np.uint8)
    return dtype


def _rising(limits: tuple[float, float] | None) -> tuple[float, float]:
    """Give limits that rise, as napari asks for."""
    low, high = limits or (0.0, 1.0)
    return (low, high if high > low else low + 1.0)
