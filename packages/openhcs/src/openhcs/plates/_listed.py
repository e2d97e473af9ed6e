"""Rows of images that a vendor's metadata list: joined with the files on disk, and opened."""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from openhcs.plates._checks import (
    check_contents,
    check_dimensions,
    check_metadata,
    check_mixes,
    report_white,
)
from openhcs.plates._duplicates import mark_conflicts, mark_shared
from openhcs.plates._findings import some
from openhcs.plates._headers import read_headers, read_page_headers
from openhcs.plates._missing import add_missing, report_missing, report_pages
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._texts import can_be_a_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._headers import HeaderResult
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import ScannedFile
    from openhcs.plates._tiff import TiffHeader

__all__ = ["ListedImages", "channel_names"]

_TRIES = 8
_NAMED = 60
_SLACK = 1024
"""Bytes by which uncompressed files of one kind differ: their descriptions vary."""
_MISSING = PlaneStatus.MISSING.value


class ListedImages:
    """Joins the rows of a reader with files, and makes the checks that follow from it.

    Parameters
    ----------
    root
        The plate's folder.
    files
        All files but the metadata.
    findings
        Takes what is odd.
    deep
        Whether to open the header of every image.
    converted
        Endings, with the dot, that a file may have in place of the one that is listed: where
        images are converted afterwards, and the metadata are not.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[ScannedFile],
        findings: FindingLog,
        *,
        deep: bool,
        converted: Sequence[str] = (),
    ) -> None:
        self._root = root
        self._findings = findings
        self._deep = deep
        self._converted = tuple(converted)
        self._files = {file.path: file for file in files}
        self._loosely = {_loose(file.path): file for file in files}
        self._renamed: list[str] = []
        self._escaped: list[tuple[Row, str]] = []
        self._nameless: list[tuple[Row, str]] = []
        self.used: set[str] = set()
        """Paths of the files that have a row."""
        self.included: set[str] = set()
        """Paths of those that the index does not list, and that are used as their names say."""
        self.headers: dict[str, TiffHeader] = {}
        """Headers that were opened, of files of one image, by path."""

    def has(self, folder: str, name: str) -> bool:
        """Say whether there is a file as the metadata name it; arguments as for `join`."""
        path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
        return path in self._files or _loose(path) in self._loosely

    @property
    def unused(self) -> list[ScannedFile]:
        """Files without a row."""
        return [file for path, file in self._files.items() if path not in self.used]

    def unlisted(self, folder: str, names: Iterable[str]) -> list[ScannedFile]:
        """Give the files that no name in an index means, as `join` would take the names.

        Parameters
        ----------
        folder
            Of the metadata, relative to the plate.
        names
            All that the index names.
        """
        meant: set[str] = set()
        for name in names:
            path = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
            stem = path.rpartition(".")[0]
            # An image and what was converted of it are one.
            for other in (path, *(f"{stem}{ending}" for ending in self._converted)):
                if (found := self._look(other)) is not None:
                    meant.add(found[0].path)
        return [file for path, file in self._files.items() if path not in meant]

    def join(self, row: Row, folder: str, name: str, *, failed: bool = False) -> None:
        """Give a row its file, and its status by it.

        Parameters
        ----------
        row
            Its path, size, time and status are set; without a file it is ``missing``.
        folder
            Of the metadata, relative to the plate.
        name
            The file as the metadata name it, with either kind of slash; empty without.
        failed
            Whether the metadata say that the image failed.
        """
        file = self._files.get(f"{folder}/{name}" if folder else name)
        if file is None:
            # Anything but a plain name of a file that is there.
            name = name.replace("\\", "/")
            path = posixpath.normpath(posixpath.join(folder, name)) if name else ""
            row.path = path
            if not can_be_a_name(name):
                row.status = PlaneStatus.UNREADABLE.value
                row.path = ""
                self._nameless.append((row, name))
                return
            if re.match(r"[A-Za-z]:", name) or posixpath.isabs(path) or path.split("/")[0] == "..":
                row.status = PlaneStatus.UNREADABLE.value
                row.path = ""
                self._escaped.append((row, name))
                return
            file = self._find(path)
        if file is None:
            row.status = _MISSING
        else:
            self.used.add(file.path)
            row.path, row.file_size, row.mtime_ns = file.path, file.size, file.mtime_ns
            if file.size == 0:
                row.status = PlaneStatus.EMPTY.value
        if failed:
            row.status = PlaneStatus.ERROR_RECORD.value

    def check(
        self, rows: list[Row], channel_names: Sequence[str], *, complete: bool = False
    ) -> None:
        """Open headers and make every check; called once, when all rows have their numbers.

        Parameters
        ----------
        rows
            All rows; shape, element type and status are completed.
        channel_names
            By channel.
        complete
            Whether nothing lists the images, so that each well is expected to have what any has.
        """
        mark_shared(rows, self._findings)
        empty = [row for row in rows if row.status == PlaneStatus.EMPTY]
        for same in _by_file(empty):
            self._odd("EMPTY_FILE", "has 0 bytes", same)
        for row, name in self._escaped:
            what = "is named by the index, but lies outside the plate"
            self._odd("PATH_ESCAPE", what, [row], name)
        for row, name in self._nameless:
            what = "is named by the index, and can be no file's name"
            self._odd("METADATA_UNREADABLE", what, [row], ascii(name[:_NAMED])[1:-1])
        self._open(rows)
        if self._renamed:
            self._findings.add(
                "NAME_CASE",
                f"{len(self._renamed)} files differ from the index in upper and lower case, or "
                f"in how accents are stored: {some(self._renamed)}.",
                path=self._renamed[0],
            )
        inverted = [path for path, header in self.headers.items() if header.photometric == 0]
        report_white(inverted, self._findings)
        paged = {row.path for row in rows if row.page > 0}
        report_pages(
            [path for path, header in self.headers.items() if header.more and path not in paged],
            self._findings,
        )
        mark_conflicts(rows, self._findings)
        self._place_included(rows)
        if complete:
            _add_expected(rows, self._findings)
        report_missing((row for row in rows if row.status == PlaneStatus.MISSING), self._findings)
        self._report_errors(rows)
        if self._deep:
            check_contents(self._root, rows, self._findings)
        check_mixes(rows, channel_names, self._findings)
        check_dimensions(rows, channel_names, self._findings)
        tile_um = {
            (row.acquisition, row.channel): row.width * row.pixel_um_x
            for row in rows
            if row.width > 0
        }
        check_metadata(rows, tile_um, self._findings)

    def report_unused(
        self, pattern: re.Pattern[str], vendor: str, told: Collection[str] = ()
    ) -> None:
        """Name the files without a row: images that are not listed, and what is no image.

        Parameters
        ----------
        pattern
            Of the names of images.
        vendor
            Who names files so.
        told
            Paths of files that are named already.
        """
        unused = [file for file in self.unused if file.path not in told]
        if self.included:
            included = sorted(self.included)
            self._findings.add(
                "UNLISTED_FILE",
                f"{len(included)} images are not in the index and are used as what their names "
                f"say: {some(included)}.",
                path=included[0],
                decided="Compare them with the others: no metadata say how they were taken.",
            )
        unlisted = [file.path for file in unused if pattern.fullmatch(file.name)]
        if unlisted:
            why = (
                ", as this format does not tell by name and folder alone what they are"
                if self._findings.include_unlisted
                else ""
            )
            self._findings.add(
                "UNLISTED_FILE",
                f"{len(unlisted)} images are not in the index and were left out{why}: "
                f"{some(unlisted)}.",
                path=unlisted[0],
            )
        foreign = [file.path for file in unused if not pattern.fullmatch(file.name)]
        if foreign:
            self._findings.add(
                "UNMATCHED_NAME",
                f"{len(foreign)} files are not named as {vendor} names files: {some(foreign)}.",
                path=foreign[0],
            )

    def _find(self, path: str) -> ScannedFile | None:
        found = self._look(path)
        if found is None:
            return None
        file, renamed = found
        if renamed:
            self._renamed.append(file.path)
        return file

    def _look(self, path: str) -> tuple[ScannedFile, bool] | None:
        """Give the file that a path means, and whether it is written otherwise; see `_loose`."""
        stem = path.rpartition(".")[0]
        for name in (path, *(f"{stem}{ending}" for ending in self._converted)):
            if (file := self._files.get(name)) is not None:
                return file, False
            if (file := self._loosely.get(_loose(name))) is not None:
                return file, True
        return None

    def _place_included(self, rows: Sequence[Row]) -> None:
        """Give images that the index does not list the place of their field, where it has one."""
        if not self.included:
            return
        placed = {
            (row.acquisition, row.well, row.field): row
            for row in rows
            if row.path not in self.included and not math.isnan(row.x_um + row.y_um)
        }
        for row in rows:
            near = placed.get((row.acquisition, row.well, row.field))
            if near is not None and row.path in self.included and math.isnan(row.x_um + row.y_um):
                row.x_um, row.y_um = near.x_um, near.y_um

    def _open(self, rows: Sequence[Row]) -> None:
        """Open three headers per channel, or all; the others are taken to be like them.

        Where the three differ, all are opened: the odd one may be any of them.
        """
        usable = [row for row in rows if row.status == PlaneStatus.OK]
        if self._deep:
            self._read_headers(usable)
            return
        by_channel: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in usable:
            by_channel[row.channel, row.kind].append(row)
        for members in by_channel.values():
            like: Row | None = None
            for row in members[:_TRIES]:
                self._read_headers([row])
                if row.height > 0:
                    like = row
                    break
            if like is None:
                continue
            for row in (members[len(members) // 2], members[-1]):
                if _unopened(row):
                    self._read_headers([row])
            kinds = {(row.height, row.width, row.dtype) for row in members if row.height > 0}
            if len(kinds) > 1:
                self._read_headers([row for row in members if _unopened(row)])
                continue
            self._read_headers(self._odd_sized(like, members))
            for row in members:
                if row.height < 0 and row.status == PlaneStatus.OK:
                    row.height, row.width, row.dtype = like.height, like.width, like.dtype

    def _odd_sized(self, like: Row, members: Sequence[Row]) -> list[Row]:
        """Uncompressed files whose size is not the usual one of their channel."""
        header = self.headers.get(like.path)
        if header is None or header.compression != 1:
            return []
        usual = Counter(row.file_size for row in members).most_common(1)[0][0]
        return [
            row
            for row in members
            if row.height < 0 and row.status == PlaneStatus.OK
            if abs(row.file_size - usual) > _SLACK
        ]

    def _read_headers(self, rows: Sequence[Row]) -> None:
        by_file = _by_file(rows)
        alone = [same[0] for same in by_file if len(same) == 1 and same[0].page == 0]
        first = read_headers(self._root, [self._files[row.path] for row in alone])
        self.headers |= {p: header for p, header in first.items() if not isinstance(header, str)}
        for same in by_file:
            path = same[0].path
            headers = {0: first[path]} if path in first else self._read_pages(same)
            lost: dict[str, list[Row]] = defaultdict(list)
            for row in same:
                header = headers[row.page]
                if isinstance(header, str):
                    row.status = PlaneStatus.UNREADABLE.value
                    lost[header].append(row)
                else:
                    row.height, row.width, row.dtype = header.height, header.width, header.dtype
            if lost:
                unreadable = [row for rows in lost.values() for row in rows]
                self._odd("UNREADABLE", f"cannot be read: {'; '.join(lost)}", unreadable)

    def _read_pages(self, rows: Sequence[Row]) -> dict[int, HeaderResult]:
        pages = sorted({row.page for row in rows})
        return read_page_headers(self._root, self._files[rows[0].path], pages)

    def _report_errors(self, rows: Sequence[Row]) -> None:
        failed: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row.status == PlaneStatus.ERROR_RECORD:
                failed[row.well].append(row)
        for well, lost in failed.items():
            alone = lost[0] if len(lost) == 1 else None
            self._findings.add(
                "ERROR_RECORD",
                f"The microscope reports {len(lost)} failed images in well {well}.",
                well=well,
                field=alone.field if alone else None,
                channel=alone.channel if alone else None,
                z=alone.z if alone else None,
                t=alone.t if alone else None,
                path=alone.path or None if alone else None,
            )

    def _odd(self, code: str, what: str, rows: Sequence[Row], path: str = "") -> None:
        """Name something odd of a file, which concerns one row or several."""
        row = rows[0]
        with_it = f"; it is the file of {len(rows)} planes" if len(rows) > 1 else ""
        self._findings.add(
            code,
            f"{path or row.path} {what}{with_it}.",
            well=_same(rows, "well"),
            field=_same(rows, "field"),
            channel=_same(rows, "channel"),
            z=_same(rows, "z"),
            t=_same(rows, "t"),
            path=path or row.path,
        )


def _loose(path: str) -> str:
    """Give what paths are compared by that are not alike letter by letter.

    Copies change the case of names, and the way in which accents are stored: some file systems and
    programs take letters and accents apart.
    """
    return unicodedata.normalize("NFC", path).lower()


def _unopened(row: Row) -> bool:
    return row.height < 0 and row.status == PlaneStatus.OK


def _by_file(rows: Sequence[Row]) -> list[list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.path].append(row)
    return list(found.values())


def _same(rows: Sequence[Row], name: str) -> Any:
    values = {getattr(row, name) for row in rows}
    return values.pop() if len(values) == 1 else None


def _add_expected(rows: list[Row], findings: FindingLog) -> None:
    """Add rows of images that other wells and fields have."""
    placed: dict[tuple[int, str, int], Row] = {}
    ids: dict[tuple[str, int], str] = {}
    for row in rows:
        placed.setdefault((row.acquisition, row.well, row.field), row)
        for name in ("field", "z", "t"):
            ids.setdefault((name, getattr(row, name)), getattr(row, f"{name}_id"))

    def complete(row: Row, example: Row) -> None:
        near = placed.get((row.acquisition, row.well, row.field))
        if near is not None:
            row.x_um, row.y_um = near.x_um, near.y_um
        row.channel_name = example.channel_name
        row.pixel_um_y, row.pixel_um_x = example.pixel_um_y, example.pixel_um_x
        row.excitation_nm, row.emission_nm = example.excitation_nm, example.emission_nm
        for name in ("field", "z", "t"):
            setattr(row, f"{name}_id", ids[name, getattr(row, name)])

    add_missing(rows, complete, findings)


def channel_names(said: Sequence[tuple[int, str]], numbers: Sequence[str]) -> tuple[str, ...]:
    """Give each channel one name, none twice.

    Parameters
    ----------
    said
        Channel and a name that metadata give it, as often as they do; an empty name says nothing.
    numbers
        The vendor's number of each channel, for one that has no name, or that of another.

    Returns
    -------
    tuple
        By channel: the most frequent name.
    """
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for channel, name in said:
        if name:
            counts[channel][name] += 1
    spelled: list[str] = []
    for channel, number in enumerate(numbers):
        name = counts[channel].most_common(1)[0][0] if counts[channel] else f"ch{number}"
        spelled.append(name if name not in spelled else f"{name} (ch{number})")
    return tuple(spelled)
