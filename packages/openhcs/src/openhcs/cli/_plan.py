"""``openhcs plan``: what a run would do and need, before it is begun."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._words import counted
from openhcs.cli._arguments import at_least_one, size
from openhcs.cli._console import entry, listed_few, make_console, say
from openhcs.cli._remote import plan_on_server
from openhcs.cli._run import default_workers
from openhcs.cli._selection import add_selection, planned
from openhcs.cli._server_options import add_server_options, check_plan_options
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from openhcs.cli._commands import Commands
    from openhcs.execution import Duration, Fit, Forecast
    from openhcs.pipeline import Estimate, FilledPlane, Plan, PlannedStep, StoredEstimate

__all__ = ["add_to"]

_FEW_WELLS = 12
_OF_ALL = ("missing",)
_MISSING = {
    "fail-well": "a well that lacks planes fails",
    "skip-group": "fields and time points that lack planes are left out",
}
_FILLED = "planes that are missing or cannot be read are {value!r} all over"
_START_S = 0.3
"""What the interpreter takes before a command begins, and a little."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="say what a run would do and need",
        description="Compile a pipeline against a plate and say what a run would do: steps with "
        "their settings and where these come from, images and tables, what is finished already, "
        "memory, disk and time. Nothing is written to DIR. Exit status 2 if it cannot run.",
    )
    parser.add_argument("plate", type=Path, nargs="?", help="the plate's folder")
    parser.add_argument(
        "pipeline", type=Path, nargs="?", help="a pipeline's file; the default one without"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the result folder")
    add_selection(parser)
    parser.add_argument(
        "--workers",
        type=at_least_one,
        metavar="N",
        help=f"worker processes (default: one for each processor, here {default_workers()})",
    )
    parser.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="what all workers may hold together, such as 16GB (default: four fifths of what "
        "is available)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--source",
        action="store_true",
        help="print plate, pipeline and options as a file for --request",
    )
    add_server_options(parser)
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import DeviceError
    from openhcs.execution import check_devices, duration, fit, forecast, gpu_workers
    from openhcs.pipeline import estimate
    from openhcs.report import write_report

    began = time.perf_counter()
    check_plan_options(arguments)
    console = make_console(quiet=arguments.json or arguments.source)
    if arguments.server is not None:
        return plan_on_server(arguments, console)
    request, plan = planned(arguments, console)
    ready_s = _START_S + time.perf_counter() - began
    out = arguments.out
    if arguments.source:
        print(request.to_source(), end="")
        return 0
    workers = arguments.workers or default_workers()
    need = estimate(plan)
    will = forecast(plan, out)
    room = fit(need, will, out, workers=workers, memory_bytes=arguments.memory)
    room = replace(room, workers=gpu_workers(plan, room.workers)[0])
    problem = None
    try:
        check_devices(plan.steps if will.to_do else ())
    except DeviceError as error:
        problem = str(error)
    with console.status("trying a few planes, to see how long they take"):
        lasts = duration(
            plan, out, will, workers=room.workers, ready_s=ready_s, finish=write_report
        )
    if arguments.json:
        values = _values(plan, need, will, room) | _seconds(lasts)
        print(json.dumps(values | {"problem": problem}, indent=2))
    else:
        _show(console, plan, need, will)
        _show_needs(console, need, will, room, lasts)
        if problem is not None:
            say(console, f"Cannot run on this computer: {problem}", "red")
    return ExitStatus.DONE if problem is None else ExitStatus.MISUSED


def _show(console: Console, plan: Plan, need: Estimate, will: Forecast) -> None:
    for warning in plan.warnings:
        say(console, f"Warning: {warning}", "yellow")
    for note in plan.notes:
        say(console, f"Note: {note}", "yellow")
    stored = {(each.step, each.name): each for each in need.stored}
    for number, step in enumerate(plan.steps, 1):
        say(console, f"\n{number:2}  {step.name}", "bold")
        entry(console, "takes", _takes(plan, step), indent=4)
        for label, words in _gives(step, stored):
            entry(console, label, words, indent=4)
        given = _given(step)
        if given:
            entry(console, "with", given, indent=4)
        settings = _settings(plan, step)
        if settings:
            entry(console, "settings", settings, indent=4)
    say(console, "")
    whole = next(iter(plan.settings.values()))
    origin = whole["missing"].origin
    entry(console, "Pixels", _pixels(plan))
    entry(console, "Missing", f"{_policy(plan)}; missing={plan.missing!r} ({origin})")
    filled = plan.filled
    for well, planes in list(filled.items())[:_FEW_WELLS]:
        entry(console, "", f"{well} has {counted(len(planes), 'plane')} filled: {_first(planes)}")
    if len(filled) > _FEW_WELLS:
        entry(console, "", f"and {counted(len(filled) - _FEW_WELLS, 'more well')}")
    entry(console, "Wells", _wells(plan, will))
    everything = tuple(step.name for step in plan.steps)
    for steps, wells in will.steps.items():
        names = listed_few(wells, _FEW_WELLS)
        some = "every step" if steps == everything else ", ".join(steps)
        entry(console, "", f"{counted(len(wells), 'well')} ({names}): {some}")
    for well, reason in list(plan.refused.items())[:_FEW_WELLS]:
        entry(console, "", f"{well} cannot run: {reason}")
    for name, found in will.learned.items():
        state = "stands still" if found else "is to be learned first"
        entry(console, "", f"what {name} learns from the whole plate {state}")


def _policy(plan: Plan) -> str:
    if plan.fill is not None:
        return _FILLED.format(value=plan.fill)
    return _MISSING[plan.missing]


def _first(planes: Sequence[FilledPlane]) -> str:
    plane = planes[0]
    more = f", and {len(planes) - 1} more" if len(planes) > 1 else ""
    return (
        f"field {plane.field}, channel {plane.channel}, z {plane.z}, t {plane.t} is "
        f"{plane.status}{more}"
    )


def _show_needs(
    console: Console, need: Estimate, will: Forecast, room: Fit, lasts: Duration
) -> None:
    from rich.filesize import decimal

    entry(console, "Reads", f"{counted(will.planes, 'plane')}, {decimal(will.read_bytes)}")
    new = f", {len(will.new)} of them new" if len(will.new) < need.wells else ""
    entry(
        console,
        "Stores",
        f"about {decimal(need.disk_bytes)} in {counted(need.wells, 'well')}{new}; "
        f"{decimal(room.free_bytes)} are free",
    )
    entry(
        console,
        "Memory",
        f"up to {decimal(need.peak_bytes)} a worker (well {need.largest}), "
        f"{counted(room.workers, 'worker')} at once in {decimal(room.memory_bytes)}",
    )
    entry(console, "Time", _time_told(will, lasts))


def _time_told(will: Forecast, lasts: Duration) -> str:
    """Say how long the run takes, what of it is no work on wells, and how that is known."""
    if not will.to_do:
        return "nothing is left to do"
    if lasts.seconds is None or lasts.range_s is None:
        return f"cannot be told: {lasts.why}"
    low, high = lasts.range_s
    how = (
        f"of the {counted(lasts.wells_seen, 'well')} done"
        if lasts.wells_seen
        else ("of a few planes that were tried")
    )
    return (
        f"about {_time(lasts.seconds)} ({_time(low)} to {_time(high)}), "
        f"{_time(lasts.fixed_s)} of it for start, learning and report; by the time {how}"
    )


def _takes(plan: Plan, step: PlannedStep) -> str:
    from openhcs.pipeline import PLATE, made_by

    maker = made_by(plan.steps, step.source)
    words = "planes of the plate" if maker == PLATE else f"images of {plan.steps[maker].name}"
    if step.channels is not None:
        noun = "channel" if len(step.channels) == 1 else "channels"
        words += f", {noun} {', '.join(step.channels)}"
    if step.drops:
        words += f"; {', '.join(step.drops)} {'ends' if len(step.drops) == 1 else 'end'} here"
    if step.wells is not None:
        words += f"; in {counted(len(step.wells), 'well')} ({listed_few(step.wells, _FEW_WELLS)})"
    for part in step.inputs:
        words += f"; {part.parameter} from {plan.steps[part.step].name}"
    return words


def _gives(
    step: PlannedStep, stored: Mapping[tuple[str, str], StoredEstimate]
) -> list[tuple[str, str]]:
    """Say what a step gives: images and labels with their sizes, then tables by name."""
    lines: list[tuple[str, str]] = []
    if step.gives_image and step.image is None:
        lines.append(("images", "for later steps, not stored"))
    kinds = {output.stored: str(output.kind) for output in step.outputs}
    for name in filter(None, (step.image, *kinds)):
        kind = kinds.get(name, "images")
        each = stored.get((step.name, name))
        if each is not None:
            height, width = each.shape
            size = f"{height} x {width} {each.dtype}"
            lines.append((kind, f"{name}, {counted(each.planes, 'plane')} of {size} a well"))
        elif kind in ("images", "labels"):
            lines.append((kind, name))
    tables = [name for name, kind in kinds.items() if kind not in ("images", "image", "labels")]
    if tables:
        lines.append(("table" if len(tables) == 1 else "tables", ", ".join(tables)))
    return lines


def _given(step: PlannedStep) -> str:
    """Name the parameters that are not what they are by default."""
    known = step.spec.parameters
    return ", ".join(
        f"{name}={value!r}"
        for name, value in step.parameters.items()
        if name not in known or known[name].required or known[name].default != value
    )


def _settings(plan: Plan, step: PlannedStep) -> str:
    return ", ".join(
        f"{name}={setting.value!r} ({setting.origin})"
        for name, setting in plan.settings[step.name].items()
        if name != "device" or step.device == setting.value  # else its function cannot
        if setting.origin != "default" and name not in (*_OF_ALL, "pixel_um")
    )


def _pixels(plan: Plan) -> str:
    if plan.pixel_um is None:
        return "of unknown size"
    return f"{plan.pixel_um[0]:g} x {plan.pixel_um[1]:g} µm"


def _wells(plan: Plan, will: Forecast) -> str:
    parts = [counted(len(plan.wells), "well")]
    if will.finished:
        parts.append(f"{len(will.finished)} finished")
    parts.append(f"{len(will.to_do)} to do")
    if plan.refused:
        parts.append(f"{len(plan.refused)} that cannot run")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _seconds(lasts: Duration) -> dict[str, Any]:
    return {
        "seconds": lasts.seconds,
        "seconds_range": None if lasts.range_s is None else list(lasts.range_s),
        "seconds_fixed": None if lasts.seconds is None else lasts.fixed_s,
        "seconds_why": lasts.why,
    }


def _values(plan: Plan, need: Estimate, will: Forecast, room: Fit) -> dict[str, Any]:
    stored = [
        {
            "step": each.step,
            "name": each.name,
            "kind": str(each.kind),
            "planes": each.planes,
            "shape": list(each.shape),
            "dtype": each.dtype,
            "bytes": each.bytes,
        }
        for each in need.stored
    ]
    return {
        "plate": str(plan.index.root),
        "wells": list(plan.wells),
        "refused": dict(plan.refused),
        "filled": {
            well: [plane.to_json() for plane in planes] for well, planes in plan.filled.items()
        },
        "left_out": {
            well: [{"field": field, "t": t} for field, t in sorted(groups)]
            for well, groups in plan.skipped.items()
        },
        "finished": list(will.finished),
        "to_do": {well: list(steps) for well, steps in will.to_do.items()},
        "new": list(will.new),
        "learned": dict(will.learned),
        "steps": [
            {
                "name": step.name,
                "function": step.function,
                "source": None if step.source < 0 else plan.steps[step.source].name,
                "channels": None if step.channels is None else list(step.channels),
                "wells": None if step.wells is None else list(step.wells),
                "parameters": dict(step.parameters),
                "device": step.device,
                "image": step.image,
                "outputs": {output.stored: str(output.kind) for output in step.outputs},
                "settings": {
                    name: {"value": setting.value, "origin": setting.origin}
                    for name, setting in plan.settings[step.name].items()
                },
            }
            for step in plan.steps
        ],
        "stored_in_largest_well": stored,
        "largest_well": need.largest,
        "planes": will.planes,
        "read_bytes": will.read_bytes,
        "disk_bytes": need.disk_bytes,
        "free_bytes": room.free_bytes,
        "peak_bytes": need.peak_bytes,
        "memory_bytes": room.memory_bytes,
        "workers": room.workers,
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
    }
