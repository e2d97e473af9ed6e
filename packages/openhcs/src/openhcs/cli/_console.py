"""Where commands print for people: words as they are, nothing read into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "say"]


def make_console(*, quiet: bool = False) -> Console:
    """Make a console in which names from plates and files are never taken for markup.

    Parameters
    ----------
    quiet
        Whether it prints nothing, because the output is for a program.
    """
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, quiet=quiet)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line that is not broken, so that paths in it can be copied and found by scripts."""
    console.print(text, style=style, soft_wrap=True)
