"""Files of an OME-TIFF plate: which hold metadata, and which are meant by a name."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._tiff import TiffHeaderError, count_pages, read_tiff_header
from openhcs.plates._xml import XmlEntityError, XmlError, read_prolog, report_unread
from openhcs.plates.formats.ome_tiff._xml import OmeDocument, read_ome_xml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = [
    "IMAGE_NAME",
    "Source",
    "Sources",
    "embedded_xml",
    "is_companion",
    "is_ome_tiff",
    "is_tiff",
    "plates_named",
]

_COMPANION = ".companion.ome"
IMAGE_NAME = re.compile(r".+\.ome\.(?i:tiff?|tf[28]|btf)")
_LARGEST = 2 << 30
_MOST_TEXT_BYTES = 1 << 30


@dataclass(slots=True, kw_only=True)
class Source:
    """A document and the file that it is in.

    Parameters
    ----------
    file
        The file, as the folder lists it.
    document
        What it says.
    """

    file: ScannedFile
    document: OmeDocument

    @property
    def is_companion(self) -> bool:
        """Whether the file holds metadata and no image."""
        return is_companion(self.file)


@dataclass(slots=True)
class Sources:
    """Reads documents, and finds the files that they name.

    Parameters
    ----------
    listing
        All files.
    findings
        Takes what cannot be read.
    """

    listing: Listing
    findings: FindingLog
    renamed: dict[str, str] = field(default_factory=dict)
    _files: dict[str, ScannedFile] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _uuids: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self._files = {file.path: file for file in self.listing.files}

    def read(self, file: ScannedFile) -> Source | None:
        """Read the document of a file; None where it has none, which is named if it should."""
        path = self.listing.root / file.path
        if file.size > _LARGEST and not is_tiff(file):
            self.findings.add("TOO_LARGE", f"{file.path} has {file.size} bytes.", path=file.path)
            return None
        try:
            text = embedded_xml(path, file.size) if is_tiff(file) else path
            if not text:
                return None
            return Source(file=file, document=read_ome_xml(text))
        except XmlEntityError as error:
            self.findings.add("XML_ENTITY", f"{file.path} was not read: {error}.", path=file.path)
        except OSError as error:
            report_unread(self.findings, file.path, error)
        except TiffHeaderError:
            return None  # no TIFF file: named as an image that is not listed
        return None

    def name_of(self, source: Source, file: str, uuid: str) -> str:
        """Find the file that a document means.

        Parameters
        ----------
        source
            The document.
        file, uuid
            Name and identifier, as it has them.

        Returns
        -------
        str
            The name, from the document's folder on: the one that was asked for, unless the file
            has another name by now and is known by its identifier.
        """
        if not file and not uuid:
            return "" if source.is_companion else source.file.name
        path = self.path(source, file)
        if path in self._files or (file and not uuid):
            return file
        own = source.document.uuid
        if uuid and uuid == own and not source.is_companion:
            found = source.file.path
        else:
            found = self._by_uuid().get(uuid, "")
        if not found and not source.is_companion and len(self._names(source)) == 1:
            found = source.file.path  # all of the document is about one file: the one it is in
        if not found:
            return file
        self.renamed[file or uuid] = found
        return posixpath.relpath(found, source.file.folder or ".")

    def path(self, source: Source, name: str) -> str:
        """Give the path of a file that a document names, from the listed folder on."""
        return posixpath.normpath(posixpath.join(source.file.folder, name.replace("\\", "/")))

    def named_by(self, source: Source) -> set[str]:
        """Give the paths of all files that a document places planes in."""
        images = source.document.images.values()
        names = {(data.file, data.uuid) for image in images for data in image.data}
        return {self.path(source, self.name_of(source, *name)) for name in names}

    def directories(self, source: Source, file: str, uuid: str) -> int:
        """Count the directories of the file that a document means; 1 where it cannot be read."""
        path = self.path(source, self.name_of(source, file, uuid))
        known = self._files.get(path)
        if known is None or known.size == 0:
            return 1
        if path not in self._counts:
            try:
                self._counts[path] = count_pages(self.listing.root / path, size=known.size)
            except (TiffHeaderError, OSError):
                self._counts[path] = 1
        return self._counts[path]

    def report(self) -> None:
        """Name the files that are called otherwise than the metadata call them."""
        if self.renamed:
            pairs = (f"{old} is {new}" for old, new in self.renamed.items())
            self.findings.add(
                "FILE_RENAMED",
                f"{len(self.renamed)} files have other names than their metadata say, and were "
                f"known by their identifiers: {some(pairs)}.",
                path=next(iter(self.renamed.values())),
            )

    def _names(self, source: Source) -> set[str]:
        images = source.document.images.values()
        return {data.file for image in images for data in image.data if data.file}

    def _by_uuid(self) -> dict[str, str]:
        """Ask all OME-TIFF files who they are; only where a name leads nowhere."""
        if self._uuids is None:
            self._uuids = {}
            for file in self.listing.files:
                if is_ome_tiff(file) and file.size:
                    try:
                        text = embedded_xml(self.listing.root / file.path, file.size)
                        uuid = read_prolog(text).attributes.get("UUID", "") if text else ""
                    except (TiffHeaderError, XmlError, XmlEntityError, OSError):
                        continue
                    self._uuids.setdefault(uuid.lower().removeprefix("urn:uuid:"), file.path)
        return self._uuids


def embedded_xml(path: Path, size: int) -> bytes:
    """Give the OME-XML in a TIFF file; empty where its description is another text.

    Raises
    ------
    TiffHeaderError
        If it is no TIFF file.
    OSError
        If it cannot be read.
    """
    header = read_tiff_header(path, size=size, most_text_bytes=_MOST_TEXT_BYTES, pixels=False)
    text = header.description.lstrip(b"\xef\xbb\xbf \r\n\t")
    start = text[:4096]
    return text if start.startswith(b"<") and b"OME" in start else b""


def is_companion(file: ScannedFile) -> bool:
    """Whether a file is named as companion files are."""
    return file.path.lower().endswith(_COMPANION) and not file.is_array


def is_ome_tiff(file: ScannedFile) -> bool:
    """Whether a file is named as OME-TIFF files are."""
    return IMAGE_NAME.fullmatch(file.name) is not None and not file.is_array


def is_tiff(file: ScannedFile) -> bool:
    """Whether a file is named as TIFF files are."""
    return not file.is_array and (
        is_ome_tiff(file) or file.path.lower().endswith((".tif", ".tiff", ".tf8", ".btf"))
    )


def plates_named(texts: Iterable[bytes]) -> Sequence[str]:
    """Give identifier and name of each plate that the beginnings of documents name."""
    found: dict[str, None] = {}
    for text in texts:
        for tag in re.findall(rb"<(?:\w+:)?Plate\s[^>]*>", text):
            parts = [
                match[1].decode("utf-8", "replace")
                for key in (rb"ID", rb"Name")
                if (match := re.search(rb"\b" + key + rb"\s*=\s*[\"']([^\"']*)", tag))
            ]
            found[" ".join(parts)] = None
    return list(found)
