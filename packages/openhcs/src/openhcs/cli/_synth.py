"""``openhcs synth``: write a synthetic plate with its truth beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openhcs.cli._arguments import at_least_one

if TYPE_CHECKING:
    import argparse

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
        choices=["imagexpress", "imagexpress-database", "phenix"],
    )
    parser.add_argument("--wells", default="A01,C04,D02,H12", help="names, comma-separated")
    parser.add_argument("--grid", default="2x2", help="fields per well, rows x columns")
    parser.add_argument("--channels", default="DAPI,GFP", help="names, comma-separated")
    parser.add_argument("--z", type=at_least_one, default=3, help="number of z planes")
    parser.add_argument("--t", type=at_least_one, default=1, help="number of time points")
    parser.add_argument("--size-px", type=at_least_one, default=512, help="side of a tile")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import MisuseError
    from openhcs.testing import synthetic_plate

    rows, _, columns = arguments.grid.partition("x")
    try:
        truth = synthetic_plate(
            arguments.folder,
            format=arguments.format,
            wells=tuple(arguments.wells.split(",")),
            grid=(int(rows), int(columns or rows)),
            channels=tuple(arguments.channels.split(",")),
            z=arguments.z,
            t=arguments.t,
            size_px=arguments.size_px,
            seed=arguments.seed,
        )
    except (ValueError, FileExistsError) as error:
        raise MisuseError(str(error)) from error
    print(f"{truth.folder}: truth in {truth.folder}.truth")
    return 0
