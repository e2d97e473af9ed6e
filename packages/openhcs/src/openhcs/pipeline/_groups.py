"""Group keys: which planes go into one call, and what its outputs belong to.

The key of a plane inside a well is its field, channel, z and t. A function that consumes an axis
and collapses it removes it from the key: a maximum over z belongs to (field, channel, t) and to no
z, so that nothing is ever named after the first plane that went into it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["AXES", "GroupKey", "grouped", "matching"]

AXES = ("t", "field", "channel", "z")
"""The components of a key, slowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKey:
    """What an image, a table or a record belongs to inside its well.

    Attributes
    ----------
    t, field, z
        Numbers from 0; None where the axis was collapsed.
    channel
        Name of the channel; None where channels were combined.
    """

    t: int | None = None
    field: int | None = None
    channel: str | None = None
    z: int | None = None

    def without(self, axes: Iterable[str]) -> GroupKey:
        """Give the key with some axes removed."""
        removed = dict.fromkeys(axes)
        return replace(self, **removed) if removed else self

    def agrees(self, other: GroupKey) -> bool:
        """Say whether the two are the same along every axis that both have."""
        return all(
            mine is None or theirs is None or mine == theirs
            for mine, theirs in (
                (self.t, other.t),
                (self.field, other.field),
                (self.channel, other.channel),
                (self.z, other.z),
            )
        )

    def present(self) -> Mapping[str, int | str]:
        """Give the axes that the key has, with their values."""
        return {
            part.name: value
            for part in fields(self)
            if (value := getattr(self, part.name)) is not None
        }

    def __str__(self) -> str:
        parts = [f"{axis} {value}" for axis, value in self.present().items()]
        return ", ".join(parts) if parts else "the whole well"


def grouped(
    keys: Iterable[GroupKey], consumed: frozenset[str]
) -> Mapping[GroupKey, tuple[GroupKey, ...]]:
    """Put keys together that differ only along consumed axes.

    Returns
    -------
    Mapping
        Group key, without the consumed axes, to its members; both in the order of `keys`.
    """
    groups: dict[GroupKey, list[GroupKey]] = {}
    for key in keys:
        groups.setdefault(key.without(consumed), []).append(key)
    return {group: tuple(members) for group, members in groups.items()}


def matching(group: GroupKey, candidates: Iterable[GroupKey]) -> tuple[GroupKey, ...]:
    """Give the keys that agree with a group on the common part."""
    return tuple(key for key in candidates if group.agrees(key))
