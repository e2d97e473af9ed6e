"""What is wrong with a platemap: wells, columns, roles and doses that do not fit the plate."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._roles import Role, role_column, roles_of
from openhcs.plates._wells import PLATE_SIZES, parse_well, sort_wells

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._platemap import Platemap

__all__ = ["check_platemap"]

_SPELLED = 12
_FEWEST_CONTROLS = 3
_LEAST_PLATE = 96
_MOSTLY = 0.75
"""A column with so large a share of numbers was meant to be one of numbers."""
_COMMA = re.compile(r"[+-]?\d+,\d+")


def check_platemap(
    platemap: Platemap, wells: Iterable[str], size: tuple[int, int], findings: FindingLog
) -> None:
    """Name what is wrong with a platemap, as far as the plate shows it.

    Parameters
    ----------
    platemap
        The conditions.
    wells
        Wells with images.
    size
        Rows and columns of the plate.
    findings
        Takes at most one finding of each kind for the platemap or a column.

    Notes
    -----
    A well that is named twice, a line of another length and two columns of one name are errors
    when the platemap is read.
    """
    taken = sort_wells(wells)
    _check_wells(platemap, taken, size, findings)
    for column in platemap.columns:
        _check_column(platemap, column, taken, findings)
    _check_roles(platemap, set(taken), findings)


def _check_wells(
    platemap: Platemap, taken: tuple[str, ...], size: tuple[int, int], findings: FindingLog
) -> None:
    path = platemap.source
    outside = [well for well in sort_wells(platemap.wells) if not _within(well, size)]
    bare = [well for well in taken if well not in platemap.wells]
    other = _other_size(platemap.wells, taken, size)
    if other is not None:
        findings.add(
            "PLATEMAP_OTHER_SIZE",
            f"{path} looks like one of a plate of {other[0]} x {other[1]} wells; this plate has "
            f"{size[0]} x {size[1]}.",
            path=path,
        )
    elif outside:
        findings.add(
            "PLATEMAP_UNKNOWN_WELL",
            f"{path} names wells that the plate does not have: {some(outside, _SPELLED)}.",
            path=path,
        )
    if bare:
        findings.add(
            "PLATEMAP_ENTRY_MISSING",
            f"{path} says nothing of wells {some(bare, _SPELLED)}.",
            path=path,
        )


def _other_size(
    named: Collection[str], taken: Collection[str], size: tuple[int, int]
) -> tuple[int, int] | None:
    """Give the size of the plate that a platemap is of, if it is plainly another one.

    Plainly means that the platemap names at least half of the wells of a larger plate's kind, or
    every well of a smaller one of 96 or more and no other, while the plate has wells beyond.
    """
    fits = next(each for each in PLATE_SIZES if all(_within(well, each) for well in named))
    count = fits[0] * fits[1]
    if any(not _within(well, size) for well in named):
        return fits if 2 * len(named) >= count else None
    beyond = any(not _within(well, fits) for well in taken)
    return fits if beyond and len(named) == count >= _LEAST_PLATE else None


def _within(well: str, size: tuple[int, int]) -> bool:
    return all(value < most for value, most in zip(parse_well(well), size, strict=True))


def _check_column(
    platemap: Platemap, column: str, taken: tuple[str, ...], findings: FindingLog
) -> None:
    path, place = platemap.source, platemap.columns.index(column)
    told = {
        well: text
        for well in taken
        if well in platemap.wells and (text := platemap.wells[well][place])
    }
    if not told:
        if any(well in platemap.wells for well in taken):
            findings.add(
                "PLATEMAP_COLUMN_EMPTY",
                f"{path}: the column {column!r} says nothing of any well of the plate.",
                path=path,
            )
        return
    numbers = [well for well, text in told.items() if platemap.is_number(text)]
    texts = [well for well in told if well not in set(numbers)]
    commas = [well for well in texts if _COMMA.fullmatch(told[well])]
    meant = column in platemap.units or len(numbers) + len(commas) >= _MOSTLY * len(told)
    if texts and meant and len(numbers) + len(commas) > 0:
        odd = commas or texts
        why = "; a number has a point, not a comma" if commas else ""
        findings.add(
            "PLATEMAP_COLUMN_MIXED",
            f"{path}: the column {column!r} is taken as text for the sake of "
            f"{some(f'{told[well]!r} ({well})' for well in odd)}{why}.",
            well=odd[0] if len(odd) == 1 else None,
            path=path,
        )
    if not texts and column in platemap.units:
        negative = [well for well in numbers if float(told[well]) < 0]
        if negative:
            findings.add(
                "PLATEMAP_BELOW_ZERO",
                f"{path}: the column {column!r} is below 0 in {some(negative, _SPELLED)}.",
                path=path,
            )


def _check_roles(platemap: Platemap, taken: set[str], findings: FindingLog) -> None:
    column = role_column(platemap)
    if column is None:
        return
    path, place = platemap.source, platemap.columns.index(column)
    known = roles_of(platemap)
    words = Counter(
        cells[place] for well, cells in platemap.wells.items() if cells[place] and well not in known
    )
    if words:
        roles = [str(role) for role in Role]
        close = difflib.get_close_matches(next(iter(words)).lower(), roles, n=1, cutoff=0.5)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        findings.add(
            "PLATEMAP_UNKNOWN_ROLE",
            f"{path}: the column {column!r} has {some(map(repr, words))}, which say no role; roles "
            f"are {', '.join(roles)}.{meant}",
            path=path,
        )
    counts = Counter(role for well, role in known.items() if well in taken)
    few = [
        f"{counts[role]} {role}"
        for role in (Role.POSITIVE, Role.NEGATIVE)
        if counts[role] < _FEWEST_CONTROLS
    ]
    if few and (counts[Role.POSITIVE] or counts[Role.NEGATIVE]):
        findings.add(
            "PLATEMAP_FEW_CONTROLS",
            f"{path} gives the plate {' and '.join(few)} controls; fewer than {_FEWEST_CONTROLS} "
            "of either tell nothing of the assay.",
            path=path,
        )
