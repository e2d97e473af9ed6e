"""Values of metadata that cannot be: a pixel of no size, a stage a kilometre away."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row

__all__ = ["forget_absurd"]

_LONGEST_UM = 1e7
"""No stage goes further than ten metres."""


def forget_absurd(rows: Iterable[Row], findings: FindingLog) -> None:
    """Take places, sizes and times that cannot be for unknown, and name them.

    Parameters
    ----------
    rows
        All rows; their values are changed.
    findings
        Takes at most one ``METADATA_INVALID`` for each kind of value.
    """
    odd: dict[str, list[tuple[Row, str]]] = defaultdict(list)
    for row in rows:
        y, x = row.pixel_um_y, row.pixel_um_x
        if not (0 < y < math.inf and 0 < x < math.inf):
            if not math.isnan(y + x):
                odd["pixel size"].append((row, f"{y:g} x {x:g} µm"))
            row.pixel_um_y = row.pixel_um_x = math.nan
        if abs(row.x_um) > _LONGEST_UM or abs(row.y_um) > _LONGEST_UM:
            odd["position"].append((row, f"{row.x_um:g}, {row.y_um:g} µm"))
            row.x_um = row.y_um = math.nan
        if abs(row.z_um) > _LONGEST_UM:
            odd["focus"].append((row, f"{row.z_um:g} µm"))
            row.z_um = math.nan
        if row.exposure_s < 0 or row.exposure_s == math.inf:
            odd["exposure"].append((row, f"{row.exposure_s:g} s"))
            row.exposure_s = math.nan
    for what, cases in odd.items():
        row, value = cases[0]
        findings.add(
            "METADATA_INVALID",
            f"{len(cases)} planes have a {what} that cannot be and is taken for unknown, such as "
            f"{value} in well {row.well}.",
            well=row.well if len({case.well for case, _ in cases}) == 1 else None,
            path=row.path or None,
        )
