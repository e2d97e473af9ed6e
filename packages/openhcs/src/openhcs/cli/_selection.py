"""What commands have in common that make a plan: which pipeline, and what of a plate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._words import counted
from openhcs.cli._arguments import length
from openhcs.cli._console import say
from openhcs.cli._plate import PLATE_OPTIONS, add_plate_options, open_told

if TYPE_CHECKING:
    from rich.console import Console

    from openhcs.pipeline import Acquisition, Pipeline, Plan, RunRequest

__all__ = ["add_selection", "planned", "refuse_selection", "requested"]

_MOST_FIELDS = 10_000
_POSITIONS = ("plate", "pipeline")
_SELECTION = (
    *_POSITIONS,
    *PLATE_OPTIONS,
    "wells",
    "fields",
    "channels",
    "acquisition",
    "missing",
    "pixel_um",
    "device",
)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what of a plate is used, and how it is read."""
    parser.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="a file that names plate, pipeline and all of these options, as `openhcs plan "
        "--source` prints it",
    )
    add_plate_options(parser)
    parser.add_argument("--wells", help="such as A01,B02-B05,C* (all of them without)")
    parser.add_argument("--fields", help="such as 0-3,7, counted as `openhcs inspect` does")
    parser.add_argument("--channels", help="names, comma-separated")
    parser.add_argument(
        "--missing",
        type=_policy,
        metavar="POLICY",
        help="what a missing or unreadable plane means for its well: it fails (fail-well, the "
        "default), goes without the field (skip-group), or has a value all over (fill=0)",
    )
    parser.add_argument(
        "--acquisition",
        type=_acquisition,
        metavar="N",
        help="which one of a plate that was taken repeatedly, or all, as cycles of staining",
    )
    parser.add_argument(
        "--pixel-um",
        type=length,
        metavar="SIZE",
        help="side of a pixel in µm, where the plate does not tell",
    )
    parser.add_argument(
        "--device",
        choices=["cpu", "gpu"],
        help="where steps compute that can do either (default: cpu)",
    )


def planned(arguments: argparse.Namespace, console: Console) -> tuple[RunRequest, Plan]:
    """Open the plate, read the pipeline, and make a plan of what the words choose.

    Parameters
    ----------
    arguments
        As `add_selection` and the command's own parser read them: ``plate``, ``pipeline``, ``out``.
    console
        Told what was recognised.

    Returns
    -------
    tuple
        What was asked for, and the plan.

    Raises
    ------
    MisuseError
        If plate or results are not named, or a selection makes no sense.
    """
    from openhcs._errors import MisuseError
    from openhcs.pipeline import load, load_request, nuclear_channel

    if arguments.request is not None:
        refuse_selection(arguments, "--request says all that is to be run")
    if arguments.out is None or (arguments.plate is None and arguments.request is None):
        message = "name a plate, or --request FILE, and --out DIR; --help tells more"
        raise MisuseError(message)
    if arguments.request is not None:
        named = arguments.request
        request = named() if callable(named) else load_request(named)
        index = request.index()
    else:
        pipeline = load(arguments.pipeline) if arguments.pipeline else None
        index = open_told(arguments)
        request = requested(arguments, pipeline)
    say(console, f"{index.name}: {counted(len(index), 'plane')}; {index.why}")
    if request.pipeline is None:
        say(console, f"Default pipeline: {nuclear_channel(index)[1]}")
    plan = request.plan(index)
    return replace(request, pipeline=plan.pipeline), plan


def refuse_selection(arguments: argparse.Namespace, why: str) -> None:
    """Refuse plate, pipeline and selections beside an option that says them all.

    Raises
    ------
    MisuseError
        If one is given; the message begins with `why`.
    """
    from openhcs._errors import MisuseError

    given = [name for name in _SELECTION if getattr(arguments, name) is not None]
    if given:
        words = given[0] if given[0] in _POSITIONS else f"--{given[0].replace('_', '-')}"
        message = f"{why}, and {words} is given beside it: leave one of them out"
        raise MisuseError(message)


def requested(arguments: argparse.Namespace, pipeline: Pipeline | None) -> RunRequest:
    """Make the request that plate and selections stand for."""
    from openhcs.pipeline import RunRequest, Settings

    return RunRequest(
        plate=str(arguments.plate),
        pipeline=pipeline,
        format=arguments.format,
        pattern=arguments.pattern,
        files=None if arguments.files is None else str(arguments.files),
        plate_size=arguments.plate_size,
        platemap=None if arguments.platemap is None else str(arguments.platemap),
        duplicates=arguments.duplicates,
        include_unlisted=arguments.include_unlisted,
        wells=arguments.wells,
        fields=_numbers(arguments.fields) if arguments.fields is not None else None,
        channels=_names(arguments.channels) if arguments.channels is not None else None,
        acquisition=arguments.acquisition,
        settings=Settings(
            missing=arguments.missing,
            pixel_um=None if arguments.pixel_um is None else (arguments.pixel_um,) * 2,
            device=arguments.device,
        ),
    )


def _acquisition(text: str) -> Acquisition:
    if text == "all":
        return "all"
    if text.isdecimal():
        return int(text)
    message = f"{text!r} is no acquisition: give its number, from 0, or all"
    raise argparse.ArgumentTypeError(message)


def _policy(text: str) -> str:
    from openhcs._errors import ParameterError
    from openhcs.pipeline import Settings

    try:
        return Settings(missing=text).missing or text
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    """Read numbers and ranges such as ``0-3,7``."""
    from openhcs._errors import MisuseError

    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        digits = first.isdecimal() and (last.isdecimal() or not dash)
        if not digits or len(first + last) > 12 or (dash and int(last) < int(first)):
            message = f"--fields: {part!r} is no field; write numbers and ranges, such as 0-3,7"
            raise MisuseError(message)
        if dash and int(last) - int(first) > _MOST_FIELDS:
            message = f"--fields: no well has as many fields as {part!r} names"
            raise MisuseError(message)
        chosen.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(chosen))
