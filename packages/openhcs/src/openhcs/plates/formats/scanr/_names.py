"""Names that ScanR gives: well, position, z, time point and channel of a file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openhcs.plates._wells import parse_well

__all__ = ["IMAGE_NAME", "ScanRName", "parse_name"]

IMAGE_NAME = re.compile(
    r"(?:(?P<well>[A-Z]{1,2}\d{1,2})--)?W(?P<w>\d{1,9})--P(?P<p>\d{1,9})"
    r"--Z(?P<z>\d{1,9})--T(?P<t>\d{1,9})"
    r"--(?P<channel>.+)\.(?i:tiff?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRName:
    """What the name of an image says.

    Parameters
    ----------
    place
        Row and column of the well by the token in front, from 0; None without one.
    well, position
        From 1.
    z, t
        From 0.
    channel
        Free text.
    """

    place: tuple[int, int] | None
    well: int
    position: int
    z: int
    t: int
    channel: str


def parse_name(name: str) -> ScanRName | None:
    """Read the name of a file.

    Parameters
    ----------
    name
        Without its folder.

    Returns
    -------
    ScanRName | None
        None when it does not fit.
    """
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        place = parse_well(match["well"]) if match["well"] else None
    except ValueError:
        return None
    return ScanRName(
        place=place,
        well=int(match["w"]),
        position=int(match["p"]),
        z=int(match["z"]),
        t=int(match["t"]),
        channel=match["channel"],
    )
