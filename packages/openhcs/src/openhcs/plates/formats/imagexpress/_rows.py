"""Rows of an ImageXpress plate: names, tags and headers put together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._checks import (
    check_contents,
    check_dimensions,
    check_metadata,
    check_mixes,
)
from openhcs.plates._duplicates import mark_conflicts
from openhcs.plates._missing import add_missing, report_missing
from openhcs.plates._plane import PlaneKind, PlaneStatus
from openhcs.plates._rows import Row, dense
from openhcs.plates.formats.imagexpress._describe import Sample, describe
from openhcs.plates.formats.imagexpress._images import Image, Images
from openhcs.plates.formats.imagexpress._kinds import kind_by_tag, kinds_of_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates.formats.imagexpress._names import ImageFile

__all__ = ["RowMaker"]

_TRIES = 3


class RowMaker:
    """Makes the rows of a plate. Opens as few headers as it can, or all of them.

    Parameters
    ----------
    root
        The plate's folder.
    files
        Its images.
    wave_names
        Names from the plan, by wavelength; may be empty.
    findings
        Takes what is odd.
    deep
        Whether to open every header.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[ImageFile],
        wave_names: Sequence[str],
        findings: FindingLog,
        *,
        deep: bool,
    ) -> None:
        self._root = root
        self._findings = findings
        self._deep = deep
        bases = {base: number for number, base in enumerate(sorted({file.base for file in files}))}
        fields = dense(file.site for file in files)
        self._waves = dense(file.wave for file in files)
        times = dense(file.time for file in files)
        images = [
            Image(
                file,
                Row(
                    well=file.well,
                    row=file.row,
                    col=file.col,
                    field=fields[file.site],
                    channel=self._waves[file.wave],
                    t=times[file.time],
                    acquisition=bases[file.base],
                    path=file.file.path,
                    file_size=file.file.size,
                    mtime_ns=file.file.mtime_ns,
                    field_id=str(file.site),
                    channel_id=str(file.wave),
                    z_id="" if file.step is None else str(file.step),
                    t_id=str(file.time),
                    status=PlaneStatus.OK.value if file.file.size else PlaneStatus.EMPTY.value,
                ),
            )
            for file in files
        ]
        self._images = Images(root, images)
        self._wave_names = wave_names
        self._sample = Sample()
        self.channel_names: tuple[str, ...] = ()
        """One name per channel; known once `rows` was called."""

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One per file, and one per missing plane.
        """
        if self._deep:
            self._images.open(self._images)
        self._decide_kinds()
        self._number_z()
        self._time()
        for _ in range(_TRIES):
            anchors = self._images.anchors()
            self._images.open(anchors)
            if all(image.usable for image in anchors):
                break  # else another one is taken in place of each damaged one
        self._images.open(self._images.suspicious())
        self.channel_names = self._names()
        for image in self._images:
            image.row.channel_name = self.channel_names[image.row.channel]
        describe(self._images, self._sample)
        self._images.report(self._findings)
        rows = [image.row for image in self._images]
        mark_conflicts(rows, self._findings)
        self._report_missing(rows)
        if self._deep:
            check_contents(self._root, rows, self._findings)
        check_mixes(rows, self.channel_names, self._findings)
        check_dimensions(rows, self.channel_names, self._findings)
        check_metadata(rows, self._tile_um(), self._findings)
        return rows

    def _decide_kinds(self) -> None:
        """Decide by one well, field and time point of each channel what its z steps are."""
        groups: dict[tuple[int, int], dict[tuple[str, int, int], list[Image]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for image in self._images:
            if image.usable:
                file = image.file
                groups[image.row.acquisition, file.wave][file.well, file.site, file.time].append(
                    image
                )
        samples = {
            channel: max(members.values(), key=lambda images: len({i.file.step for i in images}))
            for channel, members in groups.items()
        }
        self._images.open(image for sample in samples.values() for image in sample)
        kinds: dict[tuple[int, int], dict[int | None, str]] = {}
        for channel, sample in samples.items():
            paths = {image.file.step: image.row.path for image in sample}
            tags = {image.file.step: image.meta for image in sample if image.meta is not None}
            kinds[channel] = kinds_of_group(self._root, paths, tags)
            self._sample.z_um[channel] = {
                step: meta.z_um
                for step, meta in tags.items()
                if step and kinds[channel][step] == PlaneKind.PLANE and not math.isnan(meta.z_um)
            }
        doubted = self._doubted(samples, kinds)
        self._images.open(image for image in self._images if image.place in doubted)
        for image in self._images:
            step = image.file.step
            known = kinds.get(image.channel, {})
            kind = known.get(step)
            if image.meta is not None and (self._deep or image.place in doubted):
                kind = kind_by_tag(step, image.meta) or kind
            if kind is None:
                kind = PlaneKind.UNKNOWN.value if step == 0 else PlaneKind.PLANE.value
            if kind == "copy":
                if image.usable:
                    image.row.status = PlaneStatus.DUPLICATE_CONTENT.value
                kind = PlaneKind.PLANE.value if step else PlaneKind.UNKNOWN.value
            image.row.kind = kind
        copies = [i for i in self._images if i.row.status == PlaneStatus.DUPLICATE_CONTENT]
        if copies:
            waves = sorted({image.file.wave for image in copies})
            self._findings.add(
                "Z_COPY",
                f"{len(copies)} files of wavelengths {', '.join(map(str, waves))} are copies that "
                "the export put in place of planes never taken.",
            )

    def _doubted(
        self,
        samples: Mapping[tuple[int, int], Sequence[Image]],
        kinds: Mapping[tuple[int, int], Mapping[int | None, str]],
    ) -> set[tuple[int, str, int, int]]:
        """Give the fields in which the last step of a stack is a copy, unlike in the sample.

        There the stack was not taken, or broke off: what it lacks was filled up.
        """
        stacks: dict[tuple[int, int], set[int]] = {}
        for channel, sample in samples.items():
            planes = {
                image.file.step
                for image in sample
                if image.file.step and image.meta and image.meta.step == image.file.step
            }
            if len(planes) > 1:
                stacks[channel] = {s for s in planes if kinds[channel][s] == PlaneKind.PLANE}
        last: dict[tuple[int, str, int, int], Image] = {}
        for image in sorted(self._images, key=lambda i: (i.row.t, -(i.file.step or 0))):
            steps = stacks.get(image.channel, ())
            if image.usable and image.file.step in steps:
                last.setdefault(image.place, image)
        self._images.open(last.values())
        return {
            place
            for place, image in last.items()
            if image.meta is not None and kind_by_tag(image.file.step, image.meta) == "copy"
        }

    def _time(self) -> None:
        """Open an image of each time point of one field, by which the others are timed."""
        fields: dict[int, dict[tuple[int, str, int, int], dict[int, Image]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for image in sorted(self._images, key=lambda image: image.rank):
            if image.usable:
                of_field = fields[image.row.acquisition][image.place]
                of_field.setdefault(image.file.time, image)
        for acquisition, places in fields.items():
            chosen = max(places.values(), key=len)
            if len(chosen) > 1:
                self._images.open(chosen.values())
            self._sample.time_s[acquisition] = {
                time: image.meta.time for time, image in chosen.items() if image.meta is not None
            }

    def _number_z(self) -> None:
        """Rank the steps of stacks over the whole plate; a single plane has z 0."""
        steps: dict[int, set[int]] = defaultdict(set)
        for image in self._images:
            stacked = image.row.kind == PlaneKind.PLANE and image.file.step
            if stacked and image.row.status != PlaneStatus.DUPLICATE_CONTENT:
                steps[image.file.wave].add(image.file.step or 0)
        stacks = [found for found in steps.values() if len(found) > 1]
        numbers = dense(step for found in stacks for step in found)
        for image in self._images:
            if image.row.kind == PlaneKind.PLANE and len(steps[image.file.wave]) > 1:
                image.row.z = numbers.get(image.file.step or 0, 0)

    def _names(self) -> tuple[str, ...]:
        said: dict[int, Counter[str]] = defaultdict(Counter)
        for image in self._images:
            if image.meta is not None and image.meta.channel:
                said[image.file.wave][image.meta.channel] += 1
        names: list[str] = []
        for wave in self._waves:
            planned = self._wave_names[wave - 1] if 0 < wave <= len(self._wave_names) else ""
            tagged = said[wave].most_common(1)[0][0] if said[wave] else ""
            name = planned or tagged or f"w{wave}"
            names.append(name if name not in names else f"{name} (w{wave})")
        return tuple(names)

    def _report_missing(self, rows: list[Row]) -> None:
        placed: dict[tuple[int, str, int], Row] = {}
        ids: dict[tuple[str, int], str] = {}
        for image in self._images:
            row = image.row
            placed.setdefault((row.acquisition, row.well, row.field), row)
            ids["field", row.field] = row.field_id
            ids["t", row.t] = row.t_id
            if row.kind == PlaneKind.PLANE:
                ids[f"z{row.channel}", row.z] = row.z_id

        def complete(row: Row, example: Row) -> None:
            near = placed.get((row.acquisition, row.well, row.field))
            if near is not None:
                row.x_um, row.y_um = near.x_um, near.y_um
            row.channel_name = example.channel_name
            row.pixel_um_y, row.pixel_um_x = example.pixel_um_y, example.pixel_um_x
            row.emission_nm = example.emission_nm
            row.field_id, row.t_id = ids["field", row.field], ids["t", row.t]
            row.z_id = ids.get((f"z{row.channel}", row.z), "")

        report_missing(add_missing(rows, complete, self._findings), self._findings)

    def _tile_um(self) -> dict[tuple[int, int], float]:
        return {
            (image.row.acquisition, image.row.channel): image.row.width * image.row.pixel_um_x
            for image in self._images
            if image.header is not None
        }
