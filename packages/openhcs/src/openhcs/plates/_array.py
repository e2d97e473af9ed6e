"""A well, or a plate, as an array whose planes are read when they are asked for."""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import numpy as np

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs.plates._findings import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

    from openhcs.plates._index import PlateIndex

__all__ = ["PlateArray", "plate_array"]

_WELL_AXES = ("t", "field", "channel", "z")
_Key: TypeAlias = "SupportsIndex | slice | Sequence[int] | NDArray[np.integer[Any]]"


@dataclass(frozen=True, slots=True)
class _Pick:
    """What an index chooses along one axis: places, and whether the axis stays."""

    places: range | tuple[int, ...]
    stays: bool


class PlateArray:
    """The planes of a well, or of a plate, under one shape; made by `PlateIndex.array`.

    It is indexed as a NumPy array is, with numbers, slices, an ellipsis, and a list of numbers
    along one axis, and gives NumPy arrays: exactly the planes that are asked for are read, and of
    OME-Zarr only the chunks of the rows and columns that are. `numpy.asarray` reads all of it.

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

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{axis} {size}" for axis, size in zip(self.axes, self.shape, strict=True)
        )
        return f"<PlateArray of {self._index.name!r}: {sizes}; {self.dtype}>"

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for place in range(len(self)):
            yield self[place]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read what an index chooses.

        Raises
        ------
        IndexError
            If a place is beyond the end of its axis, or there are more indices than axes.
        TypeError
            If the index is of a kind that is not supported.
        PlaneUnreadableError
            If a plane is not there and there is no `fill`, or it cannot be read.
        MemoryError
            If what is asked for is larger than the memory of this computer.
        """
        picks = _picks(key, self.shape)
        *leading, rows, columns = picks
        sizes = [len(pick.places) for pick in picks]
        nbytes = int(np.prod(sizes, dtype=np.int64)) * self.dtype.itemsize
        if nbytes > _memory_bytes():
            raise MemoryError(
                f"{nbytes / 1e9:.1f} GB are asked for, more than this computer has: take fewer "
                "planes at once, or to_dask()"
            )
        found = np.empty(sizes, self.dtype)
        region = _region(rows), _region(columns)
        inner = _inner(rows, region[0]), _inner(columns, region[1])
        for place in np.ndindex(*sizes[:-2]):
            chosen = tuple(
                coordinates[pick.places[at]]
                for coordinates, pick, at in zip(
                    self.coordinates.values(), leading, place, strict=True
                )
            )
            self._read(chosen, region, inner, found[place])
        squeezed = tuple(axis for axis, pick in enumerate(picks) if not pick.stays)
        return found.squeeze(squeezed) if squeezed else found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything; for NumPy, which asks for it."""
        if copy is False:
            raise ValueError("the planes are in files, and reading them makes a copy")
        return np.asarray(self[...], dtype)

    def to_dask(self) -> Any:
        """Give an array of Dask, one chunk for each plane.

        Returns
        -------
        dask.array.Array
            Nothing is read before it is computed.

        Raises
        ------
        polystore.MissingExtraError
            If Dask is not installed.
        """
        try:
            from dask.array import from_array
        except ImportError as error:
            from polystore import MissingExtraError

            raise MissingExtraError("arrays of Dask need it: install dask[array]") from error
        digest = hashlib.blake2b(digest_size=16)
        which = (*self._index.wells, *self._index.acquisitions, self._index.plane(0).kind)
        said = (self._index.identity, which, sorted(self.coordinates.items()), self._fill)
        digest.update(repr(said).encode("utf-8", "surrogateescape"))
        make: Any = from_array  # which Dask gives no types
        return make(
            self,
            chunks=(1,) * (self.ndim - 2) + self.shape[-2:],
            name=f"plate-{digest.hexdigest()}",
            asarray=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )

    def _read(
        self,
        place: tuple[Any, ...],
        region: tuple[slice, slice],
        inner: tuple[Any, ...],
        target: NDArray[Any],
    ) -> None:
        if target.size == 0:
            return
        row = self._rows.get(place)
        if row is not None:
            target[...] = self._index.read(self._index.plane(row), region)[np.ix_(*inner)]
            return
        if self._fill is None:
            said = zip(self.axes, place, strict=False)
            where = ", ".join(f"{axis} {value}" for axis, value in said)
            raise PlaneUnreadableError(
                f"{self._index.root} has no usable plane at {where}: take others, or give fill="
            )
        target[...] = self._fill


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


def _picks(key: Any, shape: tuple[int, ...]) -> list[_Pick]:
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [place for place, each in enumerate(keys) if each is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis")
    if len(keys) - len(dots) > len(shape):
        raise IndexError(f"there are {len(keys)} indices for {len(shape)} axes")
    at = dots[0] if dots else len(keys)
    missing = [slice(None)] * (len(shape) - (len(keys) - len(dots)))
    keys[at : at + len(dots)] = missing
    picks = [
        _pick(each, side, axis) for axis, (each, side) in enumerate(zip(keys, shape, strict=True))
    ]
    if sum(isinstance(pick.places, tuple) and pick.stays for pick in picks) > 1:
        raise TypeError("lists of places are supported along one axis: index twice for two")
    return picks


def _pick(key: Any, side: int, axis: int) -> _Pick:
    if isinstance(key, slice):
        return _Pick(range(*key.indices(side)), stays=True)
    if isinstance(key, (list, np.ndarray)) and np.ndim(key) == 1:
        listed = np.asarray(key)
        if listed.dtype == np.bool_ and len(listed) == side:
            listed = np.flatnonzero(listed)
        if listed.dtype.kind in "iu" or listed.size == 0:
            return _Pick(tuple(_place(int(each), side, axis) for each in listed), stays=True)
    if not isinstance(key, (bool, np.bool_)):
        try:
            place = operator.index(key)
        except TypeError:
            pass
        else:
            return _Pick((_place(place, side, axis),), stays=False)
    raise TypeError(
        f"{key!r} is no index along axis {axis}: give a number, a slice, or a list of numbers"
    )


def _place(place: int, side: int, axis: int) -> int:
    if not -side <= place < side:
        raise IndexError(f"place {place} is out of bounds for axis {axis} with size {side}")
    return place % side


def _region(pick: _Pick) -> slice:
    """Give the part of an axis that holds all places that were picked."""
    if not pick.places:
        return slice(0, 0)
    return slice(min(pick.places), max(pick.places) + 1)


def _inner(pick: _Pick, region: slice) -> Sequence[int]:
    return [place - region.start for place in pick.places]


def _memory_bytes() -> int:
    """Give the memory of this computer; a number beyond all where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
