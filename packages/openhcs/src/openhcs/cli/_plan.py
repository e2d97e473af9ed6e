"""``openhcs plan``: what a run would do and need, before it is begun."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.cli._arguments import at_least_one, size
from openhcs.cli._console import make_console, say
from openhcs.cli._run import default_workers
from openhcs.cli._selection import add_selection, planned
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from openhcs.cli._commands import Commands
    from openhcs.execution import Fit, Forecast
    from openhcs.pipeline import Estimate, Plan, PlannedStep

__all__ = ["add_to"]

_FEW_WELLS = 12
_OF_ALL = ("missing",)


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="say what a run would do and need",
        description="Compile a pipeline against a plate and say what a run would do: steps with "
        "their settings and where these come from, images and tables, what is finished already, "
        "memory, disk and time. Nothing is written. Exit status 2 if it cannot run.",
    )
    parser.add_argument("plate", type=Path, nargs="?", help="the plate's folder")
    parser.add_argument(
        "pipeline", type=Path, nargs="?", help="a pipeline's file; the default one without"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the result folder")
    add_selection(parser)
    parser.add_argument(
        "--workers",
        type=at_least_one,
        default=default_workers(),
        metavar="N",
        help="worker processes (default: one for each processor, here %(default)s)",
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
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import DeviceError
    from openhcs.execution import check_devices, fit, forecast, gpu_workers
    from openhcs.pipeline import estimate

    console = make_console(quiet=arguments.json or arguments.source)
    request, plan = planned(arguments, console)
    out = arguments.out
    if arguments.source:
        print(request.to_source(), end="")
        return 0
    need = estimate(plan)
    will = forecast(plan, out)
    room = fit(need, will, out, workers=arguments.workers, memory_bytes=arguments.memory)
    room = replace(room, workers=gpu_workers(plan, room.workers)[0])
    problem = None
    try:
        check_devices(plan.steps if will.to_do else ())
    except DeviceError as error:
        problem = str(error)
    if arguments.json:
        print(json.dumps(_values(plan, need, will, room) | {"problem": problem}, indent=2))
    else:
        _show(console, plan, need, will, room)
        if problem is not None:
            say(console, f"Cannot run on this computer: {problem}", "red")
    return ExitStatus.DONE if problem is None else ExitStatus.MISUSED


def _show(console: Console, plan: Plan, need: Estimate, will: Forecast, room: Fit) -> None:
    from rich.filesize import decimal
    from rich.table import Table

    from openhcs.pipeline import PLATE, made_by

    for warning in plan.warnings:
        say(console, f"Warning: {warning}", "yellow")
    for note in plan.notes:
        say(console, f"Note: {note}", "yellow")
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "takes", "channels", "gives", "settings"):
        table.add_column(heading, no_wrap=heading == "step")
    stored = {(each.step, each.name): each for each in need.stored}
    for step in plan.steps:
        gives = []
        for name in (step.image, *(output.stored for output in step.outputs)):
            each = stored.get((step.name, str(name)))
            if each is not None:
                height, width = each.shape
                gives.append(f"{name}: {each.planes} x {height} x {width} {each.dtype}")
            elif name is not None:
                gives.append(str(name))
        if step.gives_image and step.image is None:
            gives.insert(0, "images, not stored")
        maker = made_by(plan.steps, step.source)
        source = "the plate" if maker == PLATE else plan.steps[maker].name
        table.add_row(
            step.name,
            source,
            "all" if step.channels is None else ", ".join(step.channels),
            "\n".join(gives),
            "\n".join(_settings(plan, step)),
        )
    console.print(table)
    whole = next(iter(plan.settings.values()))
    said = [f"{name}={whole[name].value!r} ({whole[name].origin})" for name in _OF_ALL]
    say(console, f"\nFor all: {', '.join(said)}; pixels of {_pixels(plan)}")
    say(console, _wells(plan, will))
    for steps, wells in will.steps.items():
        some = ", ".join(wells[:_FEW_WELLS]) + ("..." if len(wells) > _FEW_WELLS else "")
        say(console, f"  {len(wells)} wells ({some}): {', '.join(steps)}")
    for name, found in will.learned.items():
        state = "still stands" if found else "is to be learned first"
        say(console, f"  what {name} learns from the whole plate {state}")
    say(
        console,
        f"Reads {need.planes} planes, {decimal(need.read_bytes)}; stores about "
        f"{decimal(need.disk_bytes)} in {need.wells} wells, {len(will.new)} of them new "
        f"({decimal(room.free_bytes)} free)",
    )
    say(
        console,
        f"Memory: up to {decimal(need.peak_bytes)} a worker (well {need.largest}), "
        f"{room.workers} at once of {decimal(room.memory_bytes)}",
    )
    say(console, f"Time: {_times(need, will, room)}")


def _times(need: Estimate, will: Forecast, room: Fit) -> str:
    """Say what everything takes, and the wells that are left of it."""
    seconds = need.seconds / room.workers
    told = f"about {_time(seconds)} for every step of every well"
    if not will.to_do:
        return f"{told}; nothing is left to do"
    if will.finished:
        left = seconds * len(will.to_do) / need.wells
        return f"{told}; about {_time(left)} for those that are to do"
    return told


def _settings(plan: Plan, step: PlannedStep) -> list[str]:
    return [
        f"{name}={setting.value!r} ({setting.origin})"
        for name, setting in plan.settings[step.name].items()
        if name != "device" or step.device == setting.value  # else its function cannot
        if setting.origin != "default" and name not in (*_OF_ALL, "pixel_um")
    ]


def _pixels(plan: Plan) -> str:
    if plan.pixel_um is None:
        return "unknown size"
    return f"{plan.pixel_um[0]:g} x {plan.pixel_um[1]:g} µm"


def _wells(plan: Plan, will: Forecast) -> str:
    parts = [f"{len(plan.wells)} wells"]
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
        "planes": need.planes,
        "read_bytes": need.read_bytes,
        "disk_bytes": need.disk_bytes,
        "free_bytes": room.free_bytes,
        "peak_bytes": need.peak_bytes,
        "memory_bytes": room.memory_bytes,
        "workers": room.workers,
        "seconds": need.seconds / room.workers,
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
    }
