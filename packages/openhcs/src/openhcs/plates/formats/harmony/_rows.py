"""Rows of a Harmony measurement: its index joined with what is on disk."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._checks import (
    check_contents,
    check_dimensions,
    check_metadata,
    check_mixes,
    dense,
    mark_conflicts,
    report_missing,
)
from openhcs.plates._findings import some
from openhcs.plates._headers import read_headers
from openhcs.plates._plane import PlaneStatus, flim_kind
from openhcs.plates._rows import Row
from openhcs.plates._wells import well_name
from openhcs.plates.formats.harmony._index import OF_CHANNEL, HarmonyImage, HarmonyIndex, taken_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import ScannedFile

__all__ = ["IMAGE_NAME", "HarmonyRows"]

IMAGE_NAME = re.compile(
    r"r(\d{2,})c(\d{2,})f(\d{2,})p(\d{2,})-ch(\d+)sk(\d+)fk(\d+)fl(\d+)(?i:\.tiff?)"
)
_TRIES = 8


class HarmonyRows:
    """Makes the rows of a measurement.

    Parameters
    ----------
    root
        The plate's folder.
    folder
        Folder of the index, relative to it; paths in the index start there.
    index
        What the index says.
    files
        All files but the metadata.
    findings
        Takes what is odd.
    deep
        Whether to open the header of every image.
    """

    def __init__(
        self,
        root: Path,
        folder: str,
        index: HarmonyIndex,
        files: Sequence[ScannedFile],
        findings: FindingLog,
        *,
        deep: bool,
    ) -> None:
        self._root = root
        self._folder = folder
        self._index = index
        self._findings = findings
        self._deep = deep
        self._files = {file.path: file for file in files}
        self._by_case = {file.path.lower(): file for file in files}
        self._renamed: list[str] = []
        self._names: list[str] = []  # of the images of the rows, as the index has them
        self._turned = False
        self._escaped: list[tuple[Row, str]] = []
        self.used: set[str] = set()
        """Paths of the files that have a row; known once `rows` was called."""
        self.channel_numbers: dict[str, int] = {}
        """Channel by the vendor's number."""
        self.channel_names: tuple[str, ...] = ()
        """One per channel."""

    @property
    def unused(self) -> list[ScannedFile]:
        """Files without a row."""
        return [file for path, file in self._files.items() if path not in self.used]

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One for each image of the index; where the index is broken, one for each file that it
            does not name as well.
        """
        images = list(self._index.images)
        if self._index.broken:
            images += self._from_names(images)
        rows = [row for image in images if (row := self._row(image)) is not None]
        self._number(rows)
        self._open(rows)
        if self._renamed:
            self._findings.add(
                "NAME_CASE",
                f"{len(self._renamed)} files differ from the index in upper and lower case: "
                f"{some(self._renamed)}.",
                path=self._renamed[0],
            )
        mark_conflicts(rows, self._findings)
        report_missing((row for row in rows if row.status == PlaneStatus.MISSING), self._findings)
        self._report_errors(rows)
        if self._deep:
            check_contents(self._root, rows, self._findings)
        check_mixes(rows, self.channel_names, self._findings)
        check_dimensions(rows, self.channel_names, self._findings)
        tile_um = {
            (row.acquisition, row.channel): row.width * row.pixel_um_x
            for row in rows
            if row.width > 0
        }
        check_metadata(rows, tile_um, self._findings)
        return rows

    def _from_names(self, images: Sequence[HarmonyImage]) -> list[HarmonyImage]:
        """Make images of files that a broken index no longer names; its channels still hold."""
        like = {image.texts.get("ChannelID"): image for image in reversed(images)}
        listed = {posixpath.join(self._folder, image.texts.get("URL", "")) for image in images}
        found = []
        for path, file in self._files.items():
            match = IMAGE_NAME.fullmatch(file.name)
            if match is not None and path not in listed and file.folder == self._folder:
                names = ("Row", "Col", "FieldID", "PlaneID", "ChannelID", "TimepointID")
                texts = dict(zip(names, match.groups()[:6], strict=True))
                texts = {name: str(int(text)) for name, text in texts.items()}
                texts |= {"URL": file.name, "State": "Ok", "FlimID": str(int(match[8]))}
                known = like.get(texts["ChannelID"])
                if known is not None:
                    texts["ChannelName"] = known.texts.get("ChannelName", "")
                numbers = known.numbers if known is not None else {}
                found.append(
                    HarmonyImage(texts, {k: v for k, v in numbers.items() if k in OF_CHANNEL})
                )
        return found

    def _row(self, image: HarmonyImage) -> Row | None:
        """Make the row of an image; z, t and channel are the vendor's until `_number`."""
        index, texts = self._index, image.texts
        name = texts.get("URL", "").replace("\\", "/")
        try:
            place = image.integer("Row") - 1, image.integer("Col") - 1
            well = well_name(*place)
            numbers = [image.integer(key) for key in ("FieldID", "PlaneID", "ChannelID")]
            flim = image.integer("FlimID", 1)
        except ValueError as error:
            self._findings.add(
                "METADATA_UNREADABLE",
                f"The index places an image {texts.get('id', '')!r} ({name}) nowhere: {error}.",
                path=name or None,
            )
            return None
        row = Row(
            well=well,
            row=place[0],
            col=place[1],
            field=numbers[0],
            z=numbers[1],
            channel=numbers[2],
            kind=flim_kind(flim),
            field_id=texts["FieldID"],
            z_id=texts["PlaneID"],
            channel_id=texts["ChannelID"],
            t_id=texts.get("TimepointID", ""),
            x_um=index.number(image, "PositionX"),
            y_um=-index.number(image, "PositionY"),
            z_um=index.number(image, "PositionZ"),
            pixel_um_y=index.number(image, "ImageResolutionY"),
            pixel_um_x=index.number(image, "ImageResolutionX"),
            channel_name=index.text(image, "ChannelName"),
            excitation_nm=_positive(index.number(image, "MainExcitationWavelength")),
            emission_nm=_positive(index.number(image, "MainEmissionWavelength")),
            exposure_s=index.number(image, "ExposureTime"),
            time_s=taken_at(texts.get("AbsTime", "")),
        )
        if math.isnan(row.z_um):
            row.z_um = index.number(image, "AbsPositionZ")
        if "operetta" in index.instrument.lower():
            self._turn(row, image)
        self._attach(row, name, texts.get("State", "Ok"))
        self._names.append(posixpath.basename(name))
        return row

    def _turn(self, row: Row, image: HarmonyImage) -> None:
        """Apply the rotation between stage and camera, which Operetta leaves to the reader."""
        try:
            (a, b, *_), (c, d, *_), *_ = json.loads(
                self._index.text(image, "OrientationMatrix") or "[]"
            )
            x, y = row.x_um, -row.y_um
            sign = -1.0 if float(d) > 0 else 1.0  # a negative d turns y downward by itself
            row.x_um, row.y_um = float(a) * x + float(b) * y, sign * (float(c) * x + float(d) * y)
        except (ValueError, TypeError):
            return
        if not self._turned:
            self._turned = True
            self._findings.add(
                "ORIENTATION_UNVERIFIED",
                "Positions of an Operetta were turned by its orientation matrix, which was never "
                "compared with images.",
            )

    def _attach(self, row: Row, name: str, state: str) -> None:
        """Join the row with its file."""
        path = posixpath.normpath(posixpath.join(self._folder, name)) if name else ""
        row.path = path
        if re.match(r"[A-Za-z]:", name) or posixpath.isabs(path) or path.split("/")[0] == "..":
            row.status = PlaneStatus.UNREADABLE.value
            row.path = ""
            self._escaped.append((row, name))
            return
        file = self._files.get(path)
        if file is None and (file := self._by_case.get(path.lower())) is not None:
            self._renamed.append(file.path)
        if file is None:
            row.status = PlaneStatus.MISSING.value
        else:
            self.used.add(file.path)
            row.path, row.file_size, row.mtime_ns = file.path, file.size, file.mtime_ns
            if file.size == 0:
                row.status = PlaneStatus.EMPTY.value
        if state.lower() != "ok":
            row.status = PlaneStatus.ERROR_RECORD.value

    def _number(self, rows: Sequence[Row]) -> None:
        """Replace the vendor's numbers by dense ones, and name the channels."""
        matches = [IMAGE_NAME.fullmatch(name) for name in self._names]
        if all(match is not None for match in matches):
            vendor_t = [int(match[6]) for match in matches if match is not None]
        else:
            vendor_t = [int(row.t_id) if row.t_id.isdecimal() else 0 for row in rows]
        fields, planes = dense(row.field for row in rows), dense(row.z for row in rows)
        channels, times = dense(row.channel for row in rows), dense(vendor_t)
        names: dict[int, Counter[str]] = defaultdict(Counter)
        start = min((row.time_s for row in rows if row.time_s == row.time_s), default=math.nan)
        for row, match, time in zip(rows, matches, vendor_t, strict=True):
            said = (row.row + 1, row.col + 1, row.field, row.z, row.channel)
            row.field, row.z = fields[row.field], planes[row.z]
            row.channel, row.t = channels[row.channel], times[time]
            row.time_s -= start
            if row.channel_name:
                names[row.channel][row.channel_name] += 1
            named = tuple(map(int, match.groups()[:5])) if match is not None else said
            if named != said:
                listed = "row {}, column {}, field {}, plane {}, channel {}".format(*said)
                self._odd("LABEL_MISMATCH", f"is listed as {listed}", row)
        for row in rows:
            if row.status == PlaneStatus.EMPTY:
                self._odd("EMPTY_FILE", "has 0 bytes", row)
        for row, name in self._escaped:
            self._odd("PATH_ESCAPE", "is named by the index, but lies outside the plate", row, name)
        spelled: list[str] = []
        for number, channel in channels.items():
            name = names[channel].most_common(1)[0][0] if names[channel] else f"ch{number}"
            spelled.append(name if name not in spelled else f"{name} (ch{number})")
        self.channel_names = tuple(spelled)
        self.channel_numbers = {str(number): channel for number, channel in channels.items()}
        for row in rows:
            row.channel_name = spelled[row.channel]

    def _open(self, rows: Sequence[Row]) -> None:
        """Open one header per channel, or all; the others of a channel are taken to be like it."""
        by_channel: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            if row.status == PlaneStatus.OK:
                by_channel[row.channel].append(row)
        for members in by_channel.values():
            tried = members if self._deep else members[:_TRIES]
            like: Row | None = None
            step = len(tried) if self._deep else 1
            for place in range(0, len(tried), step):
                part = tried[place : place + step]
                self._read_headers(part)
                like = next((row for row in part if row.height > 0), None)
                if like is not None:
                    break
            if like is None:
                continue
            for row in members:
                if row.height < 0 and row.status == PlaneStatus.OK:
                    row.height, row.width, row.dtype = like.height, like.width, like.dtype

    def _read_headers(self, rows: Sequence[Row]) -> None:
        results = read_headers(self._root, [self._files[row.path] for row in rows])
        for row in rows:
            result = results[row.path]
            if isinstance(result, str):
                row.status = PlaneStatus.UNREADABLE.value
                self._odd("UNREADABLE", f"cannot be read: {result}", row)
            else:
                row.height, row.width, row.dtype = result.height, result.width, result.dtype

    def _report_errors(self, rows: Sequence[Row]) -> None:
        failed = Counter(row.well for row in rows if row.status == PlaneStatus.ERROR_RECORD)
        for well, count in failed.items():
            first = next(
                row for row in rows if row.well == well and row.status == PlaneStatus.ERROR_RECORD
            )
            alone = first if count == 1 else None
            self._findings.add(
                "ERROR_RECORD",
                f"The microscope reports {count} failed images in well {well}.",
                well=well,
                field=alone.field if alone else None,
                channel=alone.channel if alone else None,
                z=alone.z if alone else None,
                t=alone.t if alone else None,
                path=alone.path or None if alone else None,
            )

    def _odd(self, code: str, what: str, row: Row, path: str = "") -> None:
        self._findings.add(
            code,
            f"{path or row.path} {what}.",
            well=row.well,
            field=row.field,
            channel=row.channel,
            z=row.z,
            t=row.t,
            path=path or row.path,
        )


def _positive(value: float) -> float:
    return value if value > 0 else math.nan
