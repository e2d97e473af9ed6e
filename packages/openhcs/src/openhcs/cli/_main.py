"""Reads the words of a command and hands them to the one that carries it out."""

from __future__ import annotations

import argparse
import sys
from enum import IntEnum
from importlib.metadata import version
from typing import TYPE_CHECKING

from openhcs import _errors
from openhcs.cli import _demo, _inspect, _pipeline, _report, _run, _services, _synth, _viewer

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ExitStatus", "main"]


class ExitStatus(IntEnum):
    """What a command tells the shell."""

    DONE = 0
    """Done and whole."""
    FAILED = 1
    """Done, but something failed, which was named."""
    MISUSED = 2
    """Wrong use: nothing was done."""
    STOPPED = 130
    """Stopped by the user."""


# What a user can mend by asking differently.
_MISUSE = (
    _errors.AmbiguousFormatError,
    _errors.CompileError,
    _errors.FormatNotRecognisedError,
    _errors.MisuseError,
    _errors.SourceError,
    FileNotFoundError,
    NotADirectoryError,
)


def main(words: Sequence[str] | None = None) -> int:
    """Carry out one command.

    Parameters
    ----------
    words
        Words after ``openhcs``; those of this process by default.

    Returns
    -------
    int
        0 done and whole, 1 done but something failed (named), 2 wrong use, 130 stopped by the user.
    """
    parser = argparse.ArgumentParser(
        prog="openhcs",
        description="Image-analysis pipelines over whole multi-well plates, shown while they run.",
    )
    parser.add_argument("--version", action="version", version=f"openhcs {version('openhcs')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (_demo, _run, _inspect, _pipeline, _report, _viewer, _services, _synth):
        module.add_to(commands)
    arguments = parser.parse_args(words)
    try:
        return int(arguments.carry_out(arguments))
    except KeyboardInterrupt:
        print("openhcs: stopped", file=sys.stderr)
        return ExitStatus.STOPPED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; Python would complain at exit
        return ExitStatus.FAILED
    except _MISUSE as error:
        print(f"openhcs: {error}", file=sys.stderr)
        return ExitStatus.MISUSED
    except (_errors.OpenHCSError, OSError) as error:
        print(f"openhcs: {error}", file=sys.stderr)
        return ExitStatus.FAILED
