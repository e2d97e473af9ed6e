"""Rows of an ImageXpress plate: names, tags and headers put together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._checks import (
    check_contents,
    check_dimensions,
    check_metadata,
    check_mixes,
    report_white,
)
from openhcs.plates._duplicates import mark_conflicts
from openhcs.plates._headers import read_headers
from openhcs.plates._missing import add_missing, report_missing, report_pages
from openhcs.plates._plane import PlaneKind, PlaneStatus
from openhcs.plates._rows import Row, dense
from openhcs.plates.formats.imagexpress._kinds import kind_by_tag, kinds_of_group
from openhcs.plates.formats.imagexpress._metaseries import (
    MetaSeries,
    metaseries_damage,
    parse_metaseries,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._tiff import TiffHeader
    from openhcs.plates.formats.imagexpress._names import ImageFile

__all__ = ["RowMaker"]

_TRIES = 3
_SLACK = 1024
"""Bytes by which uncompressed files of one kind differ: their descriptions vary."""


@dataclass(slots=True)
class _Image:
    """A file with its row, and what its header says once it was opened."""

    file: ImageFile
    row: Row
    header: TiffHeader | None = None
    meta: MetaSeries | None = None
    opened: bool = False

    @property
    def usable(self) -> bool:
        return self.row.status == PlaneStatus.OK


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
        self._images = [
            _Image(
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
        self._wave_names = wave_names
        self._odd: list[tuple[str, str, _Image]] = []  # named once z is numbered
        self._z_offsets: dict[tuple[int, int], dict[int, float]] = {}
        self._times: dict[int, dict[int, float]] = {}  # of one field, by acquisition
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
            self._open(self._images)
        self._decide_kinds()
        self._number_z()
        self._time()
        for _ in range(_TRIES):
            anchors = self._anchors()
            self._open(anchors)
            if all(image.usable for image in anchors):
                break  # else another one is taken in place of each damaged one
        self._open(self._suspicious())
        self.channel_names = self._names()
        self._describe()
        self._report_files()
        report_pages(
            [i.row.path for i in self._images if i.header is not None and i.header.more],
            self._findings,
        )
        report_white(
            [i.row.path for i in self._images if i.header and i.header.photometric == 0],
            self._findings,
        )
        rows = [image.row for image in self._images]
        mark_conflicts(rows, self._findings)
        self._report_missing(rows)
        if self._deep:
            check_contents(self._root, rows, self._findings)
        check_mixes(rows, self.channel_names, self._findings)
        check_dimensions(rows, self.channel_names, self._findings)
        check_metadata(rows, self._tile_um(), self._findings)
        return rows

    def _open(self, images: Iterable[_Image]) -> None:
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

    def _check_label(self, image: _Image) -> None:
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

    def _decide_kinds(self) -> None:
        """Decide by one well, field and time point of each channel what its z steps are."""
        groups: dict[tuple[int, int], dict[tuple[str, int, int], list[_Image]]] = defaultdict(
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
        self._open(image for sample in samples.values() for image in sample)
        kinds: dict[tuple[int, int], dict[int | None, str]] = {}
        for channel, sample in samples.items():
            paths = {image.file.step: image.row.path for image in sample}
            tags = {image.file.step: image.meta for image in sample if image.meta is not None}
            kinds[channel] = kinds_of_group(self._root, paths, tags)
            self._z_offsets[channel] = {
                step: meta.z_um
                for step, meta in tags.items()
                if step and kinds[channel][step] == PlaneKind.PLANE and not math.isnan(meta.z_um)
            }
        doubted = self._doubted(samples, kinds)
        self._open(image for image in self._images if _place(image) in doubted)
        for image in self._images:
            step = image.file.step
            known = kinds.get((image.row.acquisition, image.file.wave), {})
            kind = known.get(step)
            if image.meta is not None and (self._deep or _place(image) in doubted):
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
        samples: Mapping[tuple[int, int], Sequence[_Image]],
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
        last: dict[tuple[int, str, int, int], _Image] = {}
        for image in sorted(self._images, key=lambda i: (i.row.t, -(i.file.step or 0))):
            steps = stacks.get((image.row.acquisition, image.file.wave), ())
            if image.usable and image.file.step in steps:
                last.setdefault(_place(image), image)
        self._open(last.values())
        return {
            place
            for place, image in last.items()
            if image.meta is not None and kind_by_tag(image.file.step, image.meta) == "copy"
        }

    def _time(self) -> None:
        """Open an image of each time point of one field, by which the others are timed."""
        fields: dict[int, dict[tuple[int, str, int, int], dict[int, _Image]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for image in sorted(self._images, key=_rank):
            if image.usable:
                of_field = fields[image.row.acquisition][_place(image)]
                of_field.setdefault(image.file.time, image)
        for acquisition, places in fields.items():
            chosen = max(places.values(), key=len)
            if len(chosen) > 1:
                self._open(chosen.values())
            self._times[acquisition] = {
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

    def _anchors(self) -> list[_Image]:
        """One image of each well, field and channel: positions are per field."""
        anchors: dict[tuple[int, str, int, int], _Image] = {}
        for image in self._images:
            if image.usable:
                key = _place(image)
                best = anchors.get(key)
                if best is None or _ease(image) < _ease(best):
                    anchors[key] = image
        return list(anchors.values())

    def _suspicious(self) -> list[_Image]:
        """Uncompressed files whose size is not that of their channel."""
        usual: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for image in self._images:
            if image.header is not None and image.header.compression == 1:
                usual[image.row.acquisition, image.file.wave][image.row.file_size] += 1
        sizes = {channel: counts.most_common(1)[0][0] for channel, counts in usual.items()}
        return [
            image
            for image in self._images
            if (size := sizes.get((image.row.acquisition, image.file.wave))) is not None
            and abs(image.row.file_size - size) > _SLACK
        ]

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

    def _describe(self) -> None:
        """Fill in what headers say: from the file's own, else from one of its field."""
        by_place: dict[tuple[int, str, int, int], _Image] = {}
        by_channel: dict[tuple[int, int], _Image] = {}
        by_field: dict[tuple[int, str, int], _Image] = {}
        start: dict[int, float] = {}
        for image in sorted(self._images, key=_rank):
            if image.header is None:
                continue
            row, file = image.row, image.file
            by_place.setdefault(_place(image), image)
            by_channel.setdefault((row.acquisition, file.wave), image)
            if image.meta is not None:
                by_field.setdefault((row.acquisition, file.well, file.site), image)
                taken = image.meta.time
                if not math.isnan(taken):
                    start[row.acquisition] = min(taken, start.get(row.acquisition, taken))
        for image in self._images:
            row, file = image.row, image.file
            row.channel_name = self.channel_names[row.channel]
            near = by_place.get(_place(image))
            like = near or by_channel.get((row.acquisition, file.wave))
            header = image.header or (like.header if like else None)
            if header is not None and (image.header is not None or image.usable):
                row.height, row.width, row.dtype = header.height, header.width, header.dtype
            meta = image.meta or (like.meta if like else None)
            if meta is not None:
                row.pixel_um_y, row.pixel_um_x = meta.pixel_um
                row.emission_nm, row.exposure_s = meta.emission_nm, meta.exposure_s
            field = by_field.get((row.acquisition, file.well, file.site))
            placed = image.meta or (near.meta if near else None) or (field.meta if field else None)
            if placed is not None:
                row.x_um, row.y_um = placed.offset_um
            if image.meta is not None:
                row.z_um = image.meta.z_um
                row.time_s = image.meta.time - start.get(row.acquisition, math.nan)
            elif near is not None:
                if row.kind == PlaneKind.PLANE:
                    row.z_um = self._z_from(near, file.step)
                row.time_s = self._time_from(near, file.time) - start.get(row.acquisition, math.nan)
        self._place_by_stage(by_field)

    def _z_from(self, near: _Image, step: int | None) -> float:
        """Focus of a plane that was not opened: that of one of its stack, plus the same steps."""
        offsets = self._z_offsets.get((near.row.acquisition, near.file.wave), {})
        here, there = offsets.get(step or 0), offsets.get(near.file.step or 0)
        if near.meta is None or here is None or there is None:
            return math.nan
        return near.meta.z_um + here - there

    def _time_from(self, near: _Image, time: int) -> float:
        """When an image was taken that was not opened: as long after one of its field as there."""
        times = self._times.get(near.row.acquisition, {})
        if near.meta is None or near.file.time == time:
            return near.meta.time if near.meta else math.nan
        return near.meta.time + times.get(time, math.nan) - times.get(near.file.time, math.nan)

    def _place_by_stage(self, by_field: dict[tuple[int, str, int], _Image]) -> None:
        """Measure from the middle of the well's fields where tags give only the stage's place."""
        wells: dict[tuple[int, str], dict[int, tuple[float, float]]] = defaultdict(dict)
        for (acquisition, well, site), image in by_field.items():
            if image.meta is not None and math.isnan(sum(image.meta.offset_um)):
                wells[acquisition, well][site] = image.meta.stage_um
        if not wells:
            return
        middles = {
            key: tuple((min(axis) + max(axis)) / 2 for axis in zip(*places.values(), strict=True))
            for key, places in wells.items()
        }
        for image in self._images:
            key = (image.row.acquisition, image.file.well)
            place = wells.get(key, {}).get(image.file.site)
            if place is not None and math.isnan(image.row.x_um):
                image.row.x_um = place[0] - middles[key][0]
                image.row.y_um = place[1] - middles[key][1]

    def _report_files(self) -> None:
        for image in self._images:
            if image.row.status == PlaneStatus.EMPTY:
                self._odd.append(("EMPTY_FILE", "has 0 bytes.", image))
        for code, what, image in self._odd:
            row = image.row
            self._findings.add(
                code,
                f"{row.path} {what}",
                well=row.well,
                field=row.field,
                channel=row.channel,
                z=row.z,
                t=row.t,
                path=row.path,
            )

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


def _place(image: _Image) -> tuple[int, str, int, int]:
    return (image.row.acquisition, image.file.well, image.file.site, image.file.wave)


def _ease(image: _Image) -> tuple[bool, bool, int, int]:
    """Prefer planes to projections, and what is open already to what is not."""
    return (image.row.kind != PlaneKind.PLANE, not image.opened, image.row.t, image.file.step or 0)


def _rank(image: _Image) -> tuple[bool, bool, int, int]:
    """Prefer sound images to damaged, planes to projections, early to late, low to high."""
    row = image.row
    return (row.status != PlaneStatus.OK, row.kind != PlaneKind.PLANE, row.t, image.file.step or 0)
