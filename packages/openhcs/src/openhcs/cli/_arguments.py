"""Numbers that commands take, refused where they make no sense."""

from __future__ import annotations

import argparse
import math

__all__ = ["at_least_one", "base_port", "length"]

_LAST_PORT = 65_535
_DATA = 1000


def at_least_one(text: str) -> int:
    """Read a number of things of which there must be one.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no whole number above 0.
    """
    number = _whole(text)
    if number < 1:
        message = f"{text!r} is not a whole number of at least 1"
        raise argparse.ArgumentTypeError(message)
    return number


def base_port(text: str) -> int:
    """Read a control port, above which the data port must have room.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no port, or too high.
    """
    number = _whole(text)
    if not 1 <= number <= _LAST_PORT - _DATA:
        message = f"{text!r} is not a port from 1 to {_LAST_PORT - _DATA}"
        raise argparse.ArgumentTypeError(message)
    return number


def length(text: str) -> float:
    """Read a length in µm.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no number above 0.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (number > 0 and math.isfinite(number)):
        message = f"{text!r} is not a length above 0 µm"
        raise argparse.ArgumentTypeError(message)
    return number


def _whole(text: str) -> int:
    """Give a number, 0 for what is none."""
    try:
        return int(text)
    except ValueError:
        return 0
