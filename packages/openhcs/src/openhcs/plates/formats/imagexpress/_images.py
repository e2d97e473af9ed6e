"""Images of an ImageXpress plate, whose headers are opened only where they are needed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._checks import report_white
from openhcs.plates._headers import read_headers
from openhcs.plates._missing import report_pages
from openhcs.plates._plane import PlaneKind, PlaneStatus
from openhcs.plates.formats.imagexpress._metaseries import (
    MetaSeries,
    metaseries_damage,
    parse_metaseries,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._tiff import TiffHeader
    from openhcs.plates.formats.imagexpress._names import ImageFile

    Place: TypeAlias = tuple[int, str, int, int]

__all__ = ["Image", "Images"]

_SLACK = 1024
"""Bytes by which uncompressed files of one kind differ: their descriptions vary."""


@dataclass(slots=True)
class Image:
    """A file with its row, and what its header says once it was opened."""

    file: ImageFile
    row: Row
    header: TiffHeader | None = None
    meta: MetaSeries | None = None
    opened: bool = False

    @property
    def usable(self) -> bool:
        """Whether nothing speaks against its pixels."""
        return self.row.status == PlaneStatus.OK

    @property
    def channel(self) -> tuple[int, int]:
        """Its acquisition and wavelength."""
        return (self.row.acquisition, self.file.wave)

    @property
    def place(self) -> Place:
        """Its acquisition, well, site and wavelength."""
        return (self.row.acquisition, self.file.well, self.file.site, self.file.wave)

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Prefer sound images to damaged, planes to projections, early to late, low to high."""
        row = self.row
        return (not self.usable, row.kind != PlaneKind.PLANE, row.t, self.file.step or 0)


class Images:
    """The images of a plate.

    Parameters
    ----------
    root
        The plate's folder.
    images
        One for each file.
    """

    def __init__(self, root: Path, images: Sequence[Image]) -> None:
        self._root = root
        self._images = images
        self._odd: list[tuple[str, str, Image]] = []  # named once z is numbered

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def open(self, images: Iterable[Image]) -> None:
        """Read the headers of some images, of each once."""
        chosen = [image for image in images if not image.opened and image.file.file.size > 0]
        results = read_headers(self._root, [image.file.file for image in chosen])
        for image in chosen:
            result = results[image.row.path]
            image.opened = True
            if isinstance(result, str):
                image.row.status = PlaneStatus.UNREADABLE.value
                self._odd.append(("UNREADABLE", f"cannot be read: {result}.", image))
                continue
            image.header = result
            if b"<!ENTITY" in result.description:
                self._odd.append(("XML_ENTITY", "declares an entity in its description.", image))
            elif broken := metaseries_damage(result.description):
                said = f"has a description that is no XML: {broken}."
                self._odd.append(("METADATA_UNREADABLE", said, image))
            elif result.description:
                image.meta = parse_metaseries(result.description)
                self._check_label(image)

    def anchors(self) -> list[Image]:
        """Give one usable image of each well, field and channel: positions are per field."""
        anchors: dict[Place, Image] = {}
        for image in self._images:
            if image.usable:
                best = anchors.get(image.place)
                if best is None or _ease(image) < _ease(best):
                    anchors[image.place] = image
        return list(anchors.values())

    def suspicious(self) -> list[Image]:
        """Give uncompressed files whose size is not that of their channel."""
        usual: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for image in self._images:
            if image.header is not None and image.header.compression == 1:
                usual[image.channel][image.row.file_size] += 1
        sizes = {channel: counts.most_common(1)[0][0] for channel, counts in usual.items()}
        return [
            image
            for image in self._images
            if (size := sizes.get(image.channel)) is not None
            and abs(image.row.file_size - size) > _SLACK
        ]

    def report(self, findings: FindingLog) -> None:
        """Name what is odd about files, by the places that their rows have now."""
        for image in self._images:
            if image.row.status == PlaneStatus.EMPTY:
                self._odd.append(("EMPTY_FILE", "has 0 bytes.", image))
        for code, what, image in self._odd:
            row = image.row
            findings.add_for(row, code, f"{row.path} {what}")
        headers = [(i.row.path, i.header) for i in self._images if i.header is not None]
        report_pages([path for path, header in headers if header.more], findings)
        report_white([path for path, header in headers if header.photometric == 0], findings)

    def _check_label(self, image: Image) -> None:
        label = image.meta.label if image.meta else None
        named = (image.file.well, image.file.site)
        if label is not None and (
            label[0] != named[0] or (label[1] != named[1] and "s" in image.file.marked)
        ):
            said = (
                f"is named well {named[0]} site {named[1]}, but says that it was taken at "
                f"well {label[0]} site {label[1]}."
            )
            self._odd.append(("LABEL_MISMATCH", said, image))


def _ease(image: Image) -> tuple[bool, bool, int, int]:
    """Prefer planes to projections, and what is open already to what is not."""
    return (image.row.kind != PlaneKind.PLANE, not image.opened, image.row.t, image.file.step or 0)
