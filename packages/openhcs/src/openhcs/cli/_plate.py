"""Options that say how a plate is to be read, for every command that opens one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openhcs.cli._arguments import plate_size

if TYPE_CHECKING:
    import argparse

    from openhcs.plates import Description, PlateIndex

__all__ = ["PLATE_OPTIONS", "add_plate_options", "open_told"]

PLATE_OPTIONS = (
    "format",
    "pattern",
    "files",
    "plate_size",
    "platemap",
    "duplicates",
    "include_unlisted",
)
"""Names of what `add_plate_options` adds."""


def add_plate_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how a plate is to be read.

    Parameters
    ----------
    parser
        Of a command that opens a plate.
    """
    parser.add_argument("--format", help="read the plate as this format instead of finding out")
    parser.add_argument(
        "--pattern",
        metavar="REGEX",
        help="how images are called below the plate's folder: a regular expression with the groups "
        "well, or row and col, and field, channel, z, t",
    )
    parser.add_argument(
        "--files",
        type=Path,
        metavar="CSV",
        help="a table of files with the column path and any of page, well or row and col, field, "
        "channel, z, t, x_um, y_um, z_um, pixel_um",
    )
    parser.add_argument(
        "--plate-size",
        type=plate_size,
        metavar="SIZE",
        help="number of wells, or rows and columns such as 8x12, where the plate does not tell",
    )
    parser.add_argument(
        "--platemap",
        type=Path,
        metavar="FILE",
        help="what is in each well: CSV, TSV or XLSX with the column well, or row and column",
    )
    parser.add_argument(
        "--duplicates",
        choices=["newest", "first"],
        help="which of several files for one plane is used: the one changed last, or the first by "
        "name (default: none of them)",
    )
    parser.add_argument(
        "--include-unlisted",
        action="store_true",
        default=None,
        help="use images that the plate's index does not list as well, where their names tell "
        "what they are",
    )


def open_told(arguments: argparse.Namespace, *, deep: bool = False) -> PlateIndex:
    """Open the plate of a command as its options say.

    Parameters
    ----------
    arguments
        With ``plate`` and what `add_plate_options` added.
    deep
        Whether to open the header of every image.

    Raises
    ------
    PlateError
        If it cannot be opened so.
    MisuseError
        If a file that an option names cannot be read.
    """
    from openhcs._errors import MisuseError
    from openhcs.plates import open_plate, read_platemap

    try:
        described = _description(arguments)
        platemap = read_platemap(arguments.platemap) if arguments.platemap else None
    except OSError as error:
        message = f"{error.filename} cannot be read: {error.strerror}"
        raise MisuseError(message) from error
    return open_plate(
        arguments.plate,
        format=arguments.format,
        deep=deep,
        described=described,
        platemap=platemap,
        duplicates=arguments.duplicates or "error",
        include_unlisted=bool(arguments.include_unlisted),
    )


def _description(arguments: argparse.Namespace) -> Description | None:
    from openhcs.plates import Description, read_file_table

    if not (arguments.pattern or arguments.files or arguments.plate_size):
        return None
    return Description(
        pattern=arguments.pattern or "",
        table=read_file_table(arguments.files) if arguments.files else None,
        plate_size=arguments.plate_size,
    )
