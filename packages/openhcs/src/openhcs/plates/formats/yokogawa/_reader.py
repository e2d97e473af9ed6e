"""The reader of Yokogawa's measurements."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from openhcs._errors import PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._listed import ListedImages
from openhcs.plates._profile import FLOOR, ImageProfile, report_clamped
from openhcs.plates._wells import holds_wells, plate_size_for, well_name
from openhcs.plates._xml import XmlEntityError, XmlError, read_prolog
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.yokogawa._geometry import GEOMETRY, read_geometry, report_geometry
from openhcs.plates.formats.yokogawa._names import IMAGE_NAME, record_of_name
from openhcs.plates.formats.yokogawa._records import Record, Records, read_records
from openhcs.plates.formats.yokogawa._rows import YokogawaRows
from openhcs.plates.formats.yokogawa._settings import Settings, read_settings

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["Yokogawa"]

_LIST = "measurementdata.mlf"
_DEPTH = 3
_LARGEST = 2 << 30
_METADATA = (".mlf", ".mrf", ".mes", ".wpi", ".wpp", ".xml", ".log", ".mdf", ".ppf")


class Yokogawa:
    """A measurement of a CellVoyager or a CQ1: a list of images beside them."""

    name = "yokogawa"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for the list of images; see `Format`."""
        lists = _lists(listing)
        if not lists:
            return Lack("no MeasurementData.mlf in the folder or up to three levels below it")
        sound = [file for file in lists if _is_list(listing, file)]
        if not sound:
            return Lack(f"{lists[0].path} is no list of images of Yokogawa")
        return Match(
            certainty=2,
            why=f"it has the list of images {sound[0].path}",
            plates=tuple(sorted({file.folder for file in sound})),
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the measurement; see `Format`."""
        top = next(file for file in _lists(listing) if _is_list(listing, file))
        metadata = [file for file in listing.files if _is_metadata(file, top.folder)]
        known = {file.path for file in metadata}
        rest = [file for file in listing.files if file.path not in known]
        settings = read_settings(listing.root, _setting_files(metadata), findings)
        records = _read_list(listing, top, findings)
        listed = list(records.found)
        files = ListedImages(
            listing.root, rest, findings, deep=deep, converted=(".png", ".tif", ".tiff")
        )
        if records.broken or findings.include_unlisted:
            unlisted = _from_names(listed, files, top.folder, settings.columns)
            listed += unlisted
            if not records.broken:
                names = (posixpath.join(top.folder, record.name) for record in unlisted)
                files.included |= set(map(posixpath.normpath, names))
        if not any(not record.failed for record in listed):
            raise PlateError(
                f"{top.path} in {listing.root} lists no image that can be placed in a well"
            )
        maker = YokogawaRows(listed, settings, top.folder, files, findings)
        rows = maker.rows()
        if all(row.status == "missing" for row in rows):
            raise PlateError(
                f"{top.path} in {listing.root} lists {len(rows)} images, of which none is there; "
                "copy the images beside it"
            )
        files.report_unused(IMAGE_NAME, "Yokogawa")
        if not records.broken:
            _compare(settings, rows, findings)
        geometry = posixpath.join(top.folder, GEOMETRY)
        if geometry in known:
            report_geometry(
                read_geometry(listing.root, geometry, findings),
                settings,
                zip(maker.channel_numbers, maker.channel_names, strict=True),
                rows,
                geometry,
                findings,
            )
        size = _plate_size(settings, rows, findings)
        return Reading(
            version=settings.system,
            name=_title(settings, listing),
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=maker.channel_names,
            rows=rows,
            files=FileCounts(
                planes=len(files.used), metadata=len(metadata), named=len(rest) - len(files.used)
            ),
            profiles=_profiles(listing, settings, maker, top.folder, metadata, findings),
        )


def _lists(listing: Listing) -> list[ScannedFile]:
    found = [
        file
        for file in listing.files
        if file.name.lower() == _LIST and file.path.count("/") <= _DEPTH
    ]
    return sorted(found, key=lambda file: (file.path.count("/"), file.path))


def _is_list(listing: Listing, file: ScannedFile) -> bool:
    try:
        return read_prolog(listing.root / file.path).root == "MeasurementData"
    except XmlEntityError:
        return True  # refused by name when it is read
    except (XmlError, OSError):
        return True  # a damaged one: names say the rest


def _is_metadata(file: ScannedFile, folder: str) -> bool:
    name = file.name.lower()
    if name.endswith(_METADATA):
        return True
    calibration = name.startswith(("dc_", "sc_")) and name.endswith((".tif", ".tiff"))
    return calibration and file.folder == folder


def _setting_files(metadata: list[ScannedFile]) -> list[str]:
    """Order the files of settings: light sources of a ``.mes`` come before its channels."""
    return [
        file.path
        for ending in (".mrf", ".mes")
        for file in metadata
        if file.name.lower().endswith(ending)
    ]


def _read_list(listing: Listing, file: ScannedFile, findings: FindingLog) -> Records:
    records = Records()
    if file.size > _LARGEST:
        findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
        records.broken = "it is too large"
        return records
    try:
        records = read_records(listing.root / file.path)
    except XmlEntityError as error:
        findings.add("XML_ENTITY", f"{file.path} was not read: {error}.", path=file.path)
        records.broken = str(error)
        return records
    except OSError as error:
        records.broken = error.strerror or str(error)
    if records.broken:
        findings.add(
            "METADATA_UNREADABLE",
            f"{file.path} breaks after {len(records.found)} records: {records.broken}. "
            "The other images are taken by their names.",
            path=file.path,
        )
    if records.nowhere:
        findings.add(
            "METADATA_UNREADABLE",
            f"{file.path} has {len(records.nowhere)} records without a well or an image: "
            f"{some(records.nowhere, 3)}.",
            path=file.path,
        )
    return records


def _from_names(
    listed: list[Record], files: ListedImages, folder: str, columns: int
) -> list[Record]:
    """Make records of images that the list does not name."""
    made_by = {record.channel: record.processing for record in listed}
    found = []
    for file in files.unlisted(folder, (record.name for record in listed)):
        record = record_of_name(posixpath.relpath(file.path, folder or "."), columns)
        if record is not None:
            record.processing = made_by.get(record.channel, "") or ("" if record.z else "unknown")
            found.append(record)
    return found


def _compare(settings: Settings, rows: list[Row], findings: FindingLog) -> None:
    """Name what the settings plan and the list does not have, by dimension."""
    there = {(row.row, row.col) for row in rows}
    absent = sorted(settings.wells - there)
    if absent:
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The settings name {len(settings.wells)} wells; {len(absent)} of them have no image: "
            f"{some((well_name(*place) for place in absent), 12)}.",
        )
    planes = [row for row in rows if row.kind == "plane"]
    for what, planned, found in (
        ("fields", settings.fields, len({row.field for row in rows})),
        ("planes", settings.planes, len({row.z for row in planes})),
        ("time points", settings.times, len({row.t for row in rows})),
    ):
        if found < planned and (planes or what != "planes"):
            findings.add(
                "PARTIAL_ACQUISITION", f"The settings name {planned} {what}; there are {found}."
            )


def _plate_size(settings: Settings, rows: list[Row], findings: FindingLog) -> tuple[int, int]:
    wells = [(row.row, row.col) for row in rows]
    size = settings.rows, settings.columns
    if holds_wells(*size, wells):
        return size
    size = plate_size_for(wells)
    findings.add(
        "PLATE_SIZE_ASSUMED",
        f"The settings state no size that holds all wells; {size[0]} x {size[1]} does.",
    )
    return size


def _title(settings: Settings, listing: Listing) -> str:
    named = settings.title not in ("", "NoPlateID")
    return settings.title if named else listing.root.name


def _profiles(
    listing: Listing,
    settings: Settings,
    maker: YokogawaRows,
    folder: str,
    metadata: list[ScannedFile],
    findings: FindingLog,
) -> dict[int, ImageProfile]:
    """Make an illumination profile of the shading and dark images of each channel.

    Where only the dark image is there, or only it can be used, it is a profile of its own.
    """
    beside = {file.name.lower(): file.path for file in metadata if file.folder == folder}
    profiles: dict[int, ImageProfile] = {}
    for channel, number in enumerate(maker.channel_numbers):
        said = settings.channel(number)
        path = beside.get(said.shading.lower()) if said.shading else None
        dark = next(
            (
                at
                for name, at in sorted(beside.items())
                if name.startswith("dc_") and name.rpartition(".")[0].endswith(f"cam{said.camera}")
            ),
            None,
        )
        name = maker.channel_names[channel]
        profile = ImageProfile(
            shading=listing.root / path if path else None,
            dark=listing.root / dark if dark else None,
        )
        if path is not None:
            try:
                light = profile.check()
            except ValueError as error:
                findings.add(
                    "FLATFIELD_UNREADABLE",
                    f"The shading image of channel {name} cannot be used: {error}.",
                    channel=channel,
                    path=path,
                )
                profile = replace(profile, shading=None)
            else:
                below = int(np.count_nonzero(light < FLOOR))
                report_clamped(below, light.size, channel, name, path, findings)
        if profile.shading is not None or _is_readable(profile, name, channel, dark, findings):
            profiles[channel] = profile
    return profiles


def _is_readable(
    profile: ImageProfile, name: str, channel: int, path: str | None, findings: FindingLog
) -> bool:
    """Whether there is a dark image; one that cannot be read is named."""
    if path is None:
        return False
    try:
        profile.dark_level((0, 0))
    except ValueError as error:
        findings.add(
            "FLATFIELD_UNREADABLE",
            f"The dark image of channel {name} cannot be used: {error}.",
            channel=channel,
            path=path,
        )
        return False
    return True
