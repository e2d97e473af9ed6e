"""Numbers as metadata write them, of which any may be absurd."""

from __future__ import annotations

__all__ = ["whole"]

_MOST_DIGITS = 9
"""No instrument counts further, and a column of the index holds as much."""


def whole(text: str | None) -> int | None:
    """Read a whole number that is not negative.

    Parameters
    ----------
    text
        As written; None where nothing is.

    Returns
    -------
    int | None
        None when it is no such number, or has more than nine digits.
    """
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > _MOST_DIGITS:
        return None
    return int(text)
