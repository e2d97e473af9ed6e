"""Plain tables, and text of peers that cannot move the cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ago", "clean", "mib", "table"]

_LONGEST = 60


def clean(text: str) -> str:
    """Replace what is not printable: a name that a peer chose may hold escape sequences."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out columns; numbers to the right, long texts cut.

    Parameters
    ----------
    head
        Titles.
    rows
        As many cells each.

    Returns
    -------
    str
        Lines without trailing blanks, the last one without its end.
    """
    cells = [[_cut(clean(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    right = [bool(cells) and all(_is_number(row[at]) for row in cells) for at in range(len(head))]
    lines = []
    for row in (head, *cells):
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def ago(seconds: float, *, now: float | None = None) -> str:
    """Say how long ago a moment was, in the largest unit that fits."""
    past = max(0.0, (time.time() if now is None else now) - seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if past >= size:
            return f"{past / size:.0f} {unit}"
    return f"{past:.0f} s"


def mib(nbytes: float) -> str:
    """Write bytes as MiB."""
    return f"{nbytes / 2**20:.1f}"


def _cut(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit() or cell == "-"
