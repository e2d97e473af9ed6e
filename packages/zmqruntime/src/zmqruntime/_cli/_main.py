"""The parser, and what becomes of errors."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

from zmqruntime._cli import _keys, _ping, _ps, _trace
from zmqruntime._cli._commands import ExitStatus
from zmqruntime._cli._table import clean
from zmqruntime._errors import InvalidEndpointError, SecurityError, ZmqRuntimeError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "make_parser"]


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="zmqruntime",
        description="See the services of this user, reach one, and say who may reach them.",
    )
    parser.add_argument(
        "--version", action="version", version=f"zmqruntime {version('zmqruntime')}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (_ps, _ping, _trace, _keys):
        module.add_to(commands)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    words
        Arguments; None takes those of the process.

    Returns
    -------
    int
        0 when done, 1 when something failed and was named, 2 for wrong use, 130 when stopped.
    """
    try:
        arguments = make_parser().parse_args(words)
    except SystemExit as error:
        return int(error.code or 0)
    try:
        status = int(arguments.carry_out(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitStatus.STOPPED
    except BrokenPipeError:  # a pager was closed
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE
    except (InvalidEndpointError, SecurityError) as error:
        print(f"zmqruntime: {clean(str(error))}", file=sys.stderr)
        return ExitStatus.MISUSED
    except (ZmqRuntimeError, OSError) as error:
        print(f"zmqruntime: {clean(str(error))}", file=sys.stderr)
        return ExitStatus.FAILED
    return status
