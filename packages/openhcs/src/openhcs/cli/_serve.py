"""``openhcs serve``: do the runs of others, next to the data."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs.cli._arguments import at_least_one, base_port, size
from openhcs.cli._console import make_console, say
from openhcs.cli._keys import add_keys_option, key_folder
from openhcs.cli._run import default_workers
from openhcs.cli._server_options import PORT

if TYPE_CHECKING:
    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="do runs for others, next to the data",
        description="Do the runs that `openhcs run --server` submits, one after the other, on "
        "plates below the roots that are named here. What was accepted is not forgotten: a server "
        "that is started again with the same --state goes on where it was.",
    )
    parser.add_argument(
        "--root",
        type=_root,
        action="append",
        required=True,
        metavar="NAME=DIR",
        help="a folder with plates, which submitters call NAME; more than once for more",
    )
    parser.add_argument(
        "--results", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder for the jobs, on a disk of this computer "
        "(default: ~/.local/state/openhcs/server-PORT)",
    )
    parser.add_argument(
        "--port",
        type=base_port,
        default=PORT,
        help="control port; data is on the port 1000 above (default: %(default)s)",
    )
    parser.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on, * for all; beyond this computer --keys is needed "
        "(default: %(default)s)",
    )
    add_keys_option(parser, "let in whoever has an authorised key, and nobody else")
    parser.add_argument(
        "--workers",
        type=at_least_one,
        default=default_workers(),
        metavar="N",
        help="worker processes of a run (default: one for each processor, here %(default)s)",
    )
    parser.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="what the workers of a run may hold together, such as 16GB (default: four fifths of "
        "what is available)",
    )
    parser.add_argument(
        "--runs",
        type=at_least_one,
        default=1,
        metavar="N",
        help="runs that go on at once (default: %(default)s)",
    )
    parser.add_argument(
        "--waiting",
        type=at_least_one,
        default=1000,
        metavar="N",
        help="runs of one submitter that may wait for their turn; submitters have one in turn "
        "(default: %(default)s)",
    )
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import MisuseError, ServerError
    from openhcs.server import RunServer, ServerSettings
    from zmqruntime import Endpoint, SecurityError, ZmqRuntimeError

    console = make_console()
    roots: dict[str, Path] = {}
    for name, folder in arguments.root:
        if name in roots:
            message = f"--root {name} is given twice"
            raise MisuseError(message)
        if not folder.is_dir():
            message = f"--root {name}: {folder} is no folder"
            raise MisuseError(message)
        roots[name] = folder
    keys = key_folder(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = ServerSettings(
            roots=roots,
            results=arguments.results,
            state=arguments.state or _state(arguments.port),
            workers=arguments.workers,
            memory_bytes=arguments.memory,
            runs=arguments.runs,
            waiting=arguments.waiting,
            keys=None if keys is None else keys.path,
        )
        server = RunServer(
            Endpoint("localhost", arguments.port), settings, bind_address=arguments.bind
        )
    except (ValueError, SecurityError) as error:
        raise MisuseError(str(error)) from error
    except ZmqRuntimeError as error:
        raise ServerError(str(error)) from error
    who = "the programs of this user on this computer" if keys is None else "authorised keys"
    say(console, f"Serving {who} on port {arguments.port}; roots: {', '.join(sorted(roots))}")
    say(console, f"Results: {settings.results}; jobs: {settings.state}")
    try:
        server.serve_until_signal()
    except ZmqRuntimeError as error:
        raise ServerError(str(error)) from error
    say(console, "Stopped. What was accepted goes on when the server is started again.")
    return 0


def _root(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        message = f"{text!r} is no root: write NAME=DIR"
        raise argparse.ArgumentTypeError(message)
    return name, Path(folder)


def _state(port: int) -> Path:
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "openhcs" / f"server-{port}"
