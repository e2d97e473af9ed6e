"""``zmqruntime ps``: the services of this user on this computer."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from zmqruntime._cli._commands import ExitStatus
from zmqruntime._cli._table import ago, table
from zmqruntime.control._liveness import LivenessState
from zmqruntime.processes._identity import is_stopped
from zmqruntime.services._discovery import find_services, stop_service

if TYPE_CHECKING:
    import argparse

    from zmqruntime._cli._commands import Commands
    from zmqruntime.services._discovery import ServiceRecord

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ps",
        help="list the services of this user on this computer",
        description="List the services of this user on this computer, and how they are.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON list for scripts")
    parser.add_argument(
        "--forget",
        action="store_true",
        help="clear what those left whose process ended without leave, after listing them",
    )
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    records = sorted(find_services(timeout=1.0), key=lambda each: not each.alive)
    services = [(record, *_judge(record)) for record in records]
    if arguments.json:
        print(json.dumps([_as_json(*each) for each in services]))
    elif not services:
        print("No service of this user runs on this computer.")
    else:
        head = ("APP", "PID", "CONTROL", "DATA", "KEYS", "SINCE", "STATE", "WORK")
        print(table(head, [_as_row(*each) for each in services]))
    for record in records:
        if arguments.forget and not record.alive:
            stop_service(record)
    return ExitStatus.DONE


def _judge(record: ServiceRecord) -> tuple[LivenessState, str]:
    """Say how a service is, and what is to be added."""
    if not record.alive:
        return LivenessState.LOST, "its process has ended without leave"
    if record.answering:
        work = record.work
        busy = work is not None and work.state == "busy"
        note = "" if record.ready else "not ready yet"
        return LivenessState.BUSY if busy else LivenessState.IDLE, note
    if is_stopped(record.identity):
        return LivenessState.UNRESPONSIVE, "stopped: kill -CONT lets it go on"
    # it runs, and its thread that answers does not get to it
    return LivenessState.BUSY, "does not answer"


def _as_json(record: ServiceRecord, state: LivenessState, note: str) -> dict[str, Any]:
    work = record.work
    return {
        "app": record.app,
        "pid": record.pid,
        "host": record.host,
        "port": record.port,
        "data_port": record.data_port,
        "since": record.since,
        "keys": bool(record.server_key),
        "state": state.value,
        "answering": record.answering,
        "ready": record.ready,
        "task": "" if work is None else work.task,
        "queued": 0 if work is None else work.queued,
        "note": note,
    }


def _as_row(record: ServiceRecord, state: LivenessState, note: str) -> tuple[str, ...]:
    parts = [note] if note else []
    if record.work is not None:
        parts += [record.work.task] if record.work.task else []
        if record.work.since is not None and record.work.state == "busy":
            parts.append(f"for {ago(record.work.since, now=time.time())}")
        parts += [f"{record.work.queued} waiting"] if record.work.queued else []
    return (
        record.app,
        str(record.pid),
        f"{record.host}:{record.port}",
        str(record.data_port),
        "yes" if record.server_key else "no",
        f"{ago(record.since)} ago",
        state.value,
        ", ".join(parts) or "-",
    )
