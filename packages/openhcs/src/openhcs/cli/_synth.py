"""``openhcs synth``: write a synthetic plate with its truth beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._words import counted
from openhcs.cli._arguments import at_least_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "synth",
        help="write a synthetic plate with its truth beside it",
        description="Write a seeded plate in a microscope's own layout, and what is true of it "
        "into FOLDER.truth.",
    )
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument(
        "--format",
        default="imagexpress",
        help="layout to write, one of --list-formats",
    )
    parser.add_argument(
        "--list-formats", action=_ListFormats, nargs=0, help="name the layouts, and end"
    )
    parser.add_argument(
        "--plate",
        default="96",
        choices=["6", "24", "96", "384", "1536"],
        help="number of wells of the plate",
    )
    parser.add_argument(
        "--wells",
        help="wells with images, such as A01,B02-B05,C*, or * for all of the plate "
        "(A01, C04, D02 and H12 where the plate has them)",
    )
    parser.add_argument("--grid", default="2x2", help="fields per well, rows x columns")
    parser.add_argument("--channels", default="DAPI,GFP", help="names, comma-separated")
    parser.add_argument("--z", type=at_least_one, default=3, help="number of z planes")
    parser.add_argument("--t", type=at_least_one, default=1, help="number of time points")
    parser.add_argument("--size-px", type=at_least_one, default=512, help="side of a tile")
    parser.add_argument(
        "--single-plane",
        type=_names,
        default=(),
        metavar="CHANNELS",
        help="channels with one z plane beside the stacks of the others",
    )
    parser.add_argument("--projections", action="store_true", help="write maximum projections too")
    parser.add_argument(
        "--touching", type=float, default=0.0, help="share of the cells that touch another, 0 to 1"
    )
    parser.add_argument(
        "--faults",
        type=_names,
        default=(),
        metavar="KINDS",
        help="damages to do, such as missing-plane,truncated,duplicate-key; those of a layout",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(carry_out=_carry_out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


class _ListFormats(argparse.Action):
    """Names the layouts; their modules are loaded for that alone."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from openhcs.testing.formats import LAYOUTS

        for layout in LAYOUTS:
            print(f"{layout.name:22} {layout.title}")
        parser.exit()


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import MisuseError
    from openhcs.plates import parse_wells, well_name
    from openhcs.testing import synthetic_plate

    rows, _, columns = arguments.grid.partition("x")
    plate_rows = round((int(arguments.plate) / 1.5) ** 0.5)
    plate_columns = int(arguments.plate) // plate_rows
    every = [well_name(row, col) for row in range(plate_rows) for col in range(plate_columns)]
    try:
        wells = parse_wells(arguments.wells, every) if arguments.wells else _few(every)
        truth = synthetic_plate(
            arguments.folder,
            format=arguments.format,
            wells=wells,
            grid=(int(rows), int(columns or rows)),
            channels=_names(arguments.channels),
            z=arguments.z,
            t=arguments.t,
            size_px=arguments.size_px,
            single_plane=arguments.single_plane,
            projections=arguments.projections,
            touching=arguments.touching,
            faults=arguments.faults,
            plate_rows=plate_rows,
            plate_columns=int(arguments.plate) // plate_rows,
            seed=arguments.seed,
        )
    except (ValueError, FileExistsError) as error:
        raise MisuseError(str(error)) from error
    some = f"{len(wells)} of {counted(len(every), 'well')}"
    print(f"{truth.folder}: {some}; truth in {truth.folder}.truth")
    for fault in truth.faults:
        print(f"{fault.kind}: {fault.path}")
    return 0


def _few(every: Sequence[str]) -> tuple[str, ...]:
    """Choose wells that lie far apart, which takes little time to write."""
    return tuple(well for well in ("A01", "C04", "D02", "H12") if well in every)
