"""Planes that a plate should have and has not."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._rows import Key, Row, key_of, place_of, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from openhcs.plates._findings import FindingLog

__all__ = ["absent_rows", "add_missing", "report_missing", "report_pages"]

_MOST_EXPECTED, _MOST_TIMES = 1_000_000, 20
"""So many planes may be expected in all, or so many times as many as there are."""

_SPELLED = 8
"""So many missing planes of a well are named one by one."""


def add_missing(
    rows: list[Row], complete: Callable[[Row, Row], None], findings: FindingLog
) -> list[Row]:
    """Add a row for every plane that the plate should have and has not.

    Parameters
    ----------
    rows
        All rows so far; the new ones are appended.
    complete
        Fills in a new row from one of the same channel: called with the new row and that one.
    findings
        Takes a ``MISSING_PLANE`` where so much would be missing that nothing is added.

    Returns
    -------
    list
        The new rows; see `absent_rows` for what is expected, in each well that has any image of
        the acquisition.
    """
    wells: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        wells[row.acquisition][row.well] = (row.row, row.col)
    expected = _count_expected(rows, wells)
    if expected > max(_MOST_EXPECTED, _MOST_TIMES * len(rows)):
        findings.add(
            "MISSING_PLANE",
            f"The numbers of {len(rows)} images lead one to expect {expected} planes, of which "
            "nearly all would be missing; they are not listed. Fields, z and t may not be what "
            "they are taken for.",
        )
        return []
    missing = absent_rows(rows, wells, PlaneStatus.MISSING, complete)
    rows.extend(missing)
    return missing


def _count_expected(rows: Iterable[Row], wells: Mapping[int, Mapping[str, tuple[int, int]]]) -> int:
    """Count the planes that `absent_rows` expects."""
    fields: dict[tuple[int, int], set[int]] = defaultdict(set)
    members: dict[tuple[int, int], set[tuple[str, int, int]]] = defaultdict(set)
    for row in rows:
        fields[row.acquisition, row.channel].add(row.field)
        members[row.acquisition, row.channel].add((row.kind, row.z, row.t))
    return sum(len(wells[group[0]]) * len(fields[group]) * len(members[group]) for group in fields)


def absent_rows(
    rows: Iterable[Row],
    wells: Mapping[int, Mapping[str, tuple[int, int]]],
    status: PlaneStatus,
    complete: Callable[[Row, Row], None],
) -> list[Row]:
    """Make rows of the planes that the others lead one to expect in some wells.

    Parameters
    ----------
    rows
        What is there.
    wells
        By acquisition, the wells and their places (row, column).
    status
        Of the new rows.
    complete
        As in `add_missing`.

    Notes
    -----
    A channel is expected to have, in each of the wells, every field that it has in some well, each
    with every (kind, z, t) that it has in some field.
    """
    fields: dict[tuple[int, int], set[int]] = defaultdict(set)
    members: dict[tuple[int, int], set[tuple[str, int, int]]] = defaultdict(set)
    examples: dict[tuple[int, int], Row] = {}
    present: set[Key] = set()
    for row in rows:
        if row.status == PlaneStatus.DUPLICATE_CONTENT:
            continue
        group = (row.acquisition, row.channel)
        fields[group].add(row.field)
        members[group].add((row.kind, row.z, row.t))
        examples.setdefault(group, row)
        present.add(key_of(row))
    absent: list[Row] = []
    for (acquisition, channel), example in examples.items():
        for well, (place_row, place_col) in wells.get(acquisition, {}).items():
            for field in fields[acquisition, channel]:
                for kind, z, t in members[acquisition, channel]:
                    if (acquisition, well, field, channel, kind, z, t) in present:
                        continue
                    row = Row(
                        well=well,
                        row=place_row,
                        col=place_col,
                        field=field,
                        channel=channel,
                        z=z,
                        t=t,
                        kind=kind,
                        acquisition=acquisition,
                        status=status.value,
                        channel_id=example.channel_id,
                    )
                    complete(row, example)
                    absent.append(row)
    return absent


def report_missing(missing: Iterable[Row], findings: FindingLog) -> None:
    """Name missing planes: one by one while a well lacks few, in one finding when it lacks many.

    Parameters
    ----------
    missing
        Rows with the status ``missing``.
    findings
        Takes the ``MISSING_PLANE`` findings.
    """
    by_well: dict[tuple[int, int, int], list[Row]] = defaultdict(list)
    for row in missing:
        by_well[row.acquisition, row.row, row.col].append(row)
    for _, lost in sorted(by_well.items()):
        well = lost[0].well
        lacking = _report_files(lost, findings)
        if not lacking:
            continue
        if len(lacking) > _SPELLED:
            findings.add(
                "MISSING_PLANE",
                f"Well {well} lacks {len(lacking)} planes: "
                f"{some((place_of(row) for row in lacking), 3)}.",
                well=well,
            )
            continue
        for row in lacking:
            named = f" ({row.path})" if row.path else ""
            findings.add_for(
                row,
                "MISSING_PLANE",
                f"There is no file for {words_of(row)}{named}.",
            )


def _report_files(lost: Sequence[Row], findings: FindingLog) -> list[Row]:
    """Name missing files of several planes of a well, once each; gives the other planes."""
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in lost:
        by_file[row.path].append(row)
    others: list[Row] = []
    for path, rows in by_file.items():
        if not path or len(rows) == 1 or rows[0].file_size >= 0:
            others += rows
            continue
        fields = {row.field for row in rows}
        findings.add(
            "MISSING_PLANE",
            f"{path} is not there, and with it {len(rows)} planes of well {rows[0].well}: "
            f"{some((place_of(row) for row in rows), 3)}.",
            well=rows[0].well,
            field=fields.pop() if len(fields) == 1 else None,
            path=path,
        )
    return others


def report_pages(paths: Sequence[str], findings: FindingLog) -> None:
    """Name files that hold further images, which nothing asks for.

    Parameters
    ----------
    paths
        Of the files; may be empty.
    findings
        Takes at most one ``PAGES_UNUSED``.
    """
    if paths:
        findings.add(
            "PAGES_UNUSED",
            f"{len(paths)} files that were opened hold further images, which are left out: "
            f"{some(paths, 3)}.",
            path=paths[0],
        )
