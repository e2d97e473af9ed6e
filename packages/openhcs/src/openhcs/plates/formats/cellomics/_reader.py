"""Cellomics ArrayScan: well, field and dye of every image are in its name, and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._assembly import ABSENT, Assembly
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._rows import Row
from openhcs.plates._wells import parse_well, plate_size_for, well_name
from openhcs.plates.formats._names import verdict_by_names
from openhcs.plates.formats._protocol import Reading, Verdict

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["Cellomics"]

_NAME = re.compile(
    r"(?P<scan>.+)_(?P<well>[A-Z]{1,2}\d{2})f(?P<field>\d{2,9})d(?P<dye>\d{1,9})"
    r"\.(?P<extension>(?i:tiff?|c01))"
)
_OWN = "c01"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    file: ScannedFile
    scan: str
    place: tuple[int, int]
    field: int
    dye: int
    own: bool
    """Whether it is of the instrument's own encoding."""


class Cellomics:
    """A plate of an ArrayScan."""

    name = "cellomics"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for names that fit; see `Format`."""
        return verdict_by_names(
            listing,
            lambda file: _parse(file) is not None,
            like="PLATE_O24f02d1.TIF",
            whose="as ArrayScan names images",
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        images = [image for file in listing.files if (image := _parse(file)) is not None]
        if not images:
            raise PlateError(
                f"{listing.root} has no image that can be indexed; names should be like "
                "PLATE_O24f02d1.TIF"
            )
        images = self._without_originals(images, findings)
        scans = {scan: number for number, scan in enumerate(sorted({i.scan for i in images}))}
        assembly = Assembly(listing.root, listing.files, findings, deep=deep)
        for image in images:
            row = Row(
                well=well_name(*image.place),
                row=image.place[0],
                col=image.place[1],
                field=image.field,
                channel=image.dye,
                z=ABSENT,
                t=ABSENT,
                acquisition=scans[image.scan],
            )
            assembly.add(row, image.file.path, unsupported=image.own)
        names = assembly.finish(lambda dye: f"dye {dye}", complete=True)
        originals = [file.path for file in assembly.unused if _parse(file) is not None]
        assembly.report_unused(_NAME, "ArrayScan", originals)
        size = plate_size_for((row.row, row.col) for row in assembly.rows)
        findings.add(
            "PLATE_SIZE_ASSUMED",
            f"Nothing states the size of the plate; {size[0]} x {size[1]} holds all its wells.",
        )
        return Reading(
            version="",
            name=next(iter(scans)),
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=names,
            rows=assembly.rows,
            files=FileCounts(planes=len(assembly.used), named=len(assembly.unused)),
        )

    def _without_originals(self, images: list[_Image], findings: FindingLog) -> list[_Image]:
        """Leave out files of the instrument's own encoding that were converted to TIFF as well."""
        converted = {
            (image.scan, image.place, image.field, image.dye) for image in images if not image.own
        }
        kept = [
            image
            for image in images
            if not image.own or (image.scan, image.place, image.field, image.dye) not in converted
        ]
        if len(kept) < len(images):
            there = {image.file.path for image in kept}
            paths = [image.file.path for image in images if image.file.path not in there]
            findings.add(
                "ORIGINAL_SKIPPED",
                f"{len(paths)} files of an encoding that cannot be read lie beside the same images "
                f"as TIFF, which are used: {some(paths, 3)}.",
                path=paths[0],
            )
        return kept


def _parse(file: ScannedFile) -> _Image | None:
    match = _NAME.fullmatch(file.name)
    if match is None:
        return None
    try:
        place = parse_well(match["well"])
    except ValueError:
        return None
    return _Image(
        file=file,
        scan=match["scan"],
        place=place,
        field=int(match["field"]),
        dye=int(match["dye"]),
        own=match["extension"].lower() == _OWN,
    )
