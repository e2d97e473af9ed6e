"""What rows of an ImageXpress plate say beside names: by their own headers, or by one like them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._plane import PlaneKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openhcs.plates.formats.imagexpress._images import Image

__all__ = ["Sample", "describe"]


@dataclass(slots=True)
class Sample:
    """What one field of each channel says for all: its focus by step, and when it was taken."""

    z_um: dict[tuple[int, int], dict[int, float]] = field(default_factory=dict)
    """By acquisition and wavelength, then by step."""

    time_s: dict[int, dict[int, float]] = field(default_factory=dict)
    """By acquisition, then by time point."""

    def z_of(self, near: Image, step: int | None) -> float:
        """Give the focus of a plane that was not opened: one of its stack, plus the same steps."""
        known = self.z_um.get(near.channel, {})
        here, there = known.get(step or 0), known.get(near.file.step or 0)
        if near.meta is None or here is None or there is None:
            return math.nan
        return near.meta.z_um + here - there

    def time_of(self, near: Image, time: int) -> float:
        """Say when an image was taken that was not opened: as long after one of its field."""
        times = self.time_s.get(near.row.acquisition, {})
        if near.meta is None or near.file.time == time:
            return near.meta.time if near.meta else math.nan
        return near.meta.time + times.get(time, math.nan) - times.get(near.file.time, math.nan)


def describe(images: Iterable[Image], sample: Sample) -> None:
    """Fill in what headers say: from the file's own, else from one of its field.

    Parameters
    ----------
    images
        All of the plate, opened where they have to be.
    sample
        Steps and times of those that were not opened.
    """
    images = list(images)
    by_place: dict[tuple[int, str, int, int], Image] = {}
    by_channel: dict[tuple[int, int], Image] = {}
    by_field: dict[tuple[int, str, int], Image] = {}
    start: dict[int, float] = {}
    for image in sorted(images, key=lambda image: image.rank):
        if image.header is None:
            continue
        by_place.setdefault(image.place, image)
        by_channel.setdefault(image.channel, image)
        if image.meta is not None:
            by_field.setdefault(image.place[:3], image)
            taken, acquisition = image.meta.time, image.row.acquisition
            if not math.isnan(taken):
                start[acquisition] = min(taken, start.get(acquisition, taken))
    for image in images:
        row, file = image.row, image.file
        near = by_place.get(image.place)
        like = near or by_channel.get(image.channel)
        header = image.header or (like.header if like else None)
        if header is not None and (image.header is not None or image.usable):
            row.height, row.width, row.dtype = header.height, header.width, header.dtype
        meta = image.meta or (like.meta if like else None)
        if meta is not None:
            row.pixel_um_y, row.pixel_um_x = meta.pixel_um
            row.emission_nm, row.exposure_s = meta.emission_nm, meta.exposure_s
        of_field = by_field.get(image.place[:3])
        placed = image.meta or (near.meta if near else None)
        placed = placed or (of_field.meta if of_field else None)
        if placed is not None:
            row.x_um, row.y_um = placed.offset_um
        began = start.get(row.acquisition, math.nan)
        if image.meta is not None:
            row.z_um = image.meta.z_um
            row.time_s = image.meta.time - began
        elif near is not None:
            if row.kind == PlaneKind.PLANE:
                row.z_um = sample.z_of(near, file.step)
            row.time_s = sample.time_of(near, file.time) - began
    _place_by_stage(images, by_field)


def _place_by_stage(
    images: Iterable[Image], by_field: Mapping[tuple[int, str, int], Image]
) -> None:
    """Measure from the middle of the well's fields where tags give only the stage's place."""
    wells: dict[tuple[int, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for (acquisition, well, site), image in by_field.items():
        if image.meta is not None and math.isnan(sum(image.meta.offset_um)):
            wells[acquisition, well][site] = image.meta.stage_um
    middles = {
        key: tuple((min(axis) + max(axis)) / 2 for axis in zip(*places.values(), strict=True))
        for key, places in wells.items()
    }
    for image in images if wells else ():
        key = (image.row.acquisition, image.file.well)
        place = wells.get(key, {}).get(image.file.site)
        if place is not None and math.isnan(image.row.x_um):
            image.row.x_um = place[0] - middles[key][0]
            image.row.y_um = place[1] - middles[key][1]
