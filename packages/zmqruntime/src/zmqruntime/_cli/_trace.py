"""``zmqruntime trace``: the streams of a service as they flow."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from zmqruntime._cli._commands import ExitStatus
from zmqruntime._cli._table import clean, mib, table
from zmqruntime._cli._target import _seconds, add_target, make_client
from zmqruntime._errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    import argparse

    from zmqruntime._cli._commands import Commands
    from zmqruntime._client import ZMQClient

__all__ = ["add_to"]

_HEAD = (
    "TOPIC", "PEER", "DIR", "MODE", "CARRIER", "CREDIT", "MIB USED", "LAG MS", "PER S", "MIB/S",
    "LINK MIB/S", "LATENCY MS", "COPIED MIB", "WAIT", "SKIPPED", "LOST",
)  # fmt: skip
_CLEAR = "\x1b[H\x1b[2J"


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "trace",
        help="show the streams of a service as they flow",
        description="Show who takes part in the streams of a service: room, lag, copies, losses. "
        "Ctrl-C ends it.",
    )
    add_target(parser)
    parser.add_argument("--once", action="store_true", help="show it once")
    parser.add_argument(
        "--every", type=_seconds, default=1.0, metavar="S", help="seconds between two looks"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per look")
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    with make_client(arguments) as client:
        client.connect(arguments.timeout)
        before: tuple[float, dict[str, dict[str, Any]]] | None = None
        pause = threading.Event()
        while True:
            lanes = _ask(client, arguments.timeout)
            now = time.monotonic()
            if arguments.json:
                print(json.dumps({"time": time.time(), "lanes": lanes}), flush=True)
            else:
                _show(arguments, lanes, now, before)
            if arguments.once:
                return ExitStatus.DONE
            before = now, {_name(lane): lane for lane in lanes}
            pause.wait(arguments.every)


def _ask(client: ZMQClient, timeout: float) -> list[dict[str, Any]]:
    try:
        body = client.control.request("lanes", timeout=timeout, idempotent=True)
    except InvalidRequestError as error:
        if error.code != "unknown_type":
            raise
        raise NotFoundError(f"{client.endpoint} has no streams to look at") from error
    lanes = body.get("lanes")
    return [lane for lane in lanes if isinstance(lane, dict)] if isinstance(lanes, list) else []


def _name(lane: dict[str, Any]) -> str:
    return f"{lane.get('direction')} {lane.get('topic')} {lane.get('peer')}"


def _show(
    arguments: argparse.Namespace,
    lanes: list[dict[str, Any]],
    now: float,
    before: tuple[float, dict[str, dict[str, Any]]] | None,
) -> None:
    rows = []
    for lane in sorted(lanes, key=_name):
        then = None if before is None else before[1].get(_name(lane))
        seconds = 1.0 if before is None else max(1e-6, now - before[0])
        rows.append(_row(lane, then, seconds))
    text = table(_HEAD, rows) if rows else "nobody takes part in a stream at the moment"
    if not arguments.once and sys.stdout.isatty():
        text = f"{_CLEAR}{clean(str(arguments.target))}  {time.strftime('%H:%M:%S')}\n\n{text}"
    print(text, flush=True)


def _row(lane: dict[str, Any], then: dict[str, Any] | None, seconds: float) -> tuple[str, ...]:
    granted, used = _credit(lane, "granted"), _credit(lane, "used")
    copied = _number(lane, "bytes_copied") + _number(lane, "peer_copied")
    flow, volume = "-", "-"
    if then is not None:
        flow = f"{(_number(lane, 'sent') - _number(then, 'sent')) / seconds:.1f}"
        volume = mib((_number(lane, "nbytes") - _number(then, "nbytes")) / seconds)
    return (
        str(lane.get("topic", "")),
        str(lane.get("peer", "")),
        str(lane.get("direction", "")),
        str(lane.get("mode", "")),
        f"{lane.get('carrier', '')} ({lane.get('reason', '')})",
        f"{used[0]:.0f}/{granted[0]:.0f}",
        f"{mib(used[1])}/{mib(granted[1])}",
        f"{1000 * _number(lane, 'lag_s'):.0f}",
        flow,
        volume,
        *_link(lane),
        mib(copied),
        f"{_number(lane, 'queued'):.0f}",
        f"{_number(lane, 'superseded'):.0f}",
        f"{_number(lane, 'lost'):.0f}",
    )


def _link(lane: dict[str, Any]) -> tuple[str, str]:
    """Say what the producer has measured of the way: how wide, and how long of how long at best."""
    link = lane.get("link")
    if not isinstance(link, dict) or link.get("delay_s") is None:
        return "-", "-"
    width = mib(_number(link, "bytes_per_s")) if link.get("bytes_per_s") is not None else "-"
    delay, latency = (f"{1000 * _number(link, name):.1f}" for name in ("delay_s", "latency_s"))
    return width, f"{latency}/{delay}"


def _number(lane: dict[str, Any], name: str) -> float:
    value = lane.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _credit(lane: dict[str, Any], name: str) -> tuple[float, float]:
    """Read room, which is written as a map, or as messages and bytes."""
    value = lane.get(name)
    if isinstance(value, dict):
        return _number(value, "messages"), _number(value, "nbytes")
    if isinstance(value, list) and len(value) == 2:
        return _number({"x": value[0]}, "x"), _number({"x": value[1]}, "x")
    return 0.0, 0.0
