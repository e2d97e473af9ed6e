"""The reader of acquisitions of MetaXpress Acquire."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._listed import ListedImages
from openhcs.plates._wells import holds_wells, plate_size_for
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.hcs_ai._protocol_file import Protocol, parse_protocol
from openhcs.plates.formats.hcs_ai._rows import Experiment, make_rows
from openhcs.plates.formats.hcs_ai._table import IMAGE_NAME, Table, read_table, row_of_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing, ScannedFile
    from openhcs.plates.formats.hcs_ai._table import TableRow

__all__ = ["HcsAi"]

_DEPTH = 3
_LARGEST_PROTOCOL = 64 << 20
_LARGEST_TABLE = 4 << 30
_TABLE = re.compile(r"image_metadata.*\.csv", re.IGNORECASE)
_STACK, _MONTAGE, _FOCUS = "_z_stack", "_montage", "autofocus"
_BESIDE = (".statistics.json", ".mxprotocol", ".jdce")


class HcsAi:
    """An acquisition of an ImageXpress HCS.ai: a protocol and tables beside the images."""

    name = "imagexpress-hcs-ai"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for a protocol; see `Format`."""
        found = _protocols(listing)
        if not found:
            return Lack("no .jdce file in the folder or up to three levels below it")
        return Match(
            certainty=2,
            why=f"it has the protocol {found[0].path}",
            plates=tuple(sorted({_plate_folder(file.folder) for file in found})),
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the acquisition; see `Format`."""
        ignored = [file for file in listing.files if _is_ignored(file)]
        left_out = {file.path for file in ignored}
        protocols = _protocols(listing)
        metadata: set[str] = {
            file.path for file in listing.files if file.name.lower().endswith(_BESIDE)
        } - left_out
        experiments = []
        for file in protocols:
            protocol = _protocol(listing, file, findings)
            tables, broken = _tables(listing, file.folder, protocol, metadata, findings)
            listed = [row for table in tables for row in table.rows]
            if broken:
                images = [image for image in listing.files if image.path not in left_out]
                listed += _from_names(listed, images, file.folder)
            stack = file.folder.lower().endswith(_STACK)
            experiments.append(
                Experiment(folder=file.folder, stack=stack, protocol=protocol, listed=listed)
            )
        _check_one_of_each(listing, experiments)
        rest = [f for f in listing.files if f.path not in metadata and f.path not in left_out]
        files = ListedImages(listing.root, rest, findings, deep=deep)
        if findings.include_unlisted:
            for experiment in experiments:
                _include_unlisted(experiment, files)
        rows, names = make_rows(experiments, files, findings)
        if all(row.status == "missing" for row in rows):
            raise PlateError(
                f"the tables of {protocols[0].path} in {listing.root} list {len(rows)} images, of "
                "which none is there; copy the images beside them"
            )
        files.report_unused(IMAGE_NAME, "MetaXpress Acquire")
        if ignored:
            findings.add(
                "FOLDER_IGNORED",
                f"{len(ignored)} files of autofocus and of montages are no planes and were left "
                f"out: {some((file.path for file in ignored), 3)}.",
            )
        _compare(experiments, rows, findings)
        protocol = max((e.protocol for e in experiments), key=lambda p: p.rows)
        size = _plate_size(protocol, rows, findings)
        return Reading(
            version="",
            name=protocol.plate or listing.root.name,
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=names,
            rows=rows,
            files=FileCounts(
                planes=len(files.used),
                metadata=len(metadata),
                ignored=len(ignored),
                named=len(rest) - len(files.used),
            ),
        )


def _from_names(
    listed: Sequence[TableRow], files: Sequence[ScannedFile], folder: str
) -> list[TableRow]:
    """Make rows of images that no table names."""
    named = {posixpath.normpath(row.name) for row in listed}
    start = f"{folder}/" if folder else ""
    found = []
    for file in files:
        if file.path.startswith(start):
            row = row_of_name(file.path.removeprefix(start))
            if row is not None and row.name not in named:
                found.append(row)
    return found


def _include_unlisted(experiment: Experiment, files: ListedImages) -> None:
    """Take the images that no table names as what their names say."""
    unlisted = files.unlisted(experiment.folder, (row.name for row in experiment.listed))
    found = _from_names(experiment.listed, unlisted, experiment.folder)
    experiment.listed.extend(found)
    files.included |= {posixpath.join(experiment.folder, row.name) for row in found}


def _protocols(listing: Listing) -> list[ScannedFile]:
    found = [
        file
        for file in listing.files
        if file.name.lower().endswith(".jdce")
        and file.path.count("/") <= _DEPTH
        and not _is_ignored(file)
    ]
    return sorted(found, key=lambda file: (file.path.count("/"), file.path))


def _plate_folder(folder: str) -> str:
    """Give the folder above ``experiment``, which is that of the acquisition."""
    parent, _, name = folder.rpartition("/")
    return parent if name.lower().startswith("experiment") else folder


def _is_ignored(file: ScannedFile) -> bool:
    return any(
        part == _FOCUS or (part.startswith("experiment") and part.endswith(_MONTAGE))
        for part in file.folder.lower().split("/")
    )


def _protocol(listing: Listing, file: ScannedFile, findings: FindingLog) -> Protocol:
    if file.size > _LARGEST_PROTOCOL:
        findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
        return Protocol()
    try:
        return parse_protocol((listing.root / file.path).read_bytes())
    except (ValueError, OSError) as error:
        findings.add(
            "METADATA_UNREADABLE",
            f"{file.path} is not a protocol: {error}. Tables of images are used all the same.",
            path=file.path,
        )
        return Protocol()


def _tables(
    listing: Listing,
    folder: str,
    protocol: Protocol,
    metadata: set[str],
    findings: FindingLog,
) -> tuple[list[Table], bool]:
    """Read the tables that a protocol names, or all there are; say whether some rows are lost."""
    beside = {file.name.lower(): file for file in listing.files if file.folder == folder}
    if protocol.tables:
        wanted = [name.replace("\\", "/").rpartition("/")[2] for name in protocol.tables]
    else:
        wanted = [file.name for file in beside.values() if _TABLE.fullmatch(file.name)]
    tables: list[Table] = []
    broken = not wanted
    for name in wanted:
        file = beside.get(name.lower())
        problem = "it is not there"
        path = posixpath.join(folder, name)
        if file is not None:
            path = file.path
            metadata.add(path)
            if file.size > _LARGEST_TABLE:
                findings.add("TOO_LARGE", f"{path} has {file.size} bytes.", path=path)
                broken = True
                continue
            try:
                table = read_table(listing.root / path)
            except OSError as error:
                table = Table(broken=error.strerror or str(error))
            tables.append(table)
            problem = table.broken
        if problem:
            broken = True
            findings.add(
                "METADATA_UNREADABLE",
                f"The table {path} is not whole: {problem}. Other images are taken by their names.",
                path=path,
            )
    return tables, broken


def _check_one_of_each(listing: Listing, experiments: Sequence[Experiment]) -> None:
    if not any(experiment.listed for experiment in experiments):
        raise PlateError(
            f"{listing.root} has protocols of MetaXpress Acquire, but no table that lists an image"
        )
    for stack in (True, False):
        same = [experiment.folder for experiment in experiments if experiment.stack == stack]
        if len(same) > 1:
            raise PlateError(
                f"{listing.root} has {len(same)} experiments side by side ({some(same)}); open a "
                "folder that has one"
            )


def _compare(experiments: Sequence[Experiment], rows: Sequence[Row], findings: FindingLog) -> None:
    """Name what the protocols plan and the tables do not have."""
    stopped = [e.folder or "." for e in experiments if e.protocol.complete is False]
    if stopped:
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The acquisition did not run to its end, says the protocol in {some(stopped)}.",
        )
    for what, planned, found in (
        ("planes", max(e.protocol.planes for e in experiments), len({row.z for row in rows})),
        ("time points", max(e.protocol.times for e in experiments), len({row.t for row in rows})),
    ):
        if found < planned and (what != "planes" or any(e.stack for e in experiments) or found > 1):
            findings.add(
                "PARTIAL_ACQUISITION", f"The protocol names {planned} {what}; there are {found}."
            )


def _plate_size(protocol: Protocol, rows: Sequence[Row], findings: FindingLog) -> tuple[int, int]:
    wells = [(row.row, row.col) for row in rows]
    size = protocol.rows, protocol.columns
    if holds_wells(*size, wells):
        return size
    size = plate_size_for(wells)
    findings.add(
        "PLATE_SIZE_ASSUMED",
        f"The protocol states no size that holds all wells; {size[0]} x {size[1]} does.",
    )
    return size
