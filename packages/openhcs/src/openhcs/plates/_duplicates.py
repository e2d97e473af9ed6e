"""Several files that claim to be one plane: which of them is used, or that none is."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._rows import Key, key_of, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.plates._findings import DuplicatePolicy, FindingLog
    from openhcs.plates._rows import Row

__all__ = ["mark_conflicts", "mark_shared"]

_DECIDED = "Look at the files that are not used, and move them out of the plate folder."
_SPELLED = 8
"""So many images that are said to be several planes are named one by one."""

_UNDECIDED = "; they are not in several files of which one could be chosen"


def mark_conflicts(rows: list[Row], findings: FindingLog) -> None:
    """Settle which of the rows that claim to be the same plane is used, with a finding each key.

    Parameters
    ----------
    rows
        All rows; copies made by an export do not count. Those that are not used are taken out,
        where `findings` has a policy that chooses one; all have the status ``conflict`` without,
        or where the policy cannot tell.
    findings
        Takes one ``DUPLICATE_KEY`` for each key, and the paths of the files that are not used.

    Notes
    -----
    What a file holds does not count, not even whether it is empty: which one is used must not
    depend on how many headers were opened, and a newest file that is damaged is an error of its
    own, not a reason to go back to an older one in silence.
    """
    by_key: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status != PlaneStatus.DUPLICATE_CONTENT:
            by_key[key_of(row)].append(row)
    left_out: set[int] = set()
    for same in by_key.values():
        if len(same) > 1:
            used, why = _chosen(same, findings.duplicates)
            named = f"{len(same)} files are {words_of(same[0])}"
            if used is None:
                for row in same:
                    row.status = PlaneStatus.CONFLICT.value
                what = f"{named}: {', '.join(row.path for row in same)}{why}."
            else:
                others = [row for row in same if row is not used]
                _keep_place(used, others)
                left_out |= {id(row) for row in others}
                findings.replaced |= {row.path for row in others}
                what = f"{named}: {used.path} is used, {why}, in place of "
                what += f"{', '.join(row.path for row in others)}."
            first = same[0] if used is None else used
            findings.add_for(
                first,
                "DUPLICATE_KEY",
                what,
                decided="" if used is None else _DECIDED,
            )
    if left_out:
        rows[:] = [row for row in rows if id(row) not in left_out]


def mark_shared(rows: Sequence[Row], findings: FindingLog) -> None:
    """Mark images that metadata list as several planes: at most one of them can be right.

    Parameters
    ----------
    rows
        All rows, joined with their files. Those that share an image and are not the same plane
        have the status ``conflict`` then.
    findings
        Takes a ``DUPLICATE_KEY`` for each image, or one for many.
    """
    by_image: dict[tuple[str, int], list[Row]] = defaultdict(list)
    claims: Counter[Key] = Counter()
    for row in rows:
        if row.file_size >= 0 and row.status != PlaneStatus.ERROR_RECORD:
            by_image[row.path, row.page].append(row)
            claims[key_of(row)] += 1
    shared: list[list[Row]] = []
    for same in by_image.values():
        if len({key_of(row) for row in same}) > 1:
            # a plane that other images claim to be as well is named by `mark_conflicts`
            doubled = [row for row in same if claims[key_of(row)] > 1]
            if len(same) - len(doubled) > 1:
                shared.append(same)
            for row in same if len(same) - len(doubled) > 1 else doubled:
                row.status = PlaneStatus.CONFLICT.value
    if len(shared) > _SPELLED:
        paths = dict.fromkeys(same[0].path for same in shared)
        first = shared[0]
        findings.add(
            "DUPLICATE_KEY",
            f"{len(shared)} images are said to be several planes each, in {len(paths)} files: "
            f"{some(paths, 3)}. The first is said to be {_planes(first)}.",
            path=first[0].path,
        )
        return
    for same in shared:
        findings.add(
            "DUPLICATE_KEY",
            f"{_image(same[0])} is said to be {len(same)} planes: {_planes(same)}.",
            path=same[0].path,
        )


def _image(row: Row) -> str:
    return f"{row.path}, image {row.page}," if row.page else row.path


def _planes(rows: Sequence[Row]) -> str:
    return some((words_of(row) for row in rows), 3)


def _keep_place(used: Row, others: Sequence[Row]) -> None:
    """Give a row that nothing places the place of one that it stands for: they are of one field."""
    for row in others:
        if math.isnan(used.x_um + used.y_um):
            used.x_um, used.y_um = row.x_um, row.y_um


def _chosen(same: Sequence[Row], policy: DuplicatePolicy) -> tuple[Row | None, str]:
    """Give the row that a policy chooses, and what for; without one, why it chooses none."""
    if policy == "error":
        return None, ""
    if any(row.status == PlaneStatus.CONFLICT for row in same):
        return None, "; one of them is said to be other planes as well, so none can be chosen"
    there = [row for row in same if row.path and row.status != PlaneStatus.MISSING]
    if policy == "first":
        best = min((row.path for row in there), default="")
        ahead = [row for row in there if row.path == best]
        return (ahead[0], "the first by name") if len(ahead) == 1 else (None, _UNDECIDED)
    latest = max((row.mtime_ns for row in there), default=-1)
    ahead = [row for row in there if row.mtime_ns == latest]
    if len(ahead) > 1 and len({row.path for row in ahead}) > 1:
        return None, "; they were changed at the same time, so none is the newest"
    return (ahead[0], "the newest") if len(ahead) == 1 else (None, _UNDECIDED)
