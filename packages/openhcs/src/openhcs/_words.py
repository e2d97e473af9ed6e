"""Words that messages of every part are made of."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Write a number of things, as in ``1 well`` and ``2 wells``.

    Parameters
    ----------
    number
        How many.
    noun
        One of them.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
