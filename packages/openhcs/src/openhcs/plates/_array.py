"""A well, or a plate, as an array whose planes are read when they are asked for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs._lazy_array import LazyArray
from openhcs.plates._findings import some

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from openhcs.plates._index import PlateIndex

__all__ = ["PlateArray", "plate_array"]

_WELL_AXES = ("t", "field", "channel", "z")


class PlateArray(LazyArray):
    """The planes of a well, or of a plate, under one shape; made by `PlateIndex.array`.

    It is indexed as a NumPy array is, with numbers, slices, an ellipsis, and a list of numbers
    along one axis, and gives NumPy arrays: exactly the planes that are asked for are read, and of
    OME-Zarr only the chunks of the rows and columns that are. `numpy.asarray` reads all of it. A
    plane that is not there and has no `fill` raises `PlaneUnreadableError`.

    Parameters
    ----------
    index
        Planes of one kind and one acquisition.
    wells
        Wells of the array, where it has an axis for them.
    fill
        Value of planes that are not there; None for an error.

    Attributes
    ----------
    axes
        Names of the axes: ``t``, ``field``, ``channel``, ``z``, ``y``, ``x``, and ``well`` before
        them.
    coordinates
        What the places along each axis but y and x are called: names of wells, and the numbers of
        time points, fields, channels and z in the plate.
    shape, dtype
        As of a NumPy array. Where channels differ in their type, the type that holds all of them.
    channel_names
        Along the axis ``channel``.
    pixel_um
        Size of a pixel (y, x), µm; None when unknown or not the same everywhere.
    """

    def __init__(
        self, index: PlateIndex, *, wells: tuple[str, ...] | None, fill: float | None
    ) -> None:
        self._index = index
        own = {"t": index.t, "field": index.fields, "channel": index.channels, "z": index.z}
        self.coordinates: Mapping[str, tuple[Any, ...]] = (
            own if wells is None else {"well": wells, **own}
        )
        self.axes: tuple[str, ...] = (*self.coordinates, "y", "x")
        self.dtype: np.dtype[Any] = index.dtype
        self.shape: tuple[int, ...] = (
            *(len(places) for places in self.coordinates.values()),
            *_plane_shape(index),
        )
        self.channel_names = tuple(index.channel_names[channel] for channel in index.channels)
        self.pixel_um = index.pixel_um
        self._fill = None if fill is None else _filled(fill, self.dtype)
        names = (*(("well",) if wells is not None else ()), *_WELL_AXES)
        columns = [index.column(name).tolist() for name in names]
        self._rows = {place: row for row, place in enumerate(zip(*columns, strict=True))}

    def __repr__(self) -> str:
        sides = zip(self.axes, self.shape, strict=True)
        sizes = ", ".join(f"{axis} {size}" for axis, size in sides)
        return f"<PlateArray of {self._index.name!r}: {sizes}; {self.dtype}>"

    def _chunk_px(self) -> tuple[int, int]:
        return self.shape[-2], self.shape[-1]

    def _token(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        which = (*self._index.wells, *self._index.acquisitions, self._index.plane(0).kind)
        said = (self._index.identity, which, sorted(self.coordinates.items()), self._fill)
        digest.update(repr(said).encode("utf-8", "surrogateescape"))
        return f"plate-{digest.hexdigest()}"

    def _read_plane(self, place: tuple[int, ...], region: tuple[slice, slice]) -> NDArray[Any]:
        """Read a plane; `PlaneUnreadableError` if it is not there and there is no `fill`."""
        chosen = tuple(
            coordinates[at]
            for coordinates, at in zip(self.coordinates.values(), place, strict=True)
        )
        row = self._rows.get(chosen)
        if row is not None:
            return self._index.read(self._index.plane(row), region)
        if self._fill is None:
            said = zip(self.axes, chosen, strict=False)
            where = ", ".join(f"{axis} {value}" for axis, value in said)
            raise PlaneUnreadableError(
                f"{self._index.root} has no usable plane at {where}: take others, or give fill="
            )
        return np.full([part.stop - part.start for part in region], self._fill, self.dtype)


def plate_array(
    index: PlateIndex,
    well: str | None,
    *,
    acquisition: int | None,
    kind: str,
    fill: float | None,
) -> PlateArray:
    """Make an array of a well or of a plate; see `PlateIndex.array`."""
    chosen = index.select(
        wells=None if well is None else [well],
        acquisitions=None if acquisition is None else [acquisition],
        kind=kind,
    )
    if len(chosen) == 0:
        wells = f"well {well}" if well is not None else "the plate"
        raise PlateError(
            f"{index.root}: {wells} has no usable image of kind {kind!r}"
            + (f" in acquisition {acquisition}" if acquisition is not None else "")
            + f"; there are wells {some(index.wells)}"
        )
    if len(chosen.acquisitions) > 1:
        runs = " or ".join(map(str, chosen.acquisitions))
        raise ValueError(
            f"the plate was taken {len(chosen.acquisitions)} times: give acquisition={runs}"
        )
    return PlateArray(chosen, wells=chosen.wells if well is None else None, fill=fill)


def _plane_shape(index: PlateIndex) -> tuple[int, int]:
    sizes = {
        (height, width)
        for height, width in zip(
            index.column("height").tolist(), index.column("width").tolist(), strict=True
        )
        if height > 0
    }
    if len(sizes) != 1:
        said = some(f"{height} x {width}" for height, width in sorted(sizes)) or "unknown sizes"
        raise PlateError(
            f"{index.root}: planes of {said} fit no single array; select channels or fields of one "
            "size first"
        )
    return sizes.pop()


def _filled(fill: float, dtype: np.dtype[Any]) -> Any:
    with np.errstate(invalid="ignore", over="ignore"):
        try:
            value = np.asarray(fill).astype(dtype)[()]
        except (OverflowError, ValueError) as error:
            raise ValueError(f"fill is {fill}, which {dtype} cannot hold") from error
    if value != fill and not (value != value and fill != fill):  # NaN differs from itself
        raise ValueError(f"fill is {fill}, which {dtype} cannot hold")
    return value
