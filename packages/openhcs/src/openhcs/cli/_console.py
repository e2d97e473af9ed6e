"""Where commands print for people: words as they are, nothing read into them."""

from __future__ import annotations

import json
import sys
import textwrap
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

__all__ = ["entry", "listed_few", "make_console", "print_json", "printable", "say"]

_LABEL = 10
"""Width of labels."""


def make_console(*, quiet: bool = False) -> Console:
    """Make a console in which names from plates and files are never taken for markup.

    Parameters
    ----------
    quiet
        Whether it prints nothing, because the output is for a program.
    """
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, quiet=quiet)


def printable(text: str) -> str:
    """Give a text as it may be shown; what would steer a terminal, or is no character, is not let.

    Names of files and what others wrote may hold anything.
    """
    return "".join(
        sign
        if sign.isprintable() or sign in "\n\t" or unicodedata.category(sign) == "Zs"
        else "\N{REPLACEMENT CHARACTER}"
        for sign in text
    )


def print_json(values: Any) -> None:
    """Print one JSON document, in escapes where the output cannot hold its characters."""
    text = json.dumps(values, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # such as a name of a file that is no UTF-8
        text = json.dumps(values, indent=2)
    print(text)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line that is not broken, so that paths in it can be copied and found by scripts."""
    console.print(printable(text), style=style, soft_wrap=True)


def entry(console: Console, label: str, text: str, *, indent: int = 0) -> None:
    """Print a label and what belongs to it.

    On a terminal long text goes on below its own beginning; elsewhere it is one line.
    """
    first, rest = " " * indent + label.ljust(_LABEL), " " * (indent + _LABEL)
    if not console.is_terminal:
        say(console, first + text)
        return
    lines = textwrap.wrap(
        text,
        max(20, console.width - len(rest)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in lines or [""]:
        say(console, first + line)
        first = rest


def listed_few(names: Sequence[str], most: int) -> str:
    """Write the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
