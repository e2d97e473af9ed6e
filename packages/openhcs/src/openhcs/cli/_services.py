"""``openhcs services`` and ``openhcs stop``: what runs, and ending what is ours."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands
    from zmqruntime import ServiceRecord

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the commands."""
    listing = commands.add_parser(
        "services",
        help="list the viewers and servers of this user on this computer",
    )
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(carry_out=_list)
    stop = commands.add_parser(
        "stop",
        help="stop viewers and servers of ours",
        description="Stop services that this user started here, and forget those that crashed. "
        "Nothing else is ever signalled.",
    )
    stop.add_argument("port", type=int, nargs="*", help="their base ports")
    stop.add_argument("--all", action="store_true", help="every service of this user")
    stop.add_argument("--crashed", action="store_true", help="those that crashed: forget them")
    stop.set_defaults(carry_out=_stop)


def _list(arguments: argparse.Namespace) -> int:
    from zmqruntime import find_services

    services = find_services()
    if arguments.json:
        print(json.dumps([_facts(service) for service in services], indent=2))
        return 0
    if not services:
        print("nothing runs")
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("service", "host", "port", "data", "process", "since", "state", box=None)
    for service in sorted(services, key=lambda each: not each.alive):
        table.add_row(
            service.app,
            service.host,
            str(service.port),
            str(service.data_port),
            str(service.pid),
            _ago(service.since),
            _state(service),
        )
    Console(highlight=False).print(table)
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    from openhcs._errors import MisuseError
    from zmqruntime import ZmqRuntimeError, find_services, stop_service

    if not (arguments.all or arguments.crashed or arguments.port):
        message = (
            "name the port of a service, as `openhcs services` lists them, "
            "or say --all or --crashed"
        )
        raise MisuseError(message)
    services = find_services()
    chosen = [
        each
        for each in services
        if arguments.all or each.port in arguments.port or (arguments.crashed and not each.alive)
    ]
    unknown = set(arguments.port) - {service.port for service in services}
    failed = False
    for port in sorted(unknown):
        print(f"nothing of ours runs on port {port}", file=sys.stderr)
        failed = True
    for service in chosen:
        try:
            stop_service(service)
        except ZmqRuntimeError as error:
            print(str(error), file=sys.stderr)
            failed = True
        else:
            done = "stopped" if service.alive else "had crashed, forgotten:"
            print(f"{done} {service.app} on port {service.port}")
    return 1 if failed else 0


def _facts(service: ServiceRecord) -> dict[str, object]:
    return {
        "app": service.app,
        "host": service.host,
        "port": service.port,
        "data_port": service.data_port,
        "pid": service.pid,
        "since": datetime.fromtimestamp(service.since, UTC).isoformat(timespec="seconds"),
        "state": _state(service),
    }


def _state(service: ServiceRecord) -> str:
    if not service.alive:
        return "crashed"
    if not service.answering:
        return "not answering"
    if not service.ready:
        return "starting"
    return service.work.state if service.work is not None else "idle"


def _ago(since: float) -> str:
    seconds = max(int(time.time() - since), 0)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
