"""The options of ``openhcs run`` and ``openhcs plan`` that say which server does it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openhcs._errors import MisuseError
from openhcs.cli._keys import OWN_KEYS, add_keys_option

if TYPE_CHECKING:
    import argparse

__all__ = [
    "PORT",
    "add_server",
    "add_server_options",
    "add_submit_options",
    "check_plan_options",
    "check_submit_options",
]

PORT = 7777
"""Where servers listen, where nothing else is said."""

_RESULTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HERE_ALONE = (
    "again", "workers", "memory", "dask", "slurm", "cores", "job_memory", "walltime",
    "slurm_options", "source",
)  # fmt: skip


def add_server(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add ``--server`` and ``--keys``."""
    parser.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        required=required,
        help=f"the server, as `openhcs serve` runs it (port {PORT} where none is given)",
    )
    add_keys_option(parser, "show a key to the server")


def add_server_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say which server plans or runs, and give their group."""
    group = parser.add_argument_group(
        "on a server",
        "The plate is named by a root of the server and the path below it, such as "
        "screens/2026/plate7; pipeline, --platemap and --files are files of yours and sent along.",
    )
    add_server(group, required=False)  # type: ignore[arg-type]  # a group adds as a parser does
    group.add_argument(
        "--leave",
        metavar="NAME",
        help="leave the results on the server under this name, in place of --out",
    )
    return group


def add_submit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a run on a server."""
    add_server_options(parser).add_argument(
        "--detach", action="store_true", help="submit the run, say its name, and do not wait"
    )


def check_submit_options(arguments: argparse.Namespace) -> None:
    """Refuse options of a run that do not go together.

    Raises
    ------
    MisuseError
        If some do not.
    """
    _check(arguments)
    if arguments.server is not None and (arguments.out is None) == (arguments.leave is None):
        message = "say where results go: --out DIR to bring them here, or --leave NAME"
        raise MisuseError(message)


def check_plan_options(arguments: argparse.Namespace) -> None:
    """Refuse options of a plan that do not go together; it may leave open where results go.

    Raises
    ------
    MisuseError
        If some do not.
    """
    _check(arguments)
    if arguments.server is not None and None not in (arguments.out, arguments.leave):
        message = "results are brought to --out DIR, or stay under --leave NAME: leave one out"
        raise MisuseError(message)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.server is None:
        for name in ("leave", "detach", "keys"):
            if getattr(arguments, name, None):
                message = f"--{name} is for runs on a server: give --server too"
                raise MisuseError(message)
        return
    for name in _HERE_ALONE:
        if getattr(arguments, name, None) not in (None, False):
            message = f"--{name.replace('_', '-')} is the server's matter: leave it out"
            raise MisuseError(message)
    if arguments.leave is not None and not _RESULTS_NAME.fullmatch(arguments.leave):
        message = (
            "--leave is a name of up to 100 letters, digits, '.', '_' and '-', the first a letter "
            f"or a digit, not {arguments.leave!r}"
        )
        raise MisuseError(message)
    if arguments.plate is None and arguments.request is None:
        message = "name a plate, or --request FILE; --help tells more"
        if arguments.keys is not None and arguments.keys != OWN_KEYS:
            message += f" ({arguments.keys} was taken for the folder of --keys: name plates before)"
        raise MisuseError(message)
