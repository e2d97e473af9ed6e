"""What commands have in common that make a plan: which pipeline, and what of a plate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.cli._arguments import length
from openhcs.cli._console import say
from openhcs.cli._plate import add_plate_options, open_told

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rich.console import Console

    from openhcs.pipeline import Plan
    from openhcs.plates import PlateIndex

__all__ = ["add_selection", "planned"]

_MOST_FIELDS = 10_000


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what of a plate is used, and how it is read."""
    add_plate_options(parser)
    parser.add_argument("--wells", help="such as A01,B02-B05,C* (all of them without)")
    parser.add_argument("--fields", help="such as 0-3,7, counted as `openhcs inspect` does")
    parser.add_argument("--channels", help="names, comma-separated")
    parser.add_argument(
        "--missing",
        choices=["fail-well", "skip-group"],
        help="what a missing or unreadable plane means for its well (default: fail-well)",
    )
    parser.add_argument(
        "--acquisition",
        type=int,
        metavar="N",
        help="which one of a plate that was taken repeatedly",
    )
    parser.add_argument(
        "--pixel-um",
        type=length,
        metavar="SIZE",
        help="side of a pixel in µm, where the plate does not tell",
    )


def planned(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Path]:
    """Open the plate, read the pipeline, and make a plan of what the words choose.

    Parameters
    ----------
    arguments
        As `add_selection` and the command's own parser read them: ``plate``, ``pipeline``, ``out``.
    console
        Told what was recognised.

    Raises
    ------
    MisuseError
        If plate or results are not named, or a selection makes no sense.
    """
    from openhcs._errors import MisuseError
    from openhcs.pipeline import compile_pipeline, default_pipeline, load, nuclear_channel

    if arguments.plate is None or arguments.out is None:
        message = "name a plate and --out DIR; --help tells more"
        raise MisuseError(message)
    pipeline = load(arguments.pipeline) if arguments.pipeline else None
    index = open_told(arguments)
    say(console, f"{index.name}: {len(index)} planes; {index.why}")
    if pipeline is None:
        say(console, f"Default pipeline: {nuclear_channel(index)[1]}")
    plan = compile_pipeline(
        pipeline or default_pipeline(index),
        index,
        wells=_wells(arguments.wells, index),
        fields=_numbers(arguments.fields) if arguments.fields is not None else None,
        channels=_names(arguments.channels) if arguments.channels is not None else None,
        acquisition=arguments.acquisition,
        missing=arguments.missing,
        pixel_um=None if arguments.pixel_um is None else (arguments.pixel_um,) * 2,
    )
    return plan, arguments.out


def _wells(text: str | None, index: PlateIndex) -> tuple[str, ...] | None:
    from openhcs._errors import MisuseError
    from openhcs.plates import parse_wells

    if text is None:
        return None
    try:
        return parse_wells(text, index.wells)
    except ValueError as error:
        message = f"--wells: {error}"
        raise MisuseError(message) from error


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
