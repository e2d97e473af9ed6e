"""Images called ``Channel1-01-A-01.tif``: channel, running number, row, column; a table beside."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._assembly import ABSENT, Assembly
from openhcs.plates._facts import FileCounts
from openhcs.plates._platemap_check import check_platemap
from openhcs.plates._rows import Row
from openhcs.plates._wells import parse_well, plate_size_for, sort_wells, well_name
from openhcs.plates.formats._names import verdict_by_names
from openhcs.plates.formats._protocol import Reading, Verdict
from openhcs.plates.formats.numbered._table import ImageTable, parse_table

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["NumberedChannels"]

_NAME = re.compile(
    r"Channel(?P<channel>\d{1,9})-(?P<number>\d{1,9})-(?P<row>[A-Z]{1,2})"
    r"-(?P<col>\d{1,9})\.(?i:tiff?)"
)
_TABLE = "_metadata.csv"
_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    file: ScannedFile
    channel: int
    number: int
    place: tuple[int, int]


class NumberedChannels:
    """A folder of numbered images."""

    name = "numbered-channels"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for names that fit; see `Format`."""
        return verdict_by_names(
            listing,
            lambda file: _parse(file) is not None,
            like="Channel1-01-A-01.tif",
            whose="by channel, running number, row and column",
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the folder; see `Format`."""
        images = [image for file in listing.files if (image := _parse(file)) is not None]
        if not images:
            raise PlateError(
                f"{listing.root} has no image that can be indexed; names should be like "
                "Channel1-01-A-01.tif"
            )
        tables = [file for file in listing.files if file.path[-len(_TABLE) :].lower() == _TABLE]
        table = _read_tables(listing, tables, findings)
        paths = {file.path for file in tables}
        rest = [file for file in listing.files if file.path not in paths]
        assembly = Assembly(listing.root, rest, findings, deep=deep)
        _add(assembly, images, table)
        names = assembly.finish(lambda channel: f"channel {channel}", complete=table is None)
        assembly.report_unused(_NAME, "a numbered set")
        size = plate_size_for((row.row, row.col) for row in assembly.rows)
        findings.add(
            "PLATE_SIZE_ASSUMED",
            f"Nothing states the size of the plate; {size[0]} x {size[1]} holds all its wells.",
        )
        platemap = table.platemap if table is not None else None
        if platemap is not None:
            wells = sort_wells(row.well for row in assembly.rows)
            check_platemap(platemap, wells, size, findings)
        return Reading(
            version="",
            name=tables[0].name[: -len(_TABLE)] if tables else listing.root.name,
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=names,
            rows=assembly.rows,
            files=FileCounts(
                planes=len(assembly.used), metadata=len(tables), named=len(assembly.unused)
            ),
            platemap=platemap,
        )


def _add(assembly: Assembly, images: list[_Image], table: ImageTable | None) -> None:
    """Make the rows of files, and of images that the table lists and that are not there."""
    listed = {} if table is None else dict(table.wells)
    fields = _fields({image.number: image.place for image in images} | listed)
    odd = _out_of_order(images) if table is None else set[str]()
    there = {(image.channel, image.place, fields[image.number]) for image in images}
    for image in images:
        row = _row(image.channel, image.number, image.place, fields)
        assembly.add(row, image.file.path)
        said = listed.get(image.number)
        if image.file.path in odd:
            assembly.say(
                "LABEL_MISMATCH",
                f"is named well {row.well}, where number {image.number} is not, counted row by "
                "row.",
                row,
            )
        elif table is not None and said != image.place:
            told = "nothing" if said is None else f"well {well_name(*said)}"
            assembly.say(
                "LABEL_MISMATCH",
                f"is named well {row.well}; for image {image.number} the table has {told}.",
                row,
            )
    widths = Counter(len(image.file.name.split("-")[1]) for image in images)
    digits = widths.most_common(1)[0][0]
    folder = images[0].file.folder
    for channel in sorted({image.channel for image in images}):
        for number, place in listed.items():
            if (channel, place, fields[number]) not in there:
                letters = well_name(*place)
                name = f"Channel{channel}-{number:0{digits}d}-{letters[:-2]}-{letters[-2:]}.tif"
                assembly.add(_row(channel, number, place, fields), name, folder=folder)


def _row(channel: int, number: int, place: tuple[int, int], fields: dict[int, int]) -> Row:
    return Row(
        well=well_name(*place),
        row=place[0],
        col=place[1],
        field=fields[number],
        field_id=str(number),
        channel=channel,
        z=ABSENT,
        t=ABSENT,
    )


def _fields(places: dict[int, tuple[int, int]]) -> dict[int, int]:
    """Rank the images of each well by their number."""
    by_well: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, place in places.items():
        by_well[place].append(number)
    return {
        number: rank for numbers in by_well.values() for rank, number in enumerate(sorted(numbers))
    }


def _out_of_order(images: list[_Image]) -> set[str]:
    """Give the files whose number is not that of their well, counted row by row.

    Each channel by itself; of those in order, a number must mean the same well in all channels.
    """
    by_channel: dict[int, list[_Image]] = defaultdict(list)
    for image in images:
        by_channel[image.channel].append(image)
    odd: set[str] = set()
    meant: dict[int, dict[tuple[int, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for members in by_channel.values():
        numbered = sorted(members, key=lambda image: image.number)
        for image, place in zip(numbered, sorted(i.place for i in members), strict=True):
            if image.place == place:
                meant[image.number][place].append(image.file.path)
            else:
                odd.add(image.file.path)
    for places in meant.values():
        if len(places) > 1:
            odd.update(path for paths in places.values() for path in paths)
    return odd


def _read_tables(
    listing: Listing, tables: list[ScannedFile], findings: FindingLog
) -> ImageTable | None:
    for other in tables[1:]:
        findings.add(
            "METADATA_CONFLICT",
            f"{other.path} is a second table beside {tables[0].path}, which is used.",
            path=other.path,
        )
    for file in tables[:1]:
        if file.size > _LARGEST:
            findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
            continue
        try:
            raw = (listing.root / file.path).read_bytes()
            return parse_table(raw, file.path, findings)
        except (ValueError, OSError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            findings.add(
                "METADATA_UNREADABLE", f"{file.path} cannot be read: {said}.", path=file.path
            )
    return None


def _parse(file: ScannedFile) -> _Image | None:
    match = _NAME.fullmatch(file.name)
    if match is None:
        return None
    try:
        place = parse_well(f"{match['row']}{int(match['col'])}")
    except ValueError:
        return None
    return _Image(
        file=file, channel=int(match["channel"]), number=int(match["number"]), place=place
    )
