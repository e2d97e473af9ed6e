"""The planes of a well by the keys under which its steps see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.pipeline._groups import GroupKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from openhcs.plates import Plane, PlateIndex

__all__ = ["UNUSABLE", "keys_by_well", "left_out_in_words", "unique_channels", "well_planes"]

UNUSABLE = ("missing", "empty", "unreadable", "error-record", "conflict")
"""What a plane's status says when it was expected and cannot be used."""

_FEW = 8


def unique_channels(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give each channel a name of its own: unnamed ones their number, equal ones a number more."""
    taken: set[str] = set()
    unique: list[str] = []
    for number, name in enumerate(names):
        base = name or f"channel {number + 1}"
        wanted, count = base, 1
        while wanted in taken:
            count += 1
            wanted = f"{base} ({count})"
        taken.add(wanted)
        unique.append(wanted)
    return tuple(unique)


def keys_by_well(
    index: PlateIndex, channels: tuple[str, ...]
) -> Mapping[str, tuple[GroupKey, ...]]:
    """Give the keys of all planes, by well, without making the planes themselves."""
    columns = [index.column(name).tolist() for name in ("well", "t", "field", "channel", "z")]
    found: dict[str, set[tuple[int, int, int, int]]] = {}
    for well, *numbers in zip(*columns, strict=True):
        t, field, channel, z = numbers
        found.setdefault(well, set()).add((t, field, channel, z))
    return {
        well: tuple(
            GroupKey(t=t, field=field, channel=channels[channel], z=z)
            for t, field, channel, z in sorted(numbers)
        )
        for well, numbers in found.items()
    }


def left_out_in_words(groups: Mapping[str, Collection[tuple[int, int]]]) -> str:
    """Say what wells go without, in one sentence without an end.

    Parameters
    ----------
    groups
        Fields and time points (field, t) by well.
    """
    count = sum(map(len, groups.values()))
    named = "; ".join(f"{well} ({_fields(found)})" for well, found in list(groups.items())[:_FEW])
    more = f"; and {len(groups) - _FEW} more wells" if len(groups) > _FEW else ""
    what = "field has planes that cannot be used and is"
    if count > 1:
        what = "fields have planes that cannot be used and are"
    return f"{count} {what} left out: {named}{more}"


def _fields(groups: Collection[tuple[int, int]]) -> str:
    """Name fields, and their time points where not all of them are the first."""
    timed = any(t for _, t in groups)
    named = [f"{field} at t {t}" if timed else str(field) for field, t in sorted(groups)[:_FEW]]
    more = f" and {len(groups) - _FEW} more" if len(groups) > _FEW else ""
    return f"field{'s' if len(groups) > 1 else ''} {', '.join(named)}{more}"


def well_planes(
    index: PlateIndex,
    well: str,
    channels: tuple[str, ...],
    skipped: Collection[tuple[int, int]] = frozenset(),
) -> Mapping[GroupKey, Plane]:
    """Give the planes of a well by key, in the order of t, field, channel and z.

    Parameters
    ----------
    index
        The planes that the plan uses.
    well
        Name of the well.
    channels
        Names by channel number.
    skipped
        Fields and time points (field, t) to leave out.
    """
    return {
        GroupKey(t=plane.t, field=plane.field, channel=channels[plane.channel], z=plane.z): plane
        for plane in sorted(
            index.select(wells=[well], kind=None, status=None),
            key=lambda plane: (plane.t, plane.field, plane.channel, plane.z),
        )
        if (plane.field, plane.t) not in skipped
    }
