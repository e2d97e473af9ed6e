"""Names that IN Cell Analyzers give: well, field, wavelength, z and time point of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openhcs.plates._wells import parse_well

__all__ = ["IMAGE_NAME", "InCellName", "is_unsupported", "parse_name"]

# Padding varies, and movies lack the space before the hyphen: "(fld 1 z 1- time 1 - 0 ms)".
IMAGE_NAME = re.compile(
    r"(?P<row>[A-Z]{1,2}) ?- ?(?P<col>\d{1,9}) ?\(fld (?P<field>\d{1,9})(?: wv (?P<wave>[^()]+?))?"
    r"(?: wix (?P<wix>\d{1,9}))?(?: z (?P<z>\d{1,9}))?"
    r"(?: ?-? ?time (?P<t>\d{1,9}) ?- ?(?P<ms>\d{1,9}) ms)?\)"
    r"\.(?P<extension>(?i:tiff?|im))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InCellName:
    """What the name of an image says.

    Parameters
    ----------
    row, col
        0-based.
    field, z, t
        From 1; None where the name has none.
    wave
        Filters as they are named, such as ``UV - DAPI``; empty where the name has none.
    wix
        Number of the wavelength, from 1, which tells apart those of the same filters; None where
        the name has none.
    """

    row: int
    col: int
    field: int
    wave: str
    z: int | None
    t: int | None
    wix: int | None = None


def parse_name(name: str) -> InCellName | None:
    """Read the name of a file.

    Parameters
    ----------
    name
        Without its folder.

    Returns
    -------
    InCellName | None
        None when it does not fit.
    """
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        row, col = parse_well(f"{match['row']}{int(match['col'])}")
    except ValueError:
        return None
    return InCellName(
        row=row,
        col=col,
        field=int(match["field"]),
        wave=(match["wave"] or "").strip(),
        z=int(match["z"]) if match["z"] else None,
        t=int(match["t"]) if match["t"] else None,
        wix=int(match["wix"]) if match["wix"] else None,
    )


def is_unsupported(name: str) -> bool:
    """Say whether a file is of the instrument's own encoding, which is no TIFF."""
    return name[-3:].lower() == ".im"
