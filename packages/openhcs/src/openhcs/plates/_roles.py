"""What wells are to an assay: controls, samples and empty ones, where a platemap says it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from openhcs.plates._wells import sort_wells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.plates._platemap import Platemap

__all__ = ["Role", "role_column", "roles_of"]

_COLUMNS = ("role", "control")


class Role(StrEnum):
    """What a well is to the assay."""

    POSITIVE = "positive"
    """It shows the effect that is looked for."""
    NEGATIVE = "negative"
    """It shows none."""
    SAMPLE = "sample"
    """It is what is tested."""
    BLANK = "blank"
    """It has no cells."""
    EMPTY = "empty"
    """It has nothing in it."""


def role_column(platemap: Platemap) -> str | None:
    """Give the column that says what wells are: ``role`` or ``control``, in any case, or None."""
    lower = {name.lower(): name for name in platemap.columns}
    return next((lower[name] for name in _COLUMNS if name in lower), None)


def roles_of(platemap: Platemap) -> Mapping[str, Role]:
    """Say what wells are to the assay.

    Parameters
    ----------
    platemap
        With a column ``role``, or ``control``.

    Returns
    -------
    Mapping
        By well, in plate order. A well is left out where the column says nothing, or none of the
        words of `Role`: nothing is guessed from other words, or from where a well lies.

    Examples
    --------
    >>> from openhcs.plates import Platemap
    >>> wells = {"A01": ("negative",), "A12": ("Positive",), "B01": ("DMSO",)}
    >>> roles_of(Platemap(source="map.csv", columns=("Role",), wells=wells))
    {'A01': <Role.NEGATIVE: 'negative'>, 'A12': <Role.POSITIVE: 'positive'>}
    """
    column = role_column(platemap)
    if column is None:
        return {}
    place = platemap.columns.index(column)
    found = {well: cells[place].lower() for well, cells in platemap.wells.items()}
    known = {str(role) for role in Role}
    return {well: Role(found[well]) for well in sort_wells(found) if found[well] in known}
