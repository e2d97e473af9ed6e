"""Rows of a Harmony measurement: its index joined with what is on disk."""

from __future__ import annotations

import json
import math
import posixpath
import re
from typing import TYPE_CHECKING

from openhcs.plates._listed import ListedImages, channel_names
from openhcs.plates._numbers import whole
from openhcs.plates._plane import flim_kind
from openhcs.plates._rows import Row, dense
from openhcs.plates._wells import well_name
from openhcs.plates.formats.harmony._index import OF_CHANNEL, HarmonyImage, HarmonyIndex, taken_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import ScannedFile

__all__ = ["IMAGE_NAME", "HarmonyRows"]

IMAGE_NAME = re.compile(
    r"r(\d{2,9})c(\d{2,9})f(\d{2,9})p(\d{2,9})-ch(\d{1,9})sk(\d{1,9})fk(\d{1,9})fl(\d{1,9})"
    r"(?i:\.tiff?)"
)


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
        self._folder = folder
        self._index = index
        self._findings = findings
        self._names: list[str] = []  # of the images of the rows, as the index has them
        self._turned = False
        self.files = ListedImages(root, files, findings, deep=deep)
        """Which files have a row."""
        self.channel_numbers: dict[str, int] = {}
        """Channel by the vendor's number."""
        self.channel_names: tuple[str, ...] = ()
        """One per channel."""

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One for each image of the index; where the index is broken, or unlisted images are
            wanted, one for each file that it does not name as well.
        """
        images = list(self._index.images)
        if self._index.broken or self._findings.include_unlisted:
            unlisted = self._from_names(images)
            images += unlisted
            if not self._index.broken:
                names = (image.texts["URL"] for image in unlisted)
                self.files.included |= {posixpath.join(self._folder, name) for name in names}
        rows = [row for image in images if (row := self._row(image)) is not None]
        self._number(rows)
        self.files.check(rows, self.channel_names)
        return rows

    def _from_names(self, images: Sequence[HarmonyImage]) -> list[HarmonyImage]:
        """Make images of files that the index does not name; its channels still hold."""
        like = {image.texts.get("ChannelID"): image for image in reversed(images)}
        found = []
        for file in self.files.unlisted(
            self._folder, (image.texts.get("URL", "") for image in images)
        ):
            match = IMAGE_NAME.fullmatch(file.name)
            if match is not None and file.folder == self._folder:
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
        self.files.join(row, self._folder, name, failed=texts.get("State", "Ok").lower() != "ok")
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

    def _number(self, rows: Sequence[Row]) -> None:
        """Replace the vendor's numbers by dense ones, and name the channels."""
        matches = [IMAGE_NAME.fullmatch(name) for name in self._names]
        if all(match is not None for match in matches):
            vendor_t = [int(match[6]) for match in matches if match is not None]
        else:
            vendor_t = [whole(row.t_id) or 0 for row in rows]
        fields, planes = dense(row.field for row in rows), dense(row.z for row in rows)
        channels, times = dense(row.channel for row in rows), dense(vendor_t)
        start = min((row.time_s for row in rows if row.time_s == row.time_s), default=math.nan)
        for row, match, time in zip(rows, matches, vendor_t, strict=True):
            said = (row.row + 1, row.col + 1, row.field, row.z, row.channel)
            row.field, row.z = fields[row.field], planes[row.z]
            row.channel, row.t = channels[row.channel], times[time]
            row.time_s -= start
            named = tuple(map(int, match.groups()[:5])) if match is not None else said
            if named != said:
                listed = "row {}, column {}, field {}, plane {}, channel {}".format(*said)
                self._odd("LABEL_MISMATCH", f"is listed as {listed}", row)
        self.channel_names = channel_names(
            [(row.channel, row.channel_name) for row in rows], list(map(str, channels))
        )
        self.channel_numbers = {str(number): channel for number, channel in channels.items()}
        for row in rows:
            row.channel_name = self.channel_names[row.channel]

    def _odd(self, code: str, what: str, row: Row) -> None:
        self._findings.add_for(row, code, f"{row.path} {what}.")


def _positive(value: float) -> float:
    return value if value > 0 else math.nan
