"""A folder read by what a person says about it: a pattern of names, a table of files, or both."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._errors import FormatNotRecognisedError, PlateError
from openhcs.plates._assembly import ABSENT, Assembly
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._rows import Row
from openhcs.plates._wells import plate_size_for, well_name
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.described._images import DescribedImages, gather

if TYPE_CHECKING:
    from openhcs.plates._description import Description
    from openhcs.plates._file_table import ListedFile
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing

__all__ = ["Described"]

_TIFF = re.compile(r".+\.(?i:tiff?)")
_PARTS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Described:
    """Reads a folder as it is described.

    Parameters
    ----------
    description
        With a pattern or a table; None for the reader that is offered every folder and knows none.
    """

    description: Description | None = None
    name = "described"

    def sniff(self, listing: Listing) -> Verdict:  # noqa: ARG002  # of the protocol
        """Say by what the folder is read; see `Format`."""
        if self.description is None:
            return Lack("no pattern of names and no table of files was given (--pattern, --files)")
        table = self.description.table
        by = [f"the pattern {self.description.pattern}"] if self.description.pattern else []
        by += [f"the table {table.source}"] if table is not None else []
        return Match(certainty=3, why=f"by {' and '.join(by)}")

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the folder; see `Format`."""
        if self.description is None:
            raise FormatNotRecognisedError("a described folder needs a description")
        table = self.description.table
        own = [
            file
            for file in listing.files
            if table is not None and listing.root / file.path == Path(table.source)
        ]
        rest = [file for file in listing.files if file not in own]
        doubles = findings.duplicates != "error"
        found = gather(self.description, listing.root, rest, doubles=doubles)
        assembly = Assembly(listing.root, rest, findings, deep=deep)
        channels = _channels(found.images)
        for image in found.images:
            row = _row(image, channels)
            assembly.add(row, image.path)
            if said := found.disagreeing.get(image.path):
                assembly.say("LABEL_MISMATCH", f"is {said}; the table counts.", row)
        if all(row.status == "missing" for row in assembly.rows):
            raise PlateError(
                f"none of the {len(assembly.rows)} files that {table.source if table else ''} "
                f"lists is in {listing.root}, such as {found.images[0].path}"
            )
        texts = {number: text for text, number in channels.items()}
        names = assembly.finish(
            lambda number: _channel_name(texts[number]),
            complete=table is None or not table.names_wells,
        )
        _report(assembly, found, findings)
        size = self.description.plate_size
        if size is None:
            size = plate_size_for((row.row, row.col) for row in assembly.rows)
            findings.add(
                "PLATE_SIZE_ASSUMED",
                f"Nothing states the size of the plate; {size[0]} x {size[1]} holds all its wells.",
            )
        return Reading(
            version="",
            name=listing.root.name,
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=names,
            rows=assembly.rows,
            files=FileCounts(
                planes=len(assembly.used), metadata=len(own), named=len(assembly.unused)
            ),
        )


def _row(image: ListedFile, channels: dict[str, int]) -> Row:
    assert image.place is not None  # files of no well were refused
    pixel_um = math.nan if image.pixel_um is None else image.pixel_um
    return Row(
        well=well_name(*image.place),
        row=image.place[0],
        col=image.place[1],
        field=ABSENT if image.field is None else image.field,
        channel=channels[image.channel or ""],
        channel_id=image.channel or "",
        z=ABSENT if image.z is None else image.z,
        t=ABSENT if image.t is None else image.t,
        page=image.page,
        x_um=math.nan if image.x_um is None else image.x_um,
        y_um=math.nan if image.y_um is None else image.y_um,
        z_um=math.nan if image.z_um is None else image.z_um,
        pixel_um_y=pixel_um,
        pixel_um_x=pixel_um,
    )


def _channels(images: tuple[ListedFile, ...]) -> dict[str, int]:
    """Give channels numbers in the order of their names, numbers in them by value."""
    texts = {image.channel or "" for image in images}
    ordered = sorted(
        texts,
        key=lambda text: (
            [
                (part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower())
                for part in _PARTS.split(text)
            ],
            text,
        ),
    )
    return {text: number for number, text in enumerate(ordered)}


def _channel_name(text: str) -> str:
    """Call a channel as it is called; one that is only a number, or nothing, by ``ch``."""
    if not text:
        return "ch1"
    return f"ch{text}" if text.isdecimal() else text


def _report(assembly: Assembly, found: DescribedImages, findings: FindingLog) -> None:
    odd = {file.path: found.odd[file.path] for file in assembly.unused if file.path in found.odd}
    if odd:
        findings.add(
            "UNMATCHED_NAME",
            f"{len(odd)} files fit the pattern and are no images of a plate: "
            f"{some((f'{path} ({reason})' for path, reason in odd.items()), 3)}.",
            path=next(iter(odd)),
        )
    assembly.report_unused(_TIFF, "the description", odd)
