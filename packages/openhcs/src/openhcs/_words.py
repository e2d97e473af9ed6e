"""Words that messages of every part are made of."""

from __future__ import annotations

__all__ = ["counted", "reason_of"]


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


def reason_of(error: OSError) -> str:
    """Give what an error of the operating system says, without its number.

    A message that names no file gets the file that the error knows.
    """
    words = error.strerror or str(error) or type(error).__name__
    file = error.filename
    return words if file is None or str(file) in words else f"{file}: {words}"
