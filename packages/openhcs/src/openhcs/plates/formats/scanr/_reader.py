"""ScanR: images named by well number and position, with a descriptor or OME-XML beside them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs._words import counted
from openhcs.plates._assembly import Assembly
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._rows import Row
from openhcs.plates._wells import plate_size_for, well_name
from openhcs.plates._xml import XmlEntityError, XmlError
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.scanr._metadata import (
    Descriptor,
    OmeImage,
    OmePlane,
    read_descriptor,
    read_ome,
)
from openhcs.plates.formats.scanr._names import IMAGE_NAME, ScanRName, parse_name
from openhcs.plates.formats.scanr._offset import take_off_offset

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["ScanR"]

_DESCRIPTOR = "experiment_descriptor.xml"
_OME = "metadata.ome.xml"
_IGNORED = frozenset({"experiment_descriptor.dat", "acquisitionlog.dat"})
_LARGEST = {_DESCRIPTOR: 256 << 20, _OME: 2 << 30}
_DEPTH = 3
_MOST = (32, 48)
_MANY = 10
"""One in so many images off the plate, or fewer, are named; of more, the plate is another one."""


@dataclass(frozen=True, slots=True)
class ScanR:
    """A plate of a ScanR station.

    Parameters
    ----------
    plate_size
        Rows and columns of the plate, where a person states them.
    """

    plate_size: tuple[int, int] | None = None
    name = "scanr"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for names that fit, and for metadata beside them; see `Format`."""
        named = [
            file
            for file in listing.files
            if file.path.count("/") <= _DEPTH and parse_name(file.name) is not None
        ]
        if not named:
            return Lack("no images named like B2--W00014--P00001--Z00000--T00000--DAPI.tif")
        beside = [file for file in listing.files if file.name.lower() in (_DESCRIPTOR, _OME)]
        return Match(
            certainty=2 if beside else 1,
            why=f"{named[0].path} is named as ScanR names images"
            + (f", beside {beside[0].path}" if beside else ""),
            plates=tuple(sorted({_plate_folder(file.folder) for file in named})),
        )

    def of_size(self, plate_size: tuple[int, int]) -> ScanR:
        """Give the reader of a plate of this size; see `SizedFormat`."""
        return ScanR(plate_size)

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        metadata = [file for file in listing.files if file.name.lower() in (_DESCRIPTOR, _OME)]
        logs = [file for file in listing.files if file.name.lower() in _IGNORED]
        apart = {file.path for file in (*metadata, *logs)}
        rest = [file for file in listing.files if file.path not in apart]
        named = [(file, name) for file in rest if (name := parse_name(file.name)) is not None]
        descriptor = _descriptor(listing, metadata, findings)
        top, images = _ome(listing, metadata, findings)
        wells = _Wells(descriptor, [name for _, name in named], self.plate_size, listing, findings)
        assembly = Assembly(listing.root, rest, findings, deep=deep)
        rows = _Rows(assembly, wells, descriptor, findings)
        folder = named[0][0].folder if named else ""
        rows.take_listed(images, top.folder if top is not None else folder, folder)
        rows.take_named(named)
        names = assembly.finish(rows.channel_name, complete=not images)
        rows.report(wells)
        files = {file.path: file for file in rest}
        offset = take_off_offset(listing.root, assembly.rows, files, findings)
        off = [file.path for file, name in named if not wells.has(name.well)]
        if off:
            findings.add(
                "UNMATCHED_NAME",
                f"{len(off)} files are named as images of wells that a plate of {wells.size[0]} x "
                f"{wells.size[1]} does not have: {some(off)}.",
                path=off[0],
            )
        assembly.report_unused(IMAGE_NAME, "ScanR", off)
        return Reading(
            version=f"{offset} counts taken off" if offset else "",
            name=descriptor.plate_name or listing.root.name,
            plate_rows=wells.size[0],
            plate_columns=wells.size[1],
            channel_names=names,
            rows=assembly.rows,
            files=FileCounts(
                planes=len(assembly.used),
                metadata=len(metadata),
                ignored=len(logs),
                named=len(assembly.unused),
            ),
        )


class _Wells:
    """Which well a number means: the plate's layout decides, else the token in front of names."""

    def __init__(
        self,
        descriptor: Descriptor,
        names: list[ScanRName],
        stated: tuple[int, int] | None,
        listing: Listing,
        findings: FindingLog,
    ) -> None:
        self._table = descriptor.wells
        self._tokens: dict[int, Counter[tuple[int, int]]] = defaultdict(Counter)
        for name in names:
            if name.place is not None:
                self._tokens[name.well][name.place] += 1
        laid_out = stated or (descriptor.rows, descriptor.columns)
        self.stated = 0 < laid_out[0] <= _MOST[0] and 0 < laid_out[1] <= _MOST[1]
        numbers = {name.well for name in names}
        if self.stated:
            self.size = laid_out
            off = [name.well for name in names if name.well > laid_out[0] * laid_out[1]]
            if _MANY * len(off) > len(names):
                raise PlateError(
                    f"{listing.root} has images of well number {max(off)}, and a plate of "
                    f"{laid_out[0]} x {laid_out[1]} has fewer wells; state its size with "
                    "Description(plate_size=(ROWS, COLUMNS)) (--plate-size ROWSxCOLUMNS)"
                )
            return
        bare = sorted(numbers - set(self._tokens) - set(self._table))
        if bare:
            raise PlateError(
                f"{listing.root} numbers its wells ({some(map(str, bare))}) and nothing says which "
                "wells these are: no layout in an experiment_descriptor.xml, no well in the "
                "names; state the size of the plate with Description(plate_size=(ROWS, COLUMNS)) "
                "(--plate-size ROWSxCOLUMNS)"
            )
        places = [self.place(number) for number in numbers]
        self.size = plate_size_for(places)
        findings.add(
            "PLATE_SIZE_ASSUMED",
            f"Nothing states the size of the plate; {self.size[0]} x {self.size[1]} holds all "
            "its wells.",
        )

    def place(self, number: int) -> tuple[int, int]:
        """Give row and column of a well by its number, from 1: row by row over the plate."""
        if number in self._table:
            return self._table[number]
        if self.stated:
            return (number - 1) // self.size[1], (number - 1) % self.size[1]
        return self._tokens[number].most_common(1)[0][0]

    def has(self, number: int) -> bool:
        """Say whether a number means a well of the plate at all."""
        if self.stated:
            return 0 < number <= self.size[0] * self.size[1]
        return number in self._table or number in self._tokens


class _Rows:
    """Makes rows of what OME-XML lists and of names."""

    def __init__(
        self, assembly: Assembly, wells: _Wells, descriptor: Descriptor, findings: FindingLog
    ) -> None:
        self.assembly = assembly
        self._wells = wells
        self._descriptor = descriptor
        self._findings = findings
        self._channels: list[str] = []
        self._by_spelling: dict[str, str] = {}  # channel by what names of files call it
        self._placed = False
        self._disagree: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def channel_name(self, number: int) -> str:
        """Give the name of a channel."""
        return self._channels[number]

    def take_listed(self, images: list[OmeImage], folder: str, data: str) -> None:
        """Make the rows of what OME-XML lists with a file name."""
        spelled = self._spelled(images)
        named = {
            plane.c: told
            for image in images
            for plane in image.planes
            if plane.c < len(image.channels) and (told := image.channels[plane.c])
        }
        self._channels = list(
            dict.fromkeys(
                named.get(c) or spelled.get(c) or f"channel {c}"
                for c in sorted({plane.c for image in images for plane in image.planes})
            )
        )
        self._by_spelling = {text: named.get(c) or text for c, text in spelled.items() if text}
        lacking = sum(not plane.path for image in images for plane in image.planes)
        if lacking:
            self._findings.add(
                "METADATA_UNREADABLE",
                f"The OME-XML lists {counted(lacking, 'plane')} without a file.",
            )
        for image in images:
            if not self._wells.has(image.well):
                self._findings.add(
                    "METADATA_UNREADABLE",
                    f"The OME-XML lists well number {image.well}, which the plate does not have.",
                )
                continue
            for plane in image.planes:
                if not plane.path:
                    continue
                name = parse_name(plane.path.replace("\\", "/").rpartition("/")[2])
                usual = spelled.get(plane.c, "")
                channel = named.get(plane.c) or usual or f"channel {plane.c}"
                row = self._row(image.well, image.position, channel, plane.z, plane.t)
                self._fill(row, image, plane)
                # The list lies beside the images, or one folder above them.
                beside = self.assembly.has(folder, plane.path)
                self.assembly.add(row, plane.path, folder=folder if beside else data)
                if name is not None:
                    listed = image.well, image.position, plane.z, plane.t, usual
                    self._check(row, name, listed)

    def _spelled(self, images: list[OmeImage]) -> dict[int, str]:
        """Say how names of files spell each channel: as most of them do."""
        votes: dict[int, Counter[str]] = defaultdict(Counter)
        for image in images:
            for plane in image.planes:
                name = parse_name(plane.path.replace("\\", "/").rpartition("/")[2])
                if name is not None:
                    votes[plane.c][name.channel] += 1
        return {c: counts.most_common(1)[0][0] for c, counts in votes.items()}

    def take_named(self, named: list[tuple[ScannedFile, ScanRName]]) -> None:
        """Make the rows of files where no list names any, or of those that the list does not."""
        listed = bool(self.assembly.rows)
        if not listed:
            self._channels = sorted({name.channel for _, name in named})
        elif not self._findings.include_unlisted:
            return
        for file, name in named:
            if file.path in self.assembly.used or not self._wells.has(name.well):
                continue
            channel = self._by_spelling.get(name.channel, name.channel)
            if listed:
                self.assembly.included.add(file.path)
                if channel not in self._channels:
                    self._channels.append(channel)
            row = self._row(name.well, name.position, channel, name.z, name.t)
            self.assembly.add(row, file.path)
            self._check(row, name, (name.well, name.position, name.z, name.t, name.channel))

    def report(self, wells: _Wells) -> None:
        """Name wells whose number and token disagree, and that y was never verified."""
        for well, files in self._disagree.items():
            path, said = files[0]
            self._findings.add(
                "LABEL_MISMATCH",
                f"{len(files)} files are of well {well} by their number on a plate of "
                f"{wells.size[0]} x {wells.size[1]}, but of {said} by their name, such as {path}.",
                well=well,
                path=path,
            )
        if self._placed:
            self._findings.add(
                "Y_UNVERIFIED",
                "Positions are as ScanR stores them; whether its y points up or down was never "
                "compared with images.",
            )

    def _row(self, well: int, position: int, channel: str, z: int, t: int) -> Row:
        place = self._wells.place(well)
        x = y = math.nan
        if 0 < position <= len(self._descriptor.positions_um):
            x, y = self._descriptor.positions_um[position - 1]
        row = Row(
            well=well_name(*place),
            row=place[0],
            col=place[1],
            field=position,
            channel=self._channels.index(channel),
            channel_id=channel,
            z=z,
            t=t,
            x_um=x,
            y_um=y,
            pixel_um_y=self._descriptor.pixel_um,
            pixel_um_x=self._descriptor.pixel_um,
            time_s=t * self._descriptor.delay_s,
        )
        self._placed = self._placed or not math.isnan(x)
        return row

    def _fill(self, row: Row, image: OmeImage, plane: OmePlane) -> None:
        if not math.isnan(plane.x_um + plane.y_um):
            row.x_um, row.y_um = plane.x_um, plane.y_um
            self._placed = True
        row.z_um, row.exposure_s = plane.z_um, plane.exposure_s
        if not math.isnan(plane.time_s):
            row.time_s = plane.time_s
        if image.pixel_um[0] > 0 and image.pixel_um[1] > 0:
            row.pixel_um_y, row.pixel_um_x = image.pixel_um

    def _check(self, row: Row, name: ScanRName, listed: tuple[int, int, int, int, str]) -> None:
        said = name.well, name.position, name.z, name.t, name.channel
        if said != listed:
            self.assembly.say(
                "LABEL_MISMATCH",
                "is listed as well {}, position {}, z {}, t {}, channel {}.".format(*listed),
                row,
            )
        elif name.place is not None and name.place != (row.row, row.col):
            self._disagree[row.well].append((row.path, well_name(*name.place)))


def _descriptor(listing: Listing, metadata: list[ScannedFile], findings: FindingLog) -> Descriptor:
    file = next((file for file in metadata if file.name.lower() == _DESCRIPTOR), None)
    if file is None or not _small_enough(file, findings):
        return Descriptor()
    try:
        return read_descriptor(listing.root / file.path)
    except (XmlEntityError, XmlError, OSError) as error:
        _report_damage(file, error, findings)
        return Descriptor()


def _ome(
    listing: Listing, metadata: list[ScannedFile], findings: FindingLog
) -> tuple[ScannedFile | None, list[OmeImage]]:
    file = next((file for file in metadata if file.name.lower() == _OME), None)
    if file is None or not _small_enough(file, findings):
        return None, []
    try:
        return file, read_ome(listing.root / file.path)
    except (XmlEntityError, XmlError, OSError) as error:
        _report_damage(file, error, findings)
        return None, []


def _small_enough(file: ScannedFile, findings: FindingLog) -> bool:
    if file.size <= _LARGEST[file.name.lower()]:
        return True
    findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
    return False


def _report_damage(file: ScannedFile, error: Exception, findings: FindingLog) -> None:
    if isinstance(error, XmlEntityError):
        findings.add("XML_ENTITY", f"{file.path} was not read: {error}.", path=file.path)
        return
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    findings.add(
        "METADATA_UNREADABLE",
        f"{file.path} cannot be read: {said}. Images are taken by their names.",
        path=file.path,
    )


def _plate_folder(folder: str) -> str:
    parent, _, last = folder.rpartition("/")
    return parent if last.lower() == "data" else folder
