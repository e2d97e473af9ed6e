"""The images of one well: written beside their place while its steps run, then put there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.execution._canvases import Canvases
from openhcs.execution._image_group import (
    ImageGroup,
    channel_name,
    cropped,
    enlarged,
    size_name,
)
from openhcs.execution._placing import NOWHERE, canvas_placing, placing
from openhcs.pipeline import COVERAGE, WellImage
from polystore.omezarr import ChannelMeta, ImageMeta, ImageWriter, LabelsWriter, open_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._placing import Placed, Placing
    from openhcs.pipeline import GroupKey, PlannedStep
    from polystore.omezarr import ImageReader

__all__ = ["WellImages"]


class WellImages:
    """The images of one well; `commit` puts them in place.

    Parameters
    ----------
    folder
        The result folder.
    well
        Name of the well.
    planes
        The well's raw planes, which say where its fields are.
    pixel_um
        Pixel size (y, x) in µm.
    """

    def __init__(
        self,
        folder: ResultFolder,
        well: str,
        *,
        planes: Placed,
        pixel_um: tuple[float, float] | None,
    ) -> None:
        self._folder = folder
        self._well = well
        self._planes = planes
        self._pixel_um = pixel_um
        self._open = ExitStack()
        self._groups: dict[tuple[str, int | None], ImageGroup] = {}

    def arrange(self, image: str, keys: Iterable[GroupKey]) -> None:
        """Learn the keys of all planes that an image will hold."""
        by_field: dict[int | None, list[GroupKey]] = {}
        for key in keys:
            by_field.setdefault(key.field, []).append(key)
        for field, of_field in by_field.items():
            self._groups[image, field] = ImageGroup.of(image, field, of_field)

    def group(self, image: str, field: int | None) -> ImageGroup:
        """Give an image that was arranged."""
        return self._groups[image, field]

    def groups(self, image: str) -> Iterator[ImageGroup]:
        """Give an image of every field, or of the well, that was arranged."""
        return (group for (name, _), group in self._groups.items() if name == image)

    def reader(self, group: ImageGroup) -> ImageReader:
        """Open an image that is in place."""
        return open_image(self._folder.plate, self._well, group.name)

    def write(self, image: str, key: GroupKey, plane: NDArray[Any]) -> None:
        """Take a plane, which goes to disk at once where the size of its image is known."""
        group = self.group(image, key.field)
        if group.waits:
            group.waiting.append((key, plane))
            return
        if group.writer is None:
            group.writer = self._writer(group, plane, plane.shape, {})
        group.writer.write_plane(plane, **group.place(key))

    def read(self, image: str, key: GroupKey) -> NDArray[Any]:
        """Read back a plane that an earlier run stored."""
        group = self.group(image, key.field)
        place = group.place(key)
        reader = self.reader(group)
        plane = reader.read(0, t=place["t"], c=place["c"], z=place["z"])
        return cropped(plane, reader.attributes, place)

    def commit(
        self,
        steps: Sequence[PlannedStep],
        records: Mapping[str, Sequence[tuple[GroupKey, Mapping[str, Any]]]],
    ) -> None:
        """Put every image in place, where it lies in the well and what it covers beside it.

        Parameters
        ----------
        steps
            The plan's steps.
        records
            Tables and records of this run, by their names in the results.
        """
        for group in self._groups.values():
            if group.waiting:
                self._write_waiting(group)
        self._place_canvases(steps, records)
        for group in self._groups.values():
            if group.writer is not None:
                group.writer.commit()
                self._write_coverage(group)

    def abort(self) -> None:
        """Take away what was not committed, and hold no planes any more."""
        self._open.close()
        for group in self._groups.values():
            group.waiting.clear()
            group.writer = None

    def found(self) -> tuple[WellImage, ...]:
        """Give what lies in the plate for this well."""
        found: list[WellImage] = []
        for group in self._groups.values():
            reader = self.reader(group)
            found.append(
                WellImage(
                    name=group.name,
                    path=reader.path.relative_to(self._folder.plate).as_posix(),
                    field=group.field,
                    axes=("t", "channel", "z", "y", "x"),
                    # What was just written is known; zarr is imported for older images alone.
                    shape=group.shape or reader.shapes[0],
                    dtype=group.dtype or str(reader.dtype),
                    channels=tuple(map(channel_name, group.channel)),
                    labels=tuple(label for label in reader.label_names if label != COVERAGE),
                    pixel_um=self._pixel_um,
                )
            )
        return tuple(found)

    def _place_canvases(
        self,
        steps: Sequence[PlannedStep],
        records: Mapping[str, Sequence[tuple[GroupKey, Mapping[str, Any]]]],
    ) -> None:
        """Say where images of the whole well lie, by the steps that put fields together."""
        canvases = Canvases(self._folder, self._well)
        for step in steps:
            canvases.see(step, records)
            group = self._groups.get((step.image or "", None))
            if group is None or group.writer is None:
                continue
            group.laid = canvases.laid_on(group.shape[-2:], group.planes)
            where = canvas_placing(canvases.of_size(group.shape[-2:]), group.planes)
            if where.origin_um is not None:
                group.own["origins_um"] = _origins(where)
                group.writer.place(where.origin_um, {"openhcs": group.own})

    def _write_coverage(self, group: ImageGroup) -> None:
        """Put a mask beside the image of a well: 1 where a tile of any channel lies."""
        if not group.laid:
            return
        size = (group.shape[-2], group.shape[-1])
        plate = self._folder.plate
        with LabelsWriter(plate, self._well, group.name, COVERAGE, np.uint8) as writer:
            for (t, z), laid in group.laid.items():
                writer.write_plane(laid.mask(size).view(np.uint8), z=z, t=t)
            writer.commit(partial=True)

    def _write_waiting(self, group: ImageGroup) -> None:
        """Write planes of unlike sizes, with zeros below and to the right of the smaller ones."""
        sizes = [plane.shape for _, plane in group.waiting]
        largest = (max(size[0] for size in sizes), max(size[1] for size in sizes))
        smaller = {
            size_name(group.place(key)): list(plane.shape)
            for key, plane in group.waiting
            if plane.shape != largest
        }
        group.writer = self._writer(group, group.waiting[0][1], largest, smaller)
        for key, plane in group.waiting:
            group.writer.write_plane(enlarged(plane, largest), **group.place(key))
        group.waiting.clear()

    def _writer(
        self,
        group: ImageGroup,
        plane: NDArray[Any],
        size: tuple[int, ...],
        smaller: Mapping[str, Any],
    ) -> ImageWriter:
        group.shape = (len(group.t), len(group.channel), len(group.z), *size)
        group.dtype = str(plane.dtype)
        where = NOWHERE
        if group.field is not None:
            where = placing(self._planes, group.planes, size, self._pixel_um)
        group.own = {
            "field": group.field,
            "t": list(group.t),
            "z": list(group.z),
            "sizes": smaller,
            "origins_um": _origins(where),
        }
        meta = ImageMeta(
            channels=tuple(ChannelMeta(channel_name(channel)) for channel in group.channel),
            pixel_um=self._pixel_um,
            z_um=where.z_um,
            t_s=where.t_s,
            origin_um=where.origin_um,
            origin_z_um=where.origin_z_um,
            attributes={"openhcs": group.own},
        )
        return self._open.enter_context(
            ImageWriter(self._folder.plate, self._well, group.name, group.shape, plane.dtype, meta)
        )


def _origins(where: Placing) -> dict[str, list[float]]:
    return {f"{t}/{z}": list(at) for (t, z), at in where.moved_um.items()}
