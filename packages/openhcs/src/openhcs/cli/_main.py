"""Reads the words of a command and hands them to the one that carries it out."""

from __future__ import annotations

import argparse
import difflib
import io
import re
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

from openhcs import _errors
from openhcs.cli import (
    _demo,
    _functions,
    _inspect,
    _jobs,
    _pipeline,
    _plan,
    _report,
    _run,
    _serve,
    _services,
    _synth,
    _viewer,
)
from openhcs.cli._console import printable
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["carried_out", "main", "make_parser"]

_COMMANDS = (
    _demo,
    _run,
    _inspect,
    _plan,
    _pipeline,
    _functions,
    _report,
    _viewer,
    _serve,
    _jobs,
    _services,
    _synth,
)

# What a user can mend by asking differently.
_MISUSE = (
    _errors.DeviceError,
    _errors.MisuseError,
    _errors.PipelineError,
    _errors.PlateError,
    _errors.ResultFolderError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a name that the terminal's encoding lacks is shown in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    return carried_out(make_parser().parse_args(words))


def carried_out(arguments: argparse.Namespace) -> int:
    """Carry out a command that was read; what is wrong is said on the standard error.

    Parameters
    ----------
    arguments
        As `make_parser` has read them.

    Returns
    -------
    int
        As `main`.
    """
    try:
        return int(arguments.carry_out(arguments))
    except KeyboardInterrupt:
        print("openhcs: stopped", file=sys.stderr)
        return ExitStatus.STOPPED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; Python would complain at exit
        return ExitStatus.FAILED
    except _MISUSE as error:
        print(f"openhcs: {printable(_sentence(error))}", file=sys.stderr)
        return ExitStatus.MISUSED
    except (_errors.OpenHCSError, OSError) as error:
        print(f"openhcs: {printable(_sentence(error))}", file=sys.stderr)
        return ExitStatus.FAILED


def make_parser() -> argparse.ArgumentParser:
    """Give the parser of all commands."""
    parser = _Parser(
        prog="openhcs",
        description="Image-analysis pipelines over whole multi-well plates, shown while they run.",
    )
    parser.add_argument("--version", action="version", version=f"openhcs {version('openhcs')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says in one line what was wrong with the words."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse words that a command does not know, and say which one may have been meant."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            if not word.startswith("-"):
                self.error(f"{word!r} is one word too many")
            options = re.findall(r"--[a-z][a-z-]*", self.format_help())
            close = difflib.get_close_matches(word, options, n=1)
            self.error(f"there is no {word}" + (f"; did you mean {close[0]}?" if close else ""))
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        said = message if message.endswith("?") else f"{message};"
        self.exit(ExitStatus.MISUSED, f"{self.prog}: {said} {self.prog} --help tells more\n")


def _sentence(error: BaseException) -> str:
    """Say what happened; of the system's own errors, to which file."""
    if isinstance(error, _errors.CompileError) and len(error.problems) == 1:
        return error.problems[0]
    if isinstance(error, _errors.OpenHCSError) or not isinstance(error, OSError):
        return str(error)
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"
