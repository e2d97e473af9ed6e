"""What is known about a layer so far, and what changes with a batch."""

from __future__ import annotations

import math
from collections import Counter
from functools import reduce
from itertools import product, repeat
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._components import Components
from polystore._kinds import Kind
from polystore.projection._axes import Axis, AxisValues
from polystore.projection._grouping import ARRAYS
from polystore.projection._layers import LayerUpdate, Placement, Resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from polystore._components import ComponentValue
    from polystore._payload import Payload
    from polystore.projection._grouping import Coordinates, LayerKey

__all__ = ["LayerState"]

Pair = tuple[float, float]


class LayerState:
    """What has come for a layer so far.

    What it has to hold is learned when a payload comes, even if that is replaced before it is
    shown: so it does not depend on when somebody looked.

    Parameters
    ----------
    key
        Which layer it is.
    axes
        Names of the components of each leading axis.
    values
        Of each component that is on an axis.
    """

    def __init__(
        self,
        key: LayerKey,
        axes: Mapping[str, tuple[str, ...]],
        values: Mapping[str, AxisValues],
        *,
        placed: bool,
    ) -> None:
        self.key = key
        self.values = {name: values[name] for name in key.axes}
        self.created = False
        self.unseen: list[Coordinates] = []  # whose values are not on the axes yet
        self.filled: dict[Coordinates, int] = {}  # and by which run, by its number
        self.channel_name: str | None = None
        self._cleared: dict[Coordinates, None] = {}
        self._names = tuple(name for names in axes.values() for name in names)
        self._present = tuple(name in self.values for name in self._names)
        self._components = axes
        self._placed = placed
        self._is_array = key.kind in ARRAYS
        self._values_seen: list[tuple[ComponentValue, ...]] | None = None
        self._axes: tuple[Axis, ...] = ()
        self._leading: tuple[int, ...] = ()
        self._expected = 1
        self._runs: Counter[int] = Counter()
        self._run = 0
        self._sides = (0, 0)
        self._shape_last: tuple[int, ...] | None = None
        self._ragged = False
        self._dtypes: set[np.dtype[Any]] = set()
        self._dtype: np.dtype[Any] | None = None
        self._given: tuple[tuple[Axis, ...], tuple[int, ...], np.dtype[Any] | None]
        self._given = ((), (), None)  # axes, shape and type with the last update
        self._dtype_last: np.dtype[Any] | None = None
        self._pixel_um: Pair | None = None
        self._pixels_differ = False
        self._origin_um: Pair | None = None
        self._origins_differ = False
        self._low, self._high = math.inf, -math.inf  # contrast limits of all that had any
        self._ranges: Pair | None = None
        self._channels_differ = False

    def learn(self, plane: Payload) -> None:
        """Take note of what a plane needs; runs for every payload."""
        if self._is_array:
            array: NDArray[Any] = plane.data  # type: ignore[assignment]  # its kind says so
            if array.shape != self._shape_last:
                self._learn_shape(array.shape)
            if array.dtype is not self._dtype_last:
                self._learn_dtype(array.dtype)
            if (limits := plane.contrast_limits) is not None:
                low, high = limits
                if low < self._low:
                    self._low = low
                if high > self._high:
                    self._high = high
        if plane.pixel_um is not None and plane.pixel_um != self._pixel_um:
            self._pixels_differ = self._pixel_um is not None
            self._pixel_um = _smaller(self._pixel_um, plane.pixel_um)
        if plane.origin_um is not None and plane.origin_um != self._origin_um:
            self._origins_differ = self._origin_um is not None
            self._origin_um = _smaller(self._origin_um, plane.origin_um)
        name = plane.channel_name
        if name is not None and name != self.channel_name:
            self._channels_differ = self.channel_name is not None
            self.channel_name = min(name, self.channel_name or name)

    def grow(self) -> list[AxisValues]:
        """Put values that came on the axes; gives the axes that are longer by that."""
        columns = zip(*self.unseen, strict=True)
        longer = [
            self.values[name]
            for name, there, column in zip(self._names, self._present, columns, strict=False)
            if there and self.values[name].update(column)
        ]
        self.unseen = []
        return longer

    def uses(self, longer: Iterable[AxisValues]) -> bool:
        """Say whether any of these is on an axis of this layer."""
        there = set(map(id, self.values.values()))
        return any(id(values) in there for values in longer)

    def matches(self, where: Mapping[str, ComponentValue]) -> Callable[[Coordinates], bool] | None:
        """Make what says which coordinates have all these components; None if none can."""
        fixed = dict(self.key.values)
        wanted: list[tuple[int, ComponentValue]] = []
        for name, value in where.items():
            if name in self.values:
                wanted.append((self._names.index(name), value))
            elif fixed.get(name) != value:
                return None
        return lambda coordinates: all(coordinates[at] == value for at, value in wanted)

    def clear(self, unwanted: Callable[[Coordinates], bool]) -> bool:
        """Show some places no longer; True if any of them is shown."""
        gone = [coordinates for coordinates in self.filled if unwanted(coordinates)]
        for coordinates in gone:
            self._runs[self.filled.pop(coordinates)] -= 1
            self._cleared[coordinates] = None
        return bool(gone)

    def update(
        self,
        name: str,
        coordinates: Sequence[Coordinates],
        payloads: Sequence[Payload],
        runs: Sequence[int],
        run_names: Sequence[str | None],
    ) -> LayerUpdate:
        """Say what to do for these payloads, and for what has changed since the last update."""
        self._look()
        shape = self._leading
        if self._is_array:
            shape = (*shape, *self._sides)
            self._dtype = _common(self.key.kind, self._dtypes)
        before, self._given = self._given, (self._axes, shape, self._dtype)
        self._fill(coordinates, runs)
        notes = self._notes(payloads)
        placements = self._placements(coordinates, payloads)
        if self._cleared:  # what is set anew need not be emptied
            for place in coordinates:
                self._cleared.pop(place, None)
        cleared = tuple(self._indexes(list(self._cleared)))
        self._cleared.clear()
        created, self.created = not self.created, True
        resize = None
        same = before[0] is self._axes and before[1:] == self._given[1:]
        if not created and not same:
            resize = Resize(shape=before[1], before=before[0], after=self._axes)
        if self._limits is None and self.key.kind is Kind.IMAGE:
            for payload in payloads:
                self._ranges = _around(self._ranges, _range(payload.array))
        return LayerUpdate(
            key=self.key,
            created=created,
            name=name,
            axes=self._axes,
            shape=shape,
            dtype=self._dtype,
            resize=resize,
            placements=placements,
            pixel_um=self._pixel_um,
            origin_um=self._origin_um,
            contrast_limits=self._contrast,
            channel_name=self.channel_name,
            filled=len(self.filled),
            expected=self._expected,
            run=run_names[self._run],
            earlier=len(self.filled) - self._runs[self._run],
            cleared=cleared,
            notes=notes,
        )

    def removal(self, name: str) -> LayerUpdate:
        """Say that the layer is gone."""
        return LayerUpdate(
            key=self.key,
            created=False,
            name=name,
            axes=self._axes,
            shape=self._given[1],
            dtype=self._dtype,
            resize=None,
            placements=(),
            pixel_um=self._pixel_um,
            contrast_limits=self._contrast,
            channel_name=self.channel_name,
            filled=0,
            expected=0,
            removed=True,
        )

    def missing(self) -> list[Components]:
        """Places that nothing was taken for, in the order of the axes."""
        values: list[tuple[ComponentValue | None, ...]] = [
            self.values[name].values if there else (None,)
            for name, there in zip(self._names, self._present, strict=True)
        ]
        fixed = dict(self.key.values)
        return [
            Components.from_dict(
                {
                    name: value
                    for name, value in zip(self._names, place, strict=True)
                    if value is not None
                }
                | fixed
            )
            for place in product(*values)
            if place not in self.filled
        ]

    @property
    def _limits(self) -> Pair | None:
        return None if self._low > self._high else (self._low, self._high)

    @property
    def _contrast(self) -> Pair | None:
        return (self._limits or self._ranges) if self.key.kind is Kind.IMAGE else None

    def _look(self) -> None:
        """Take the axes as they are now; the same value while nothing was added."""
        seen = [values.values for values in self.values.values()]
        if self._values_seen is not None and all(map(is_, seen, self._values_seen)):
            return
        self._values_seen = seen
        axes = []
        for axis, names in self._components.items():
            parts = tuple(
                Axis(name, self.values[name].values) for name in names if name in self.values
            )
            if names == (axis,):
                axes.append(parts[0] if parts else Axis(axis, ()))
            else:
                axes.append(Axis(axis, (), parts))
        self._axes = tuple(axes)
        self._leading = tuple(axis.length for axis in axes)
        self._expected = math.prod(self._leading)

    def _indexes(self, coordinates: Sequence[Coordinates]) -> list[tuple[int, ...]]:
        """Positions on the leading axes, all at once: most of the time goes here."""
        if not coordinates:
            return []
        columns = dict(zip(self._names, zip(*coordinates, strict=True), strict=True))
        axes: list[Iterable[int]] = []
        for names in self._components.values():
            positions: Iterable[int] | None = None
            for name in names:
                if (values := self.values.get(name)) is None:
                    continue
                one = map(values.positions.__getitem__, columns[name])
                if positions is None:
                    positions = one
                else:
                    count = len(values)
                    positions = [
                        slow * count + fast for slow, fast in zip(positions, one, strict=True)
                    ]
            axes.append(repeat(0, len(coordinates)) if positions is None else positions)
        return list(zip(*axes, strict=True)) if axes else [()] * len(coordinates)

    def _placements(
        self, coordinates: Sequence[Coordinates], payloads: Sequence[Payload]
    ) -> tuple[Placement, ...]:
        indexes = self._indexes(coordinates)
        if not self._ragged:
            return tuple(
                [
                    Placement(index=index, payload=payload)
                    for index, payload in zip(indexes, payloads, strict=True)
                ]
            )
        return tuple(
            Placement(index=index, payload=payload, padded=payload.array.shape != self._sides)
            for index, payload in zip(indexes, payloads, strict=True)
        )

    def _fill(self, coordinates: Sequence[Coordinates], runs: Sequence[int]) -> None:
        filled, counts = self.filled, self._runs
        if not runs:
            return
        newest = max(runs)
        if counts.keys() <= {newest} and min(runs) == newest:  # nothing is of another run
            filled.update(dict.fromkeys(coordinates, newest))
            counts[newest] = len(filled)
        else:
            for place, run in zip(coordinates, runs, strict=True):
                if (before := filled.get(place)) is not None:
                    counts[before] -= 1
                filled[place] = run
                counts[run] += 1
        self._run = max(self._run, newest)

    def _learn_shape(self, shape: tuple[int, ...]) -> None:
        height, width = shape
        self._ragged = self._ragged or self._shape_last is not None
        self._shape_last = shape
        self._sides = (max(self._sides[0], height), max(self._sides[1], width))

    def _learn_dtype(self, dtype: np.dtype[Any]) -> None:
        self._dtype_last = dtype
        self._dtypes.add(dtype.newbyteorder("="))

    def _notes(self, payloads: Sequence[Payload]) -> tuple[str, ...]:
        if not (
            self._ragged
            or self._pixels_differ
            or self._channels_differ
            or (self._placed and self._origins_differ)
        ):
            return ()
        notes: list[str] = []
        for payload in payloads:
            what = payload.components.label() or self.key.name or str(self.key.kind)
            if self._pixels_differ and payload.pixel_um not in (None, self._pixel_um):
                notes.append(
                    f"{what} has pixels of {payload.pixel_um} µm and is shown with {self._pixel_um}"
                )
            if self._ragged and payload.array.shape != self._sides:
                height, width = payload.array.shape
                notes.append(
                    f"{what} is {height} x {width} px and is shown "
                    f"padded to {self._sides[0]} x {self._sides[1]}"
                )
            if self._placed and payload.origin_um not in (None, self._origin_um):
                notes.append(
                    f"{what} begins at {payload.origin_um} µm and is shown at {self._origin_um}"
                )
            if payload.channel_name not in (None, self.channel_name):
                notes.append(
                    f"{what} is of channel {payload.channel_name} and is shown as "
                    f"{self.channel_name}"
                )
        return tuple(notes)


def _common(kind: Kind, dtypes: set[np.dtype[Any]]) -> np.dtype[Any]:
    if len(dtypes) == 1:
        return next(iter(dtypes))
    # pairs are not put together in the order of arrival: three types can give two results
    both = reduce(np.promote_types, sorted(dtypes, key=lambda dtype: dtype.str))
    # there is no integer above both i8 and u8, and labels are integers in every viewer
    return np.dtype(np.int64) if kind is Kind.LABELS and both.kind == "f" else both


def _around(one: Pair | None, other: Pair | None) -> Pair | None:
    if one is None or other is None:
        return one or other
    return (min(one[0], other[0]), max(one[1], other[1]))


def _smaller(one: Pair | None, other: Pair) -> Pair:
    return other if one is None else (min(one[0], other[0]), min(one[1], other[1]))


def _range(array: NDArray[Any]) -> Pair:
    kind = array.dtype.kind
    if kind == "b":
        return (0.0, 1.0)
    if kind in "iu":
        limits = np.iinfo(array.dtype)
        return (float(limits.min), float(limits.max))
    if not array.size:
        return (0.0, 1.0)
    low, high = float(array.min()), float(array.max())
    if math.isfinite(low) and math.isfinite(high):
        return (low, high)
    known = array[np.isfinite(array)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
