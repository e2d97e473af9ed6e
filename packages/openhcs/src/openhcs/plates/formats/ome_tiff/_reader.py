"""OME-TIFF plates, with a companion file or with the metadata in the TIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs._errors import AmbiguousFormatError, PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._tiff import TiffHeaderError
from openhcs.plates._wells import holds_wells, plate_size_for
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.ome_tiff._rows import OmeRows
from openhcs.plates.formats.ome_tiff._sources import (
    IMAGE_NAME,
    Source,
    Sources,
    embedded_xml,
    is_companion,
    is_ome_tiff,
    is_tiff,
    plates_named,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["OmeTiff"]

_DEPTH = 3
_TRIES = 8
_START_BYTES = 16 << 20
"""A plate comes before the images in a document, and so near its beginning."""


class OmeTiff:
    """A plate in OME-TIFF: every plane is a directory of some file, by what the metadata say."""

    name = "ome-tiff"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for OME-XML that describes a plate; see `Format`."""
        companions = _companions(listing)
        if companions:
            known: dict[str, Sequence[str]] = {}
            lack = f"{companions[0].path} describes no plate, but single images"
            for file in companions:
                try:
                    names = _plates_in(listing, file)
                except OSError as error:
                    lack = f"{file.path} cannot be read: {error.strerror or error}"
                else:
                    known |= {file.path: names} if names else {}
            if known:
                several = len({name for names in known.values() for name in names}) > 1
                return Match(
                    certainty=2,
                    why=f"{next(iter(known))} describes a plate",
                    plates=tuple(known) if several else ("",),
                )
            return Lack(lack)
        tried = _carriers(listing)[:_TRIES]
        for file in tried:
            if _plates_of(listing, file):
                return Match(
                    certainty=2 if is_ome_tiff(file) else 1,
                    why=f"the OME-XML in {file.path} describes a plate",
                )
        if tried and is_ome_tiff(tried[0]):
            return Lack(f"the OME-XML in {tried[0].path} describes no plate")
        return Lack("no .companion.ome file, and no TIFF file with OME-XML that describes a plate")

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        sources = Sources(listing, findings)
        listed = list(_documents(listing, sources, findings))
        for source in listed:
            self._report(source, findings)
        names = {plate.name or plate.id for source in listed for plate in source.document.plates}
        if len(names) > 1:
            raise AmbiguousFormatError(
                f"{listing.root} holds {len(names)} plates (OME-TIFF): {some(sorted(names), 8)}; "
                "put each into a folder of its own, or open the companion file of one"
            )
        metadata = {file.path for file in listing.files if is_companion(file)}
        metadata |= {source.file.path for source in listed if not is_tiff(source.file)}
        rest = [file for file in listing.files if file.path not in metadata]
        maker = OmeRows(sources, listed, rest, findings, deep=deep)
        rows = maker.rows()
        if all(row.status in {"missing", "unreadable", "empty"} for row in rows):
            raise PlateError(_nothing(listing, len(rows), findings))
        maker.files.report_unused(IMAGE_NAME, "OME-TIFF")
        size = _plate_size(listed, maker.wells, findings)
        return Reading(
            version=next((s.document.version for s in listed if s.document.version), ""),
            name=next(iter(names), "") or listing.root.name,
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=maker.channel_names,
            rows=rows,
            files=FileCounts(
                planes=len(maker.files.used),
                metadata=len(metadata),
                named=len(rest) - len(maker.files.used),
            ),
        )

    def _report(self, source: Source, findings: FindingLog) -> None:
        path = source.file.path
        if source.document.broken:
            findings.add(
                "METADATA_UNREADABLE",
                f"The OME-XML of {path} breaks off after {len(source.document.images)} images: "
                f"{source.document.broken}.",
                path=path,
            )
        if source.document.odd:
            findings.add(
                "METADATA_INVALID",
                f"The OME-XML of {path} says what cannot be: {some(source.document.odd)}.",
                path=path,
            )


def _documents(listing: Listing, sources: Sources, findings: FindingLog) -> Iterator[Source]:
    """Read the companions; without any, the documents in TIFF files that no other one names."""
    companions = _companions(listing)
    for file in companions:
        source = sources.read(file)
        if source is not None and source.document.plates:
            yield source
    if companions:
        return
    by_path = {file.path: file for file in listing.files}
    covered: set[str] = set()
    absent: dict[str, list[str]] = {}
    for file in _carriers(listing):
        if file.path in covered or not file.size:
            continue
        source = sources.read(file)
        if source is not None and source.document.elsewhere:
            path = sources.path(source, source.document.elsewhere)
            if path in covered:
                continue
            if path not in by_path:
                absent.setdefault(path, []).append(file.path)
                continue
            source = sources.read(by_path[path])
        if source is not None and source.document.plates:
            covered |= {source.file.path, *sources.named_by(source)}
            yield source
    for path, files in absent.items():
        findings.add(
            "METADATA_UNREADABLE",
            f"{some(files, 3)} have their metadata in {path}, which is not there.",
            path=path,
        )


def _companions(listing: Listing) -> list[ScannedFile]:
    found = [f for f in listing.files if is_companion(f) and f.path.count("/") <= _DEPTH]
    chosen = [file for file in found if file.path == listing.entry]
    # what the first says counts: of copies, the one nearest the top
    return chosen or sorted(found, key=lambda file: (file.path.count("/"), file.path))


def _carriers(listing: Listing) -> list[ScannedFile]:
    """Give the TIFF files that may hold metadata: what was opened first, then what is on top."""
    named = [file for file in listing.files if is_ome_tiff(file)]
    found = named or [file for file in listing.files if is_tiff(file)]
    return sorted(
        found, key=lambda file: (file.path != listing.entry, file.path.count("/"), file.path)
    )


def _plates_in(listing: Listing, companion: ScannedFile) -> Sequence[str]:
    """Name the plates that the beginning of a companion describes."""
    with (listing.root / companion.path).open("rb") as stream:
        return plates_named([stream.read(_START_BYTES)])


def _plates_of(listing: Listing, file: ScannedFile) -> Sequence[str]:
    """Name the plates that the document in a TIFF describes, or that of the one it refers to."""
    path = listing.root / file.path
    try:
        text = embedded_xml(path, file.size) if file.size else b""
    except (TiffHeaderError, OSError):
        return []
    if b"BinaryOnly" in text[:4096]:
        return [file.path]  # a part of something; reading says whether the rest is there
    return plates_named([text[:_START_BYTES]])


def _plate_size(
    listed: Sequence[Source], wells: set[tuple[int, int]], findings: FindingLog
) -> tuple[int, int]:
    rows = max(plate.rows for source in listed for plate in source.document.plates)
    columns = max(plate.columns for source in listed for plate in source.document.plates)
    if holds_wells(rows, columns, wells):
        return rows, columns
    size = plate_size_for(wells)
    findings.add(
        "PLATE_SIZE_ASSUMED",
        f"The metadata state no size that holds all wells; {size[0]} x {size[1]} does.",
    )
    return size


def _nothing(listing: Listing, planes: int, findings: FindingLog) -> str:
    said = [f.message.rstrip(".") for f in findings.all() if f.severity == "error"]
    what = f"lists {planes} planes, of which none can be read" if planes else "lists no plane"
    why = f": {some(said, 2)}" if said else "; copy the image files beside it"
    return f"the OME-XML of {listing.root} {what}{why}"
