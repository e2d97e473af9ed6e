"""Planes that cannot be used, read as constant ones where a person has said so.

A filled plane keeps its row and its status in the index of a plan. It has the shape and element
type of its channel, lies where its neighbours do, and is named wherever its well is.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.pipeline._planes import UNUSABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.plates import Plane, PlateIndex

__all__ = ["FilledPlane", "filled_in_words", "filled_of", "unfit_values", "with_filled"]

_ALIKE_UM = 20.0
"""The stage comes back to a field's place in every well as closely as this, or fields were placed
well by well."""
_FEW_WELLS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledPlane:
    """A plane of a well that has one value all over, because it could not be used.

    Attributes
    ----------
    field, channel, z, t
        Which one; the channel by name, the others from 0.
    value
        What its pixels are.
    status
        Why: ``missing``, ``empty``, ``unreadable``, ``error-record`` or ``conflict``.
    error
        What was wrong when it was read; None where that was known before.
    """

    field: int
    channel: str
    z: int
    t: int
    value: int | float
    status: str
    error: str | None = None

    @property
    def place(self) -> tuple[int, str, int, int]:
        """Field, channel, z and t."""
        return self.field, self.channel, self.z, self.t

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return asdict(self)

    @classmethod
    def of(
        cls, plane: Plane, channels: Sequence[str], value: float, error: str | None = None
    ) -> FilledPlane:
        """Describe a plane of the index; with `error`, one that was found damaged only now."""
        return cls(
            field=plane.field,
            channel=channels[plane.channel],
            z=plane.z,
            t=plane.t,
            value=value,
            status=plane.status if error is None else "unreadable",
            error=error,
        )


def filled_of(
    index: PlateIndex, channels: Sequence[str], value: float | None
) -> Mapping[str, tuple[FilledPlane, ...]]:
    """Give the planes of a plan's index that are filled, by well."""
    if value is None:
        return {}
    found: dict[str, list[FilledPlane]] = {}
    for plane in index.where(index.column("status") != "ok"):
        found.setdefault(plane.well, []).append(FilledPlane.of(plane, channels, value))
    return {well: tuple(planes) for well, planes in found.items()}


def filled_in_words(counts: Mapping[str, int], value: float) -> str:
    """Say of which wells how many planes are filled, in one sentence without an end."""
    planes = sum(counts.values())
    named = ", ".join(f"{well} ({count})" for well, count in list(counts.items())[:_FEW_WELLS])
    more = f" and {len(counts) - _FEW_WELLS} more wells" if len(counts) > _FEW_WELLS else ""
    what = "plane that cannot be used has" if planes == 1 else "planes that cannot be used have"
    return f"{planes} {what} the value {value!r} all over, in {named}{more}"


def unfit_values(plate: PlateIndex, channels: Sequence[str], value: float) -> Sequence[str]:
    """Name the channels whose pixels cannot be the value.

    Parameters
    ----------
    plate
        Planes of the channels in question.
    channels
        Names by channel number.
    value
        What planes are to be filled with.
    """
    columns = (plate.column(name).tolist() for name in ("channel", "dtype"))
    return [
        f"missing='fill={value!r}': pixels of {channels[channel]} are {dtype}, {words}; "
        "choose a value that they can have"
        for channel, dtype in sorted(set(zip(*columns, strict=True)))
        if dtype and (words := _unfit(value, np.dtype(dtype)))
    ]


def _unfit(value: float, dtype: np.dtype[Any]) -> str | None:
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        return None if abs(value) <= most else f"at most {most:g}"
    if dtype.kind == "b":
        return None if value in (0, 1) else "0 or 1"
    bounds = np.iinfo(dtype)
    if isinstance(value, int) and bounds.min <= value <= bounds.max:
        return None
    return f"whole numbers from {bounds.min} to {bounds.max}"


def with_filled(plate: PlateIndex, channels: Sequence[str]) -> tuple[PlateIndex, Mapping[str, str]]:
    """Give the planes that can be used, and those that can be filled beside them.

    Parameters
    ----------
    plate
        Planes of every status, one acquisition; of all wells and fields, so that what a well's
        planes are filled to does not depend on which other ones are run with it.
    channels
        Names by channel number.

    Returns
    -------
    tuple
        The index: filled planes keep their status, and have the shape and type of their channel in
        their well, or else on the plate. And the wells with planes that cannot be filled, and why.

    Notes
    -----
    A plane without a position lies where its field does, and a field without any where it lies in
    the other wells, if these agree.
    """
    status = plate.column("status").astype(str)
    usable = status == "ok"
    wanted = np.flatnonzero(np.isin(status, UNUSABLE))
    if not len(wanted):
        return plate.where(usable), {}
    neighbours = _Neighbours(plate.where(usable))
    values = {name: plate.column(name).copy() for name in (*_FORM, *_PLACE)}
    keys = list(
        zip(
            *(plate.column(name).tolist() for name in ("well", "field", "channel", "z", "t")),
            strict=True,
        )
    )
    # Of several files that claim to be one plane, there is one row each.
    taken = {keys[row] for row in np.flatnonzero(usable)}
    kept = usable.copy()
    unknown: dict[str, str] = {}
    for row in wanted.tolist():
        key = keys[row]
        if key in taken:
            continue
        well, _, channel, *_ = key
        form = neighbours.form(well, channel)
        if form is None:
            unknown[well] = (
                f"{channels[channel]} cannot be filled: no plane of it can be read on the whole "
                "plate, so that its shape and element type are unknown"
            )
            continue
        taken.add(key)
        kept[row] = True
        for name, value in zip(_FORM, form, strict=True):
            values[name][row] = value
        for name, value in neighbours.place(*key).items():
            if math.isnan(values[name][row]):
                values[name][row] = value
    return plate.with_values(values).where(kept), unknown


_FORM = ("height", "width", "dtype")
_PLACE = ("x_um", "y_um", "z_um", "time_s")


class _Neighbours:
    """What the usable planes say of those beside them."""

    def __init__(self, usable: PlateIndex) -> None:
        names = ("well", "field", "channel", "z", "t", *_FORM, *_PLACE)
        self._forms: dict[Any, Counter[tuple[int, int, str]]] = {}
        self._places: dict[Any, list[float]] = {}
        for well, field, channel, z, t, height, width, dtype, x_um, y_um, z_um, time_s in zip(
            *(usable.column(name).tolist() for name in names), strict=True
        ):
            if height > 0 and dtype:
                for by in ((well, channel), channel):
                    self._forms.setdefault(by, Counter())[height, width, dtype] += 1
            self._note(x_um, ("x_um", well, field), ("x_um", field))
            self._note(y_um, ("y_um", well, field), ("y_um", field))
            self._note(z_um, ("z_um", well, z, channel), ("z_um", well, z))
            self._note(time_s, ("time_s", well, t, field), ("time_s", well, t))

    def _note(self, value: float, *by: tuple[Any, ...]) -> None:
        if not math.isnan(value):
            for each in by:
                self._places.setdefault(each, []).append(value)

    def form(self, well: str, channel: int) -> tuple[int, int, str] | None:
        """Give height, width and element type of a channel, of its well's planes if it has any."""
        counts = self._forms.get((well, channel)) or self._forms.get(channel)
        return counts.most_common(1)[0][0] if counts else None

    def place(self, well: str, field: int, channel: int, z: int, t: int) -> Mapping[str, float]:
        """Give position and time, as far as they are known."""
        return {
            "x_um": self._middle(("x_um", well, field), ("x_um", field)),
            "y_um": self._middle(("y_um", well, field), ("y_um", field)),
            "z_um": self._middle(("z_um", well, z, channel), ("z_um", well, z)),
            "time_s": self._middle(("time_s", well, t, field), ("time_s", well, t)),
        }

    def _middle(self, near: tuple[Any, ...], far: tuple[Any, ...]) -> float:
        if near in self._places:
            return float(np.median(self._places[near]))
        there = self._places.get(far, [])
        if not there or (far[0] in ("x_um", "y_um") and max(there) - min(there) > _ALIKE_UM):
            return math.nan
        return float(np.median(there))
