"""OME-Zarr plates: a store with a group for each well and an image for each field.

Notes
-----
A plate of 384 wells may have millions of chunks. None of them is listed as a file: an array is one
entry of the listing, whose state `array_state` says what is seen of its chunks. Documents are
files like all others, so that whatever rewrites one changes the plate's identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._stores import DOCUMENTS
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.ome_zarr._chunks import check_chunks
from openhcs.plates.formats.ome_zarr._images import ImageFacts, ImageFault, read_images
from openhcs.plates.formats.ome_zarr._plate import InvalidDocuments, read_plate_content
from openhcs.plates.formats.ome_zarr._rows import ZarrRows
from polystore import StorageError
from polystore.omezarr import read_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile
    from openhcs.plates.formats.ome_zarr._plate import PlateContent
    from polystore.omezarr import Group

__all__ = ["OmeZarr"]

_DEPTH = 3
_TRIES = 256
_BESIDE = frozenset({"labels", "tables"})
"""Groups beside the levels of an image, or the rows of a plate, that hold no planes."""
_GROUP_DOCUMENTS = frozenset({"zarr.json", ".zattrs", ".zgroup"})


class OmeZarr:
    """A plate in OME-Zarr 0.4 or 0.5: one image for each field, one row for each of its planes."""

    name = "ome-zarr"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for a group that describes a plate; see `Format`."""
        plates, others = _plates(listing)
        if plates:
            file = f"{plates[0]}/".lstrip("/") + _document(listing, plates[0])
            return Match(certainty=2, why=f"{file} describes a plate", plates=tuple(plates))
        if others:
            return Lack(f"{others[0]}; open the folder of its plate")
        return Lack("no zarr.json or .zattrs that describes a plate, up to three levels down")

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`. Documents are read anyway; a deep look sees all chunks."""
        root, folder = listing.root, _plates(listing)[0][0]
        try:
            version = str(read_group(root / folder).version)
            invalid = InvalidDocuments(version)
            content = read_plate_content(root, folder, invalid, findings)
        except StorageError as error:
            raise PlateError(f"{root / folder} cannot be read: {error}") from error
        paths = list(dict.fromkeys(image.path for image in content.images if image.path))
        arrays = {file.path: file for file in listing.files if file.is_array}
        images = {
            path: _unless_linked(path, facts, arrays)
            for path, facts in read_images(root, paths).items()
        }
        maker = ZarrRows(content, images, arrays, findings)
        rows = maker.rows()
        if deep:
            check_chunks(root, rows, findings)
        invalid.report(findings)
        if all(row.status in {"missing", "unreadable"} for row in rows):
            raise PlateError(_nothing(root, folder, content, findings))
        return Reading(
            version=content.version,
            name=content.name,
            plate_rows=content.rows,
            plate_columns=content.columns,
            channel_names=maker.channel_names,
            rows=rows,
            files=_Classes(listing, folder, maker.used, images, findings).counts(),
        )


class _Classes:
    """Sorts what the listing has into classes, and names what belongs to none."""

    def __init__(
        self,
        listing: Listing,
        folder: str,
        used: set[str],
        images: Mapping[str, ImageFacts | ImageFault],
        findings: FindingLog,
    ) -> None:
        self._listing = listing
        self._prefix = f"{folder}/" if folder else ""
        self._used = used
        self._images = images
        self._findings = findings

    def counts(self) -> FileCounts:
        counts = dict.fromkeys(("planes", "metadata", "ignored", "named"), 0)
        foreign: list[str] = []
        unlisted: dict[str, None] = {}
        results = _is_result_folder(self._listing, self._prefix)
        for file in self._listing.files:
            what = "named"
            if not file.path.startswith(self._prefix):
                what = "ignored" if results else what
            elif file.path in self._used:
                what = "planes"
            elif self._is_metadata(file):
                what = "metadata"
            elif self._is_beside(file):
                what = "ignored"
            elif file.is_array:
                unlisted[file.folder] = None
            if what == "named" and not file.is_array:
                foreign.append(file.path)
            counts[what] += 1
        if unlisted:
            why = ", as nothing else tells what they are" if self._findings.include_unlisted else ""
            self._findings.add(
                "UNLISTED_FILE",
                f"{len(unlisted)} images are in no well's list and were left out{why}: "
                f"{some(unlisted)}.",
                path=next(iter(unlisted)),
            )
        if foreign:
            self._findings.add(
                "UNMATCHED_NAME",
                f"{len(foreign)} files are no part of the OME-Zarr plate: {some(foreign)}.",
                path=foreign[0],
            )
        return FileCounts(**counts)

    def _is_metadata(self, file: ScannedFile) -> bool:
        inside = file.path.removeprefix(self._prefix)
        return not file.is_array and (file.name in DOCUMENTS or inside.startswith("OME/"))

    def _is_beside(self, file: ScannedFile) -> bool:
        """Whether it belongs to coarser levels, labels or tables of an image that has rows."""
        parts = file.path.split("/")
        for end in range(len(parts) - 1, 0, -1):
            if "/".join(parts[:end]) in self._images:
                return file.is_array or parts[end] in _BESIDE
        inside = file.path.removeprefix(self._prefix).split("/")
        return bool(_BESIDE & set(inside[:3]))


def _unless_linked(
    path: str, facts: ImageFacts | ImageFault, arrays: Mapping[str, ScannedFile]
) -> ImageFacts | ImageFault:
    """Refuse an image that was found although the listing has not seen its array."""
    if isinstance(facts, ImageFacts) and f"{path}/{facts.array}" not in arrays:
        return ImageFault("it, or a folder above it, is a link, which is not followed")
    return facts


def _plates(listing: Listing) -> tuple[list[str], list[str]]:
    """Give the folders of plates, and what the stores that are none are."""
    arrays = {file.path for file in listing.files if file.is_array}
    folders = dict.fromkeys(
        file.folder
        for file in listing.files
        if file.name in _GROUP_DOCUMENTS
        and file.path.count("/") <= _DEPTH
        and file.folder not in arrays
    )
    plates: list[str] = []
    others: list[str] = []
    tries = 0
    for folder in sorted(folders, key=lambda path: (path.count("/") + bool(path), path)):
        if any(_is_below(folder, plate) for plate in plates):
            continue
        tries += 1
        if tries > _TRIES:
            break
        try:
            group = read_group(listing.root / folder)
        except StorageError as error:
            others.append(str(error))
            continue
        if "plate" in group.ome or "plate" in group.others:
            plates.append(folder)
        elif not any(_is_below(folder, other) for other in folders if other != folder):
            others.append(f"{group.file} describes {_kind(group)} and no plate")
    return plates, others


def _kind(group: Group) -> str:
    known = {"well": "a well", "multiscales": "an image", "labels": "labels"}
    return next((words for key, words in known.items() if key in group.ome), "something else")


def _is_below(folder: str, other: str) -> bool:
    return folder == other or not other or folder.startswith(f"{other}/")


def _document(listing: Listing, folder: str) -> str:
    paths = {file.path for file in listing.files}
    return "zarr.json" if f"{folder}/zarr.json".lstrip("/") in paths else ".zattrs"


def _is_result_folder(listing: Listing, prefix: str) -> bool:
    """Whether the plate is what a run of openhcs wrote, with its tables and records beside it."""
    beside = prefix.rpartition("plate.zarr/")[0]
    return prefix.endswith("plate.zarr/") and any(
        file.path == f"{beside}run.json" for file in listing.files
    )


def _nothing(root: Path, folder: str, content: PlateContent, findings: FindingLog) -> str:
    said: Sequence[str] = [
        finding.message.rstrip(".")
        for finding in findings.all()
        if finding.code in {"UNREADABLE", "METADATA_UNREADABLE", "PATH_ESCAPE"}
    ]
    listed = f"lists {len(content.images)} images, of which none can be read"
    why = f": {some(said, 2)}" if said else "; copy the whole store again"
    return f"{root / folder} {listed}{why}"
