"""Damage done to a finished synthetic plate on purpose."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InjectedFault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """One damage, and how a reader should name it.

    Parameters
    ----------
    kind
        Which of the known faults.
    code
        Code of the finding that a reader owes.
    path
        The file it concerns, relative to the plate.
    well, field, channel, z, t
        The plane it concerns, 0-based; an empty well and -1 where it concerns none.
    """

    kind: str
    code: str
    path: str
    well: str
    field: int
    channel: int
    z: int
    t: int
