"""Where commands print for people: words as they are, nothing read into them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["at_least_one", "make_console", "say"]


def make_console() -> Console:
    """Make a console in which names from plates and files are never taken for markup."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line that is not broken, so that paths in it can be copied and found by scripts."""
    console.print(text, style=style, soft_wrap=True)


def at_least_one(text: str) -> int:
    """Read a number of things of which there must be one.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no whole number above 0.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        message = f"{text!r} is not a whole number of at least 1"
        raise argparse.ArgumentTypeError(message)
    return number
