"""``zmqruntime ping``: whether a service answers, how fast, and what it is."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from zmqruntime._cli._commands import ExitStatus
from zmqruntime._cli._table import clean
from zmqruntime._cli._target import add_target, make_client
from zmqruntime._errors import HandshakeError

if TYPE_CHECKING:
    import argparse

    from zmqruntime._cli._commands import Commands
    from zmqruntime._client import ZMQClient

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "ping",
        help="say whether a service answers, how fast, and what it is",
        description="Ask a service some times, and say what it is and how long the answers took.",
    )
    add_target(parser)
    parser.add_argument(
        "--count", type=int, default=100, metavar="N", help="round trips (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for scripts")
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    count = max(1, arguments.count)
    with make_client(arguments) as client:
        began = time.perf_counter()
        refusal = _greet(client, arguments.timeout)
        connected_ms = 1000 * (time.perf_counter() - began)
        pong: dict[str, Any] = {}
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            pong = client.control.request("ping", timeout=arguments.timeout)
            trips.append(1000 * (time.perf_counter() - began))
    found = {
        "target": str(arguments.target),
        "connect_ms": round(connected_ms, 3),
        "count": count,
        "min_ms": round(min(trips), 3),
        "median_ms": round(statistics.median(trips), 3),
        "p99_ms": round(sorted(trips)[max(0, -(-99 * count // 100) - 1)], 3),
        "encrypted": client.keys is not None,
        "refused": refusal,
        **{
            name: pong.get(name)
            for name in ("ready", "app", "version", "pid", "v_min", "v_max", "bound", "insecure")
        },
        "work": pong.get("work"),
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        _tell(found)
    return ExitStatus.DONE if found["ready"] else ExitStatus.FAILED


def _greet(client: ZMQClient, timeout: float) -> str:
    """Say hello; a service that does not welcome us may still answer a ping."""
    try:
        client.connect(timeout)
    except HandshakeError as error:
        if not client.control.connected:
            raise
        return str(error)
    return ""


def _tell(found: dict[str, Any]) -> None:
    ready = "ready" if found["ready"] else "not ready"
    if found["app"] is None:
        print(f"{found['target']}: {ready}; it does not say more to strangers")
        print(clean(found["refused"]))
    else:
        version = f" {found['version']}" if found["version"] else ""
        work = found["work"] or {}
        task = f" ({work['task']})" if work.get("task") else ""
        print(
            clean(
                f"{found['target']}: {found['app']}{version}, process {found['pid']}, {ready}, "
                f"{work.get('state', 'idle')}{task}"
            )
        )
        how = "encrypted" if found["encrypted"] else "not encrypted"
        who = "; it serves anybody who reaches it" if found["insecure"] else ""
        where = ", ".join(map(str, found["bound"] or ()))
        print(clean(f"listens on {where}; this connection is {how}{who}"))
    print(
        f"{found['count']} round trips: min {found['min_ms']:.3f} ms, median "
        f"{found['median_ms']:.3f} ms, p99 {found['p99_ms']:.3f} ms; connected in "
        f"{found['connect_ms']:.1f} ms"
    )
