"""Rows of a Yokogawa measurement: its records numbered, with what the settings say."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

from openhcs.plates._listed import ListedImages, channel_names
from openhcs.plates._missing import absent_rows
from openhcs.plates._plane import PlaneKind, PlaneStatus
from openhcs.plates._rows import Row, dense
from openhcs.plates._wells import well_name
from openhcs.plates.formats.yokogawa._names import disagreement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates.formats.yokogawa._records import Record
    from openhcs.plates.formats.yokogawa._settings import Settings

__all__ = ["YokogawaRows"]

_KINDS = {
    "maximum": PlaneKind.MAX,
    "minimum": PlaneKind.MIN,
    "sum": PlaneKind.SUM,
    "average": PlaneKind.MEAN,
    "mean": PlaneKind.MEAN,
}


class YokogawaRows:
    """Makes the rows of a measurement.

    Parameters
    ----------
    records
        As listed, failures among them.
    settings
        Of plate and channels.
    folder
        Of the list, relative to the plate.
    files
        Joins rows with files.
    findings
        Takes what is odd.
    """

    def __init__(
        self,
        records: Sequence[Record],
        settings: Settings,
        folder: str,
        files: ListedImages,
        findings: FindingLog,
    ) -> None:
        self._images = [record for record in records if not record.failed]
        self._failures = [record for record in records if record.failed]
        self._settings = settings
        self._folder = folder
        self._files = files
        self._findings = findings
        self.channel_numbers: tuple[int, ...] = ()
        """The vendor's number, by channel; those that have an image."""
        self.channel_names: tuple[str, ...] = ()
        """By channel."""

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One for each image that is listed, and one for each that failed.
        """
        images = self._images
        fields = dense(image.field or 1 for image in images)
        depths = dense(image.z or 1 for image in images if not image.processing)
        channels = dense(image.channel or 1 for image in images)
        times = _times(images)
        self.channel_numbers = tuple(channels)
        self.channel_names = channel_names(
            [(channel, self._settings.channel(n).name) for n, channel in channels.items()],
            list(map(str, channels)),
        )
        start = min((t for t in map(_seconds, images) if t == t), default=math.nan)
        rows = []
        for image in images:
            channel = channels[image.channel or 1]
            row = self._row(image, channel)
            row.field = fields[image.field or 1]
            row.z = 0 if image.processing else depths[image.z or 1]
            row.t = times[row.well, image.timeline or 1, image.time_point or 1]
            row.time_s = _seconds(image) - start
            self._files.join(row, self._folder, image.name)
            if odd := disagreement(image, self._settings.columns):
                self._findings.add_for(row, "LABEL_MISMATCH", f"{row.path} is named for {odd}.")
            rows.append(row)
        rows += self._failed(rows)
        self._files.check(rows, self.channel_names)
        return rows

    def _row(self, image: Record, channel: int) -> Row:
        said = self._settings.channel(image.channel or 1)
        kind = PlaneKind.PLANE
        if image.processing:
            kind = _KINDS.get(image.processing.lower(), PlaneKind.UNKNOWN)
        return Row(
            well=well_name(image.row, image.col),
            row=image.row,
            col=image.col,
            channel=channel,
            kind=kind.value,
            x_um=image.x_um,
            y_um=-image.y_um,
            z_um=image.z_um,
            pixel_um_y=said.pixel_um_y,
            pixel_um_x=said.pixel_um_x,
            channel_name=self.channel_names[channel],
            excitation_nm=said.excitation_nm,
            emission_nm=said.emission_nm,
            exposure_s=said.exposure_s,
            field_id=_text(image.field),
            channel_id=_text(image.channel),
            z_id=_text(image.z),
            t_id=_text(image.time_point),
        )

    def _failed(self, rows: Sequence[Row]) -> list[Row]:
        """Make rows of what failures cost: planes that the others lead one to expect.

        A failure names its well, and often no more, and the images that it cost are not listed at
        all. In a well that reports one, those are named as failed which a channel has in other
        wells and fields.
        """
        if not self._failures:
            return []
        counts = Counter((failure.row, failure.col) for failure in self._failures)
        wells = {well_name(*place): place for place in sorted(counts)}

        def like(row: Row, example: Row) -> None:
            row.channel_name = example.channel_name
            row.pixel_um_y, row.pixel_um_x = example.pixel_um_y, example.pixel_um_x

        lost = absent_rows(rows, {0: wells}, PlaneStatus.ERROR_RECORD, like)
        for well in sorted(wells.keys() - {row.well for row in lost}):
            self._findings.add(
                "ERROR_RECORD",
                f"The microscope reports {counts[wells[well]]} failures in well {well}, of which "
                "all images are there all the same.",
                well=well,
            )
        return lost


def _times(images: Iterable[Record]) -> dict[tuple[str, int, int], int]:
    """Give our time point for each well, timeline and number of the vendor.

    Timelines count for themselves. Those that share a well are put in one order by the clock; a
    group that shares none with another starts from 0.
    """
    taken: dict[tuple[int, int], tuple[float, int, int]] = {}
    of_well: dict[str, set[int]] = defaultdict(set)
    keys: set[tuple[str, int, int]] = set()
    for image in images:
        timeline, point = image.timeline or 1, image.time_point or 1
        well = well_name(image.row, image.col)
        of_well[well].add(timeline)
        keys.add((well, timeline, point))
        clock = _seconds(image)
        mark = (math.inf if math.isnan(clock) else clock, point, timeline)
        taken[timeline, point] = min(mark, taken.get((timeline, point), mark))
    groups: list[set[int]] = []
    for timelines in of_well.values():
        joined = set(timelines).union(*(group for group in groups if group & timelines))
        groups = [group for group in groups if not group & timelines] + [joined]
    ranks = {
        key: rank
        for group in groups
        for rank, key in enumerate(
            sorted((key for key in taken if key[0] in group), key=taken.__getitem__)
        )
    }
    return {(well, timeline, point): ranks[timeline, point] for well, timeline, point in keys}


def _seconds(image: Record) -> float:
    try:
        return datetime.fromisoformat(image.taken).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
