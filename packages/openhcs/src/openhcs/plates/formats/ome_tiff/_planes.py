"""Which directory of which file each plane of an OME image is.

Notes
-----
OME-TIFF specification, ``TiffData``: what is not said is 0; without ``IFD`` and ``PlaneCount`` an
element is about all directories of its file, and with one of them alone about one plane or about
as many as it counts. Many writers leave both out and mean one plane, so that what an element does
not say itself gives way to what another one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openhcs.plates.formats.ome_tiff._xml import OmeImage, TiffData

__all__ = ["Claim", "claims_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A plane of an image, and where it is said to be.

    Parameters
    ----------
    c, z, t
        The plane.
    file, uuid
        Name and identifier of its file, as the metadata have them; both empty for the file that
        the metadata are in.
    ifd
        Its directory in the file.
    """

    c: int
    z: int
    t: int
    file: str
    uuid: str
    ifd: int


def claims_of(image: OmeImage, directories: Callable[[str, str], int]) -> list[Claim]:
    """Say where the planes of an image are.

    Parameters
    ----------
    image
        The image.
    directories
        Counts the directories of a file, by its name and identifier; asked only where the
        metadata leave it open.

    Returns
    -------
    list
        Planes that the metadata place, several times where they do so.
    """
    said: list[Claim] = []
    left_open: dict[tuple[int, int, int], Claim] = {}
    for data in image.data:
        claims = _claims(image, data, directories)
        explicit = data.ifd is not None or data.count is not None
        for number, claim in enumerate(claims):
            if explicit or number == 0:
                said.append(claim)
            else:
                left_open.setdefault((claim.c, claim.z, claim.t), claim)
    placed = {(claim.c, claim.z, claim.t) for claim in said}
    return said + [claim for plane, claim in left_open.items() if plane not in placed]


def _claims(
    image: OmeImage, data: TiffData, directories: Callable[[str, str], int]
) -> Iterator[Claim]:
    counts = dict(zip("CZT", image.sizes, strict=True))
    at = {"C": data.c, "Z": data.z, "T": data.t}
    if any(not 0 <= at[axis] < counts[axis] for axis in "CZT"):
        return  # a plane that the image does not have
    start = 0
    for axis in reversed(image.order):
        start = start * counts[axis] + at[axis]
    left = counts["C"] * counts["Z"] * counts["T"] - start
    ifd = data.ifd or 0
    count = data.count
    if count is None:
        count = 1
        if data.ifd is None and left > 1:
            count = directories(data.file, data.uuid)
    for number in range(min(max(count, 1), left)):
        place, rest = {}, start + number
        for axis in image.order:
            rest, place[axis] = divmod(rest, counts[axis])
        yield Claim(
            c=place["C"],
            z=place["Z"],
            t=place["T"],
            file=data.file,
            uuid=data.uuid,
            ifd=ifd + number,
        )
