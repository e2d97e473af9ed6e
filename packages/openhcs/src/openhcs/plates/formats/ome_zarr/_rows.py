"""Rows of an OME-Zarr plate: what wells list, joined with what is on disk."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._channels import number_channels
from openhcs.plates._checks import check_dimensions, check_metadata, check_mixes
from openhcs.plates._duplicates import mark_conflicts
from openhcs.plates._missing import report_missing
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._positions import forget_common_places
from openhcs.plates._rows import Row, usual_members
from openhcs.plates.formats.ome_zarr._images import ImageFacts, ImageFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import ScannedFile
    from openhcs.plates.formats.ome_zarr._plate import PlannedImage, PlateContent

__all__ = ["ZarrRows"]


class ZarrRows:
    """Makes the rows of a plate.

    Parameters
    ----------
    content
        What the plate's documents promise.
    images
        What each image is, by path.
    arrays
        Arrays of the store, by path.
    findings
        Takes what is odd.
    """

    def __init__(
        self,
        content: PlateContent,
        images: Mapping[str, ImageFacts | ImageFault],
        arrays: Mapping[str, ScannedFile],
        findings: FindingLog,
    ) -> None:
        self._content = content
        self._images = images
        self._arrays = arrays
        self._findings = findings
        self._own: set[str] = set()
        self._runs = _acquisitions(content, images)
        self._channels, self.channel_names = number_channels(
            {
                path: (1 + max((place.c for place in facts.pages), default=0), facts.channel_names)
                for path, facts in images.items()
                if isinstance(facts, ImageFacts)
            }
        )
        self.used: set[str] = set()
        """Paths of the arrays that have rows; known once `rows` was called."""

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One for each plane that is data; of images that are not there or cannot be read, as
            many as most images of their acquisition have.
        """
        fields: Counter[tuple[str, int]] = Counter()
        groups: dict[str, set[str]] = defaultdict(set)
        rows: list[Row] = []
        lost: list[tuple[PlannedImage, int, int, ImageFault]] = []
        for image in self._content.images:
            run = self._runs[_run_of(image, self._images.get(image.path))]
            groups[image.well].add(image.group)
            field = fields[image.group, run]
            fields[image.group, run] += 1
            facts = self._images.get(image.path) if image.path else ImageFault("it is elsewhere")
            if isinstance(facts, ImageFacts):
                rows += self._of_image(image, facts, run, field)
            elif facts is not None:
                lost.append((image, run, field, facts))
        rows += self._of_lost(rows, lost)
        forget_common_places(rows)
        for row in rows:
            if len(groups[row.well]) > 1 and row.status == PlaneStatus.OK:
                row.status = PlaneStatus.CONFLICT.value  # nobody knows which one is the well
        self._check(rows)
        return rows

    def _of_image(
        self, image: PlannedImage, facts: ImageFacts, run: int, field: int
    ) -> Iterator[Row]:
        path = f"{image.path}/{facts.array}"
        file = self._arrays.get(path)
        self.used.add(path)
        if facts.own.stored:
            self._own.add(image.path)
        numbers = self._channels[image.path]
        pixel = facts.pixel_um or (math.nan, math.nan)
        z, *origin = facts.origin_um
        for member, page in facts.pages.items():
            size = facts.own.sizes.get((member.t, member.z), facts.size)
            y, x = facts.own.origins_um.get((member.t, member.z), origin)
            channel = numbers[member.c]
            yield Row(
                well=image.well,
                row=image.row,
                col=image.col,
                field=field,
                channel=channel,
                z=member.z,
                t=member.t,
                acquisition=run,
                path=image.path,
                page=page,
                height=size[0],
                width=size[1],
                dtype=facts.dtype,
                x_um=math.nan if x is None else x + (size[1] - 1) / 2 * pixel[1],
                y_um=math.nan if y is None else y + (size[0] - 1) / 2 * pixel[0],
                z_um=math.nan if facts.step_um is None else (z or 0.0) + member.z * facts.step_um,
                pixel_um_y=pixel[0],
                pixel_um_x=pixel[1],
                channel_name=self.channel_names[channel],
                time_s=math.nan if facts.interval_s is None else member.t * facts.interval_s,
                file_size=file.size if file else -1,
                mtime_ns=file.mtime_ns if file else -1,
                status=(PlaneStatus.MISSING if member in facts.missing else PlaneStatus.OK).value,
                field_id=image.name,
                channel_id=str(member.c),
                z_id=_at(facts.own.z, member.z),
                t_id=_at(facts.own.t, member.t),
            )

    def _of_lost(
        self, rows: Sequence[Row], lost: Sequence[tuple[PlannedImage, int, int, ImageFault]]
    ) -> Iterator[Row]:
        usual = usual_members(rows)
        for image, run, field, fault in lost:
            if not fault.absent and image.path:
                self._findings.add(
                    "UNREADABLE",
                    f"{image.path} cannot be read: {fault.why}.",
                    well=image.well,
                    field=field,
                    path=image.path,
                )
            for channel, z, t in usual.get(run, ((0, 0, 0),)):
                yield Row(
                    well=image.well,
                    row=image.row,
                    col=image.col,
                    field=field,
                    channel=channel,
                    z=z,
                    t=t,
                    acquisition=run,
                    path=image.path,
                    channel_name=self.channel_names[channel] if self.channel_names else "",
                    status=(PlaneStatus.MISSING if fault.absent else PlaneStatus.UNREADABLE).value,
                    field_id=image.name,
                )

    def _check(self, rows: list[Row]) -> None:
        mark_conflicts(rows, self._findings)
        report_missing((row for row in rows if row.status == PlaneStatus.MISSING), self._findings)
        # what is stitched differs in size from well to well
        fields = [row for row in rows if row.path not in self._own]
        check_mixes(fields, self.channel_names, self._findings)
        check_dimensions(rows, self.channel_names, self._findings)
        tile_um = {
            (row.acquisition, row.channel): row.width * row.pixel_um_x
            for row in rows
            if row.width > 0
        }
        check_metadata(rows, tile_um, self._findings)


def _run_of(image: PlannedImage, facts: ImageFacts | ImageFault | None) -> tuple[int, str]:
    """Name the acquisition of an image: those of openhcs are one for each image that was stored."""
    if not isinstance(facts, ImageFacts) or not facts.own.stored:
        return image.acquisition, ""
    number = "" if facts.own.field is None else str(facts.own.field)
    return image.acquisition, image.name.removesuffix(number)


def _acquisitions(
    content: PlateContent, images: Mapping[str, ImageFacts | ImageFault]
) -> dict[tuple[int, str], int]:
    found = dict.fromkeys(_run_of(image, images.get(image.path)) for image in content.images)
    place = {number: place for place, number in enumerate(content.acquisitions)}
    ordered = sorted(found, key=lambda run: place.get(run[0], len(place) + run[0]))
    return {run: number for number, run in enumerate(ordered)}


def _at(ids: Sequence[str], place: int) -> str:
    return ids[place] if place < len(ids) else str(place)
