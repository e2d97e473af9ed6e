"""Names that ImageXpress gives: well, site, wavelength, z step and time point of a file."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._wells import parse_well

if TYPE_CHECKING:
    from openhcs.plates._scan import ScannedFile

__all__ = ["ImageFile", "parse_image_file", "split_folder"]

# A GUID follows the number before it with nothing between, and may start with a digit: only its
# fixed length tells site 2 + GUID from site 22, so the digits before it match as few as they can.
_NAME = re.compile(
    r"(?:(?P<name>.+)_)?(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<s>\d{1,9}?))?(?:_w(?P<w>\d{1,9}?))?"
    r"(?:_z(?P<z>\d{1,9}?))?(?:_t(?P<t>\d{1,9}?))?(?P<thumb>_thumb)?"
    r"(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?(?i:\.tiff?)"
)
_TIME_FOLDER = re.compile(r"TimePoint[_-]?(\d{1,9})")
_Z_FOLDER = re.compile(r"ZStep[_-]?(\d{1,9})")


@dataclass(slots=True, kw_only=True)
class ImageFile:
    """A file whose name fits.

    Parameters
    ----------
    file
        As scanned.
    base
        Its folder without the ones for time points and z steps.
    name
        What stands before the well; empty without.
    well, row, col
        Name and 0-based place of the well.
    site, wave, time
        The vendor's numbers; 1 where the name has none.
    step
        z step: 1 and up in the stack, 0 for the folder of projections, None where neither the
        folder nor the name says.
    thumbnail
        Whether it is one of the small pictures.
    guid
        Whether the name ends in an identifier, as in the database.
    marked
        Which of ``s``, ``w``, ``t`` the name or folder really has.
    """

    file: ScannedFile
    base: str
    name: str
    well: str
    row: int
    col: int
    site: int
    wave: int
    time: int
    step: int | None
    thumbnail: bool
    guid: bool
    marked: str


def parse_image_file(file: ScannedFile) -> ImageFile | None:
    """Read what the path of a file says.

    Parameters
    ----------
    file
        As scanned.

    Returns
    -------
    ImageFile | None
        None when the name does not fit.
    """
    folder, _, name = file.path.rpartition("/")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    prefix, well, site, wave, z_text, t_text, thumb, guid = match.groups()
    try:
        row, col = parse_well(well)
    except ValueError:
        return None
    base, time, step = split_folder(folder)
    if t_text is not None:
        time = int(t_text)
    if z_text is not None:
        step = int(z_text)
    return ImageFile(
        file=file,
        base=base,
        name=prefix or "",
        well=well,
        row=row,
        col=col,
        site=int(site or 1),
        wave=int(wave or 1),
        time=1 if time is None else time,
        step=step,
        thumbnail=thumb is not None,
        guid=guid is not None,
        marked=("s" if site else "") + ("w" if wave else "") + ("t" if time is not None else ""),
    )


@functools.lru_cache(maxsize=1024)
def split_folder(folder: str) -> tuple[str, int | None, int | None]:
    """Take the folders of time points and z steps off a path.

    Parameters
    ----------
    folder
        Relative, with forward slashes.

    Returns
    -------
    tuple
        What remains, the time point and the z step; None where there is no such folder.
    """
    parts = folder.split("/") if folder else []
    time: int | None = None
    step: int | None = None
    while parts:
        if time is None and (match := _TIME_FOLDER.fullmatch(parts[-1])):
            time = int(match[1])
        elif step is None and (match := _Z_FOLDER.fullmatch(parts[-1])):
            step = int(match[1])
        else:
            break
        parts.pop()
    return "/".join(parts), time, step
