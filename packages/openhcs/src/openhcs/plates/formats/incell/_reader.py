"""IN Cell: an ``.xdce`` file beside the images, or images named as the instruments name them."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._assembly import ABSENT, Assembly
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._rows import Row
from openhcs.plates._wells import holds_wells, plate_size_for, well_name
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.incell._index import InCellImage, InCellIndex, read_xdce
from openhcs.plates.formats.incell._names import IMAGE_NAME, InCellName, is_unsupported, parse_name

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["InCell"]

_DEPTH = 3
_LARGEST = 2 << 30


class InCell:
    """A plate of an IN Cell Analyzer."""

    name = "incell"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for an ``.xdce`` file, else for names that fit; see `Format`."""
        lists = _lists(listing)
        if lists:
            return Match(
                certainty=2,
                why=f"it has IN Cell's list of images {lists[0].path}",
                plates=tuple(sorted({file.folder for file in lists})),
            )
        named = [file for file in listing.files if parse_name(file.name) is not None]
        if not named:
            return Lack("no .xdce file, nor images named like A - 1(fld 1 wv DAPI - DAPI).tif")
        return Match(
            certainty=1,
            why=f"{named[0].path} is named as IN Cell names images, and there is no .xdce file",
            plates=tuple(sorted({file.folder for file in named})),
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        lists = _lists(listing)
        top = lists[0] if lists else None
        index = _read_list(listing, top, findings) if top is not None else InCellIndex()
        for other in lists[1:]:
            findings.add(
                "METADATA_CONFLICT",
                f"{other.path} is a second list of images beside {lists[0].path}, which is used.",
                path=other.path,
            )
        folder = top.folder if top is not None else ""
        listed = {file.path for file in lists}
        rest = [file for file in listing.files if file.path not in listed]
        thumbnails = _thumbnails(rest, index, folder)
        rest = [file for file in rest if file.path not in thumbnails]
        if thumbnails:
            findings.add("THUMBNAIL_SKIPPED", f"{len(thumbnails)} thumbnails were left out.")
        plate = _Rows(Assembly(listing.root, rest, findings, deep=deep), index, folder, findings)
        plate.take_listed()
        if top is None or index.broken:
            plate.take_named()
        elif findings.include_unlisted:
            listed_files = set(plate.assembly.used)
            plate.take_named()
            plate.assembly.included |= plate.assembly.used - listed_files
        if all(row.status == "missing" for row in plate.assembly.rows):
            raise PlateError(
                f"{listing.root} has no image of an IN Cell plate that can be indexed; copy the "
                "images beside the .xdce file"
            )
        complete = top is None or bool(index.broken)
        names = plate.assembly.finish(plate.channel_name, complete=complete)
        fused = plate.report_fused()
        plate.assembly.report_unused(IMAGE_NAME, "IN Cell", fused)
        rows = plate.assembly.rows
        size = _plate_size(index, rows, findings)
        _report_planned(index, rows, size, findings)
        return Reading(
            version=index.application,
            name=index.plate_name or (top.name[:-5] if top is not None else listing.root.name),
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=names,
            rows=rows,
            files=FileCounts(
                planes=len(plate.assembly.used),
                metadata=len(lists),
                thumbnails=len(thumbnails),
                ignored=len(fused),
                named=len(plate.assembly.unused) - len(fused),
            ),
        )


class _Rows:
    """Makes rows of what the list says, and of names where it says nothing."""

    def __init__(
        self, assembly: Assembly, index: InCellIndex, folder: str, findings: FindingLog
    ) -> None:
        self.assembly = assembly
        self._index = index
        self._folder = folder
        self._findings = findings
        self._fused: list[str] = []
        self._names = {number: wave.name for number, wave in index.waves.items()}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for number, wave in index.waves.items():
            if wave.in_names:
                self._by_name[wave.in_names].append(number)

    def channel_name(self, number: int) -> str:
        """Give the name of a wavelength."""
        return self._names.get(number) or f"wave {number}"

    def take_listed(self) -> None:
        """Make the rows of the images that the list has."""
        depth: dict[int, set[int]] = defaultdict(set)
        for image in self._index.images:
            depth[image.wave or 0].add(image.z or 0)
        for image in self._index.images:
            wave = self._index.waves.get(image.wave or 0)
            if wave is not None and wave.fused:
                self._fused.append(image.filename)
                continue
            row = self._row(image)
            if row is None:
                continue
            stacked = wave.stacked if wave is not None else None
            if stacked is False and len(depth[image.wave or 0]) < 2:
                row.z = ABSENT
            self.assembly.add(
                row,
                image.filename,
                folder=self._folder,
                unsupported=is_unsupported(image.filename),
            )
            self._check_name(row, image)

    def take_named(self) -> None:
        """Make rows of images that the list lacks."""
        found = [
            (file, name)
            for file in self.assembly.unused
            if (name := parse_name(file.name)) is not None
        ]
        new = {(name.wave, name.wix or 0) for _, name in found if name.wave not in self._by_name}
        numbers: dict[tuple[str, int], int] = {}
        for text, wix in sorted(new):
            number = max(self._names, default=-1) + 1
            numbers[text, wix] = number
            self._names[number] = " - ".join(dict.fromkeys(text.split(" - ")))
        for file, name in found:
            number = numbers.get((name.wave, name.wix or 0), -1)
            if number < 0:
                number = self._listed_wave(name)
            wave = self._index.waves.get(number)
            if wave is not None and wave.fused:
                self._fused.append(file.name)
                continue
            x, y = self._index.offsets_um.get(name.field - 1, (math.nan, math.nan))
            row = Row(
                well=well_name(name.row, name.col),
                row=name.row,
                col=name.col,
                field=name.field - 1,
                channel=number,
                z=ABSENT if name.z is None else name.z - 1,
                t=ABSENT if name.t is None else name.t - 1,
                x_um=x,
                y_um=-y,
                pixel_um_y=self._index.pixel_um[0],
                pixel_um_x=self._index.pixel_um[1],
                excitation_nm=wave.excitation_nm if wave is not None else math.nan,
                emission_nm=wave.emission_nm if wave is not None else math.nan,
            )
            self.assembly.add(row, file.path, unsupported=is_unsupported(file.name))

    def _listed_wave(self, name: InCellName) -> int:
        """Say which wavelength of the list a name means: of those with its filters, by its number.

        Without a number, a name with a z is of a wavelength that was taken as a stack.
        """
        waves = self._by_name[name.wave]
        if name.wix is not None and name.wix - 1 in waves:
            return name.wix - 1
        stacked = name.z is not None
        alike = [n for n in waves if self._index.waves[n].stacked in (None, stacked)]
        return (alike or waves)[0]

    def report_fused(self) -> set[str]:
        """Name what the software made of other images; give the files."""
        if not self._fused:
            return set()
        names = {name.replace("\\", "/").rpartition("/")[2] for name in self._fused}
        paths = {file.path for file in self.assembly.unused if file.name in names}
        self._findings.add(
            "FUSION_SKIPPED",
            f"{len(self._fused)} images that the instrument made of other wavelengths were left "
            f"out: {some(self._fused, 3)}.",
        )
        return paths

    def _row(self, image: InCellImage) -> Row | None:
        row, col = image.row or 0, image.col or 0  # they count from 1
        try:
            well = well_name(row - 1, col - 1)
        except ValueError as error:
            self._findings.add(
                "METADATA_UNREADABLE",
                f"The list places {image.filename!r} nowhere: {error}.",
                path=image.filename or None,
            )
            return None
        wave = self._index.waves.get(image.wave or 0)
        x, y = image.offset_um
        if math.isnan(x + y):
            x, y = self._index.offsets_um.get(image.field or 0, image.offset_um)
        return Row(
            well=well,
            row=row - 1,
            col=col - 1,
            field=image.field or 0,
            channel=image.wave or 0,
            z=ABSENT if image.z is None else image.z,
            t=ABSENT if image.t is None else image.t,
            x_um=x,
            y_um=-y,
            z_um=image.z_um,
            pixel_um_y=self._index.pixel_um[0],
            pixel_um_x=self._index.pixel_um[1],
            excitation_nm=wave.excitation_nm if wave is not None else math.nan,
            emission_nm=wave.emission_nm if wave is not None else math.nan,
            exposure_s=image.exposure_s,
            time_s=image.time_s,
        )

    def _check_name(self, row: Row, image: InCellImage) -> None:
        name = parse_name(image.filename.replace("\\", "/").rpartition("/")[2])
        if name is None:
            return
        waves = self._by_name.get(name.wave)
        if (waves and row.channel not in waves) or not _agree(name, row):
            self.assembly.say(
                "LABEL_MISMATCH",
                f"is listed as well {row.well}, field {row.field + 1}, wave "
                f"{self.channel_name(row.channel)}"
                + ("" if row.z == ABSENT else f", z {row.z + 1}")
                + ("" if row.t == ABSENT else f", time {row.t + 1}")
                + ".",
                row,
                image.filename,
            )


def _agree(name: InCellName, row: Row) -> bool:
    return (
        (name.row, name.col, name.field) == (row.row, row.col, row.field + 1)
        and (name.z is None or row.z == ABSENT or name.z == row.z + 1)
        and (name.t is None or row.t == ABSENT or name.t == row.t + 1)
    )


def _lists(listing: Listing) -> list[ScannedFile]:
    """Find lists of images, the best one first: near the top, and called as its folder."""
    found = [
        file
        for file in listing.files
        if file.path[-5:].lower() == ".xdce" and file.path.count("/") <= _DEPTH
    ]
    here = listing.root.name
    return sorted(
        found,
        key=lambda f: (
            f.path.count("/"),
            f.name[:-5] != (f.folder.rpartition("/")[2] or here),
            f.path,
        ),
    )


def _read_list(listing: Listing, file: ScannedFile, findings: FindingLog) -> InCellIndex:
    if file.size > _LARGEST:
        findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
        return InCellIndex(broken="it is too large")
    index = read_xdce(listing.root / file.path)
    if index.refused:
        findings.add("XML_ENTITY", f"{file.path} was not read: {index.broken}.", path=file.path)
    elif index.broken:
        findings.add(
            "METADATA_UNREADABLE",
            f"{file.path} breaks after {len(index.images)} images: {index.broken}. "
            "The others are taken by their names.",
            path=file.path,
        )
    if index.binning and set(index.binning.upper().replace("X", " ").split()) != {"1"}:
        findings.add(
            "PIXEL_SIZE_UNVERIFIED",
            f"Pixels were binned {index.binning}; their size is taken as {file.path} states it, "
            "which was never compared with images.",
            path=file.path,
        )
    return index


def _thumbnails(files: list[ScannedFile], index: InCellIndex, folder: str) -> set[str]:
    """Paths of files that the list names as thumbnails, and not as images."""
    images = {image.filename for image in index.images}
    prefix = f"{folder}/" if folder else ""
    named = {
        prefix + image.thumbnail.replace("\\", "/")
        for image in index.images
        if image.thumbnail and image.thumbnail not in images
    }
    return {file.path for file in files if file.path in named}


def _plate_size(index: InCellIndex, rows: list[Row], findings: FindingLog) -> tuple[int, int]:
    wells = {(row.row, row.col) for row in rows}
    size = index.plate_rows, index.plate_columns
    if holds_wells(*size, wells):
        return size
    size = plate_size_for(wells)
    findings.add(
        "PLATE_SIZE_ASSUMED",
        f"The list states no size that holds all wells; {size[0]} x {size[1]} does.",
    )
    return size


def _report_planned(
    index: InCellIndex, rows: list[Row], size: tuple[int, int], findings: FindingLog
) -> None:
    """Name what the list promises and does not list: images by number, wells not excluded."""
    if index.broken:
        return
    if index.announced > len(index.images):
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The list promises {index.announced} images; it names {len(index.images)}.",
        )
    if index.excluded:
        wanted = {(r, c) for r in range(size[0]) for c in range(size[1])} - index.excluded
        absent = sorted(wanted - {(row.row, row.col) for row in rows})
        if absent:
            findings.add(
                "PARTIAL_ACQUISITION",
                f"{len(wanted)} wells were not excluded; {len(absent)} of them have no image: "
                f"{some((well_name(*place) for place in absent), 12)}.",
            )
