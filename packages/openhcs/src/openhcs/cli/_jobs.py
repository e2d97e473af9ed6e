"""``openhcs jobs``: the runs on a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.cli._console import make_console, printable, say
from openhcs.cli._remote import (
    connected,
    fetch_and_tell,
    follow_and_tell,
    what_happened,
)
from openhcs.cli._server_options import add_server
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands
    from zmqruntime.execution import JobRecord

__all__ = ["add_to"]

_MOST = 50


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("jobs", help="list, follow and cancel runs on a server")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="list your runs",
        description="List your runs on a server, the last first, the roots that you may read "
        "plates from, and the results that lie there.",
    )
    listing.add_argument("--json", action="store_true", help="print one JSON object")
    listing.set_defaults(carry_out=_list)
    follow = actions.add_parser(
        "follow",
        help="show a run until it is over",
        description="Show a run until it is over. Ctrl-C cancels it.",
    )
    follow.add_argument("job", help="name of the run, as `openhcs jobs list` shows it")
    follow.add_argument("--out", type=Path, metavar="DIR", help="bring its results here then")
    follow.set_defaults(carry_out=_follow)
    cancel = actions.add_parser(
        "cancel", help="cancel a run, and no other", description="What is finished is kept."
    )
    cancel.add_argument("job", help="name of the run")
    cancel.set_defaults(carry_out=_cancel)
    fetch = actions.add_parser(
        "fetch",
        help="bring results from the server",
        description="Bring results from the server. What is here already is not brought again.",
    )
    fetch.add_argument("results", help="their name, as `openhcs jobs list` shows it")
    fetch.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for them")
    fetch.set_defaults(carry_out=_fetch)
    log = actions.add_parser("log", help="print what a run has written, such as warnings")
    log.add_argument("job", help="name of the run")
    log.set_defaults(carry_out=_log)
    for action in (listing, follow, cancel, fetch, log):
        add_server(action, required=True)


def _list(arguments: argparse.Namespace) -> int:
    from itertools import islice

    console = make_console(quiet=arguments.json)
    with connected(arguments, console) as client:
        records = list(islice(client.jobs(mine=True), _MOST))
        roots, results = client.roots(), client.results()
        orders = client.orders([record.id for record in records])
    if arguments.json:
        document = {
            "roots": roots,
            "results": results,
            "jobs": [_facts(record) | orders.get(record.id, {}) for record in records],
        }
        print(json.dumps(document, indent=2))
        return 0
    from rich.table import Table

    say(console, f"Roots:   {', '.join(roots) or 'none that you may read'}")
    say(console, f"Results: {', '.join(results) or 'none'}")
    if not records:
        say(console, "No runs.")
        return 0
    table = Table(box=None)
    table.add_column("job", no_wrap=True)  # whole in a narrow terminal too: it is copied
    table.add_column("state", no_wrap=True)
    for heading in ("plate", "results", "submitted"):
        table.add_column(heading, overflow="fold")
    for record in records:
        order = orders.get(record.id, {})
        when = _facts(record)["submitted"]
        plate, name = order.get("plate", ""), order.get("results", "")
        table.add_row(record.id, record.state, plate, name, when)
    console.print(table)
    for record in records:
        if record.message:
            say(console, f"\n{record.id}: {what_happened(record)}")
    return 0


def _follow(arguments: argparse.Namespace) -> int:
    console = make_console()
    with connected(arguments, console) as client:
        return follow_and_tell(client, arguments.job, arguments.out, console)


def _cancel(arguments: argparse.Namespace) -> int:
    console = make_console()
    with connected(arguments, console) as client:
        record = client.cancel(arguments.job)
    say(console, f"{record.id} is {record.state}")
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from openhcs.execution import ResultFolder

    console = make_console()
    with connected(arguments, console) as client:
        fetch_and_tell(client, arguments.results, arguments.out, console)
    outcome = (ResultFolder(arguments.out).read_run() or {}).get("outcome", "running")
    if outcome == "running":
        say(console, "Their run has not come to its end: fetch them again when it has.", "yellow")
        return ExitStatus.FAILED
    return ExitStatus.DONE


def _log(arguments: argparse.Namespace) -> int:
    console = make_console()
    with connected(arguments, console) as client:
        for piece in client.logs(arguments.job):
            print(printable(piece), end="")
    return 0


def _facts(record: JobRecord) -> dict[str, Any]:
    return {
        "job": record.id,
        "state": str(record.state),
        "submitted": datetime.fromtimestamp(record.submitted, UTC).isoformat(timespec="seconds"),
        "attempt": record.attempt,
        "message": record.message,
    }
