"""Units of OME-XML.

Notes
-----
OME schema 2016-06, UnitsLength and UnitsTime. A length without a unit is in µm; ``pixel`` and
``reference frame`` are no lengths that anybody can convert.
"""

from __future__ import annotations

import math

__all__ = ["length_nm", "length_um", "time_s"]

_METRES = {
    "Ym": 1e24, "Zm": 1e21, "Em": 1e18, "Pm": 1e15, "Tm": 1e12, "Gm": 1e9, "Mm": 1e6, "km": 1e3,
    "hm": 1e2, "dam": 1e1, "m": 1.0, "dm": 1e-1, "cm": 1e-2, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9,
    "pm": 1e-12, "fm": 1e-15, "am": 1e-18, "zm": 1e-21, "ym": 1e-24, "Å": 1e-10,
    "thou": 2.54e-5, "li": 2.54e-2 / 12, "in": 2.54e-2, "ft": 0.3048, "yd": 0.9144,
}  # fmt: skip
_SECONDS = {
    "Ys": 1e24, "Zs": 1e21, "Es": 1e18, "Ps": 1e15, "Ts": 1e12, "Gs": 1e9, "Ms": 1e6, "ks": 1e3,
    "hs": 1e2, "das": 1e1, "s": 1.0, "ds": 1e-1, "cs": 1e-2, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
    "ps": 1e-12, "fs": 1e-15, "as": 1e-18, "zs": 1e-21, "ys": 1e-24, "min": 60.0, "h": 3600.0,
    "d": 86400.0,
}  # fmt: skip
# the Greek letter and the micro sign look alike, and so do A with a ring and the sign of Ångström
_ALIKE = str.maketrans({"\N{GREEK SMALL LETTER MU}": "µ", "\N{ANGSTROM SIGN}": "Å"})


def length_um(text: str | None, unit: str | None) -> float:
    """Read a length.

    Parameters
    ----------
    text
        Its number; None without.
    unit
        As the metadata spell it; None for µm.

    Returns
    -------
    float
        µm; NaN when it is none, or in no unit of length.
    """
    # divided, so that a length that was given in µm stays as it is to the last bit
    return _number(text) * (_METRES.get((unit or "µm").translate(_ALIKE), math.nan) / 1e-6)


def length_nm(text: str | None, unit: str | None) -> float:
    """Read a wavelength; as `length_um`, in nm and by default in nm."""
    return _number(text) * (_METRES.get((unit or "nm").translate(_ALIKE), math.nan) / 1e-9)


def time_s(text: str | None, unit: str | None) -> float:
    """Read a time; as `length_um`, in s and by default in s."""
    return _number(text) * _SECONDS.get((unit or "s").translate(_ALIKE), math.nan)


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
