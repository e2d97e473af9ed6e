"""Numbers that commands take, refused where they make no sense."""

from __future__ import annotations

import argparse
import math
import re

__all__ = ["at_least_one", "base_port", "length", "plate_size", "size", "whole"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?i?[bB]?)")
_UNITS = {
    f"{prefix}{binary}{letter}": (1024 if binary else 1000) ** power
    for power, prefix in enumerate(("", "K", "M", "G", "T"))
    for binary in ("", "I")
    for letter in ("", "B")
}
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


def plate_size(text: str) -> tuple[int, int]:
    """Read the size of a plate: ``96``, or ``8x12``.

    Raises
    ------
    argparse.ArgumentTypeError
        If no plate has it.
    """
    rows, cross, columns = text.lower().partition("x")
    usual = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24)}
    usual[1536] = (32, 48)
    size = (_whole(rows), _whole(columns)) if cross else usual.get(_whole(text))
    if size is None or not (1 <= size[0] <= 32 and 1 <= size[1] <= 48):
        message = f"{text!r} is no plate: write 96 or another usual number of wells, or 8x12"
        raise argparse.ArgumentTypeError(message)
    return size


def size(text: str) -> int:
    """Read an amount of memory, such as ``16GB`` or ``512MiB``; a bare number is bytes.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none, or nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    count = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 1 <= count < 2**62:
        message = f"{text!r} is not a size such as 16GB"
        raise argparse.ArgumentTypeError(message)
    return int(count)


def whole(text: str) -> int:
    """Read a number of things of which there may be none.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no whole number of 0 or more.
    """
    number = _whole(text)
    if number < 0:
        message = f"{text!r} is not a whole number of at least 0"
        raise argparse.ArgumentTypeError(message)
    return number


def _whole(text: str) -> int:
    """Give a number, -1 for what is none."""
    try:
        return int(text)
    except ValueError:
        return -1
