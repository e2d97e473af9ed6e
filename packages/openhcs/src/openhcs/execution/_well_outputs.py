"""What one well gives: collected while its steps run, and put in place together at the end."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.execution._canvases import Canvases
from openhcs.execution._placing import NOWHERE, canvas_placing, placing
from openhcs.execution._sums import WellSums, sum_up
from openhcs.execution._tables import read_group, read_groups, write_outputs
from openhcs.functions import Kind
from openhcs.pipeline import COVERAGE, GroupKey, WellImage
from polystore.omezarr import ChannelMeta, ImageMeta, ImageWriter, LabelsWriter, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.execution._canvases import Laid
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._placing import Placed, Placing
    from openhcs.execution._tables import Groups
    from openhcs.pipeline import Evaluation, PlannedOutput, PlannedStep

__all__ = ["WellOutputs", "clear_outputs", "group_of", "is_of"]


def group_of(image: str, field: int | None) -> str:
    """Give the name of an image group: one for the well, or one for each field."""
    return image if field is None else f"{image}{field}"


def is_of(group: str, image: str | None) -> bool:
    """Say whether an image group is that of a stored image, or of one of its fields."""
    if image is None:
        return False
    return group == image or (group.startswith(image) and group.removeprefix(image).isdigit())


@dataclass(slots=True)
class _Arrangement:
    """Where the planes of an image group lie along its axes.

    Well images of several t or z may differ in size by the places that stitching found; they wait
    until all are there, and get the size of the largest.
    """

    field: int | None
    t: tuple[int | None, ...]
    channel: tuple[str | None, ...]
    z: tuple[int | None, ...]
    planes: Mapping[tuple[int, int], GroupKey]
    waits: bool = False
    waiting: list[tuple[GroupKey, NDArray[Any]]] = dataclass_field(default_factory=list)
    writer: ImageWriter | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()
    own: dict[str, Any] = dataclass_field(default_factory=dict)
    laid: Mapping[tuple[int, int], Laid] = dataclass_field(default_factory=dict)

    def place(self, key: GroupKey) -> dict[str, int]:
        """Give the place of a plane, by the names of the format's axes."""
        return {
            "t": self.t.index(key.t),
            "c": self.channel.index(key.channel),
            "z": self.z.index(key.z),
        }


def clear_outputs(
    folder: ResultFolder, steps: Sequence[PlannedStep], well: str, reused: Container[str] = ()
) -> None:
    """Take away what an earlier run left of a well, but for the steps that are taken over.

    Raises
    ------
    OSError
        If something cannot be removed.
    """
    row, column = well[:-2], str(int(well[-2:]))
    for step in steps:
        if step.name in reused:
            continue
        for output in step.outputs:
            if output.kind is not Kind.LABELS:
                folder.table(output.stored, well).unlink(missing_ok=True)
        if step.image is not None:
            for path in (folder.plate / row / column).glob(f"{step.image}*"):
                if is_of(path.name, step.image):
                    shutil.rmtree(path)


class WellOutputs:
    """The outputs of one well; `commit` puts them in place.

    Parameters
    ----------
    folder
        The result folder.
    steps
        The plan's steps.
    well
        Name of the well.
    planes
        The well's raw planes, which say where its fields are.
    pixel_um
        Pixel size (y, x) in µm.
    reused
        Names of the steps whose outputs are there and still right.
    anew
        Fields that each of their outputs was made from, where these are to be summed up anew; None
        where what they come to stands.
    proceed
        Raises something to stop the well.
    finished
        Told the name of each step that is done, and the seconds it took.
    """

    def __init__(
        self,
        folder: ResultFolder,
        steps: Sequence[PlannedStep],
        well: str,
        *,
        planes: Placed,
        pixel_um: tuple[float, float] | None,
        reused: frozenset[str],
        anew: Mapping[str, Collection[int]] | None = None,
        proceed: Callable[[], None],
        finished: Callable[[str, float], None],
    ) -> None:
        self._folder = folder
        self._steps = steps
        self._well = well
        self._planes = planes
        self._pixel_um = pixel_um
        self._reused = reused
        self._anew = anew
        self._proceed = proceed
        self._finished = finished
        self._open = ExitStack()
        self._images: dict[tuple[str, int | None], _Arrangement] = {}
        self._labels: dict[str, list[tuple[GroupKey, NDArray[Any]]]] = {}
        self._groups: dict[str, list[tuple[GroupKey, Mapping[str, Any]]]] = {}

    def arrange(self, evaluation: Evaluation) -> None:
        """Learn from the graph of the well what the images will hold."""
        for step, stream in zip(self._steps, evaluation.streams, strict=True):
            if step.image is None:
                continue
            for field in dict.fromkeys(key.field for key in stream):
                keys = [key for key in stream if key.field == field]
                ts = tuple(dict.fromkeys(key.t for key in keys))
                zs = tuple(dict.fromkeys(key.z for key in keys))
                # the first channel that has a plane says where it is
                planes = {(ts.index(key.t), zs.index(key.z)): key for key in reversed(keys)}
                self._images[step.image, field] = _Arrangement(
                    field=field,
                    waits=len(planes) > 1 and field is None,
                    t=ts,
                    channel=tuple(dict.fromkeys(key.channel for key in keys)),
                    z=zs,
                    planes=planes,
                )

    def store(
        self,
        step: PlannedStep,  # noqa: ARG002  # the protocol's
        name: str,
        kind: Kind,
        key: GroupKey,
        value: Any,
    ) -> None:
        """Take an output: images go to disk beside their place, the rest waits for `commit`."""
        match kind:
            case Kind.IMAGE:
                self._store_plane(name, key, value)
            case Kind.LABELS:
                self._labels.setdefault(name, []).append((key, value))
            case Kind.TABLE | Kind.RECORD:
                self._groups.setdefault(name, []).append((key, value))

    def reused(self, step: PlannedStep) -> bool:
        """Say whether a step's outputs are there."""
        return step.name in self._reused

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        """Read back what an earlier run stored."""
        match kind:
            case Kind.IMAGE:
                place = self._images[name, key.field].place(key)
                reader = open_image(self._folder.plate, self._well, group_of(name, key.field))
                plane = reader.read(0, t=place["t"], c=place["c"], z=place["z"])
                return _cropped(plane, reader.attributes, place)
            case Kind.LABELS:
                return self._read_labels(step, name, key)
            case Kind.TABLE | Kind.RECORD:
                return read_group(self._folder.table(name, self._well), kind, key)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Pass on that a step is done."""
        self._finished(step.name, seconds)

    def proceed(self) -> None:
        """Stop if that was asked for."""
        self._proceed()

    def commit(self) -> WellSums:
        """Put everything in place, images first.

        Returns
        -------
        WellSums
            What the new outputs come to, or all of them.
        """
        for (name, _), arrangement in self._images.items():
            if arrangement.waiting:
                self._write_waiting(name, arrangement)
        self._place_canvases()
        for (name, _), arrangement in self._images.items():
            if arrangement.writer is not None:
                arrangement.writer.commit()
                self._write_coverage(name, arrangement)
        for step in self._steps:
            for output in step.outputs:
                if output.kind is Kind.LABELS and step.name not in self._reused:
                    self._commit_labels(step, output)
        for step in self._steps:
            if step.name in self._reused:
                continue
            for output in step.outputs:
                if output.kind is not Kind.LABELS:
                    groups = self._groups_of(step, output)
                    path = self._folder.table(output.stored, self._well)
                    write_outputs(path, self._well, output.kind, groups)
        stand = self._reused if self._anew is None else frozenset[str]()
        return sum_up(self._steps, stand, self._groups_of, self._planes.fields())

    def _groups_of(self, step: PlannedStep, output: PlannedOutput) -> Groups:
        """Give a table or record of the well, group by group."""
        if step.name not in self._reused:
            return sorted(self._groups.get(output.stored, ()), key=_sort_key)
        path = self._folder.table(output.stored, self._well)
        return read_groups(path, output.kind, (self._anew or {}).get(output.stored, ()))

    def _place_canvases(self) -> None:
        """Say where images of the whole well lie, by the steps that put fields together."""
        canvases = Canvases(self._folder, self._well)
        for step in self._steps:
            image = self._images.get((step.image or "", None))
            canvases.see(step, self._groups)
            if image is None or image.writer is None:
                continue
            image.laid = canvases.laid_on(image.shape[-2:], image.planes)
            where = canvas_placing(canvases.of_size(image.shape[-2:]), image.planes)
            if where.origin_um is not None:
                image.own["origins_um"] = _origins(where)
                image.writer.place(where.origin_um, {"openhcs": image.own})

    def _write_coverage(self, name: str, image: _Arrangement) -> None:
        """Put a mask beside the image of a well: 1 where a tile of any channel lies."""
        if not image.laid:
            return
        size = (image.shape[-2], image.shape[-1])
        with LabelsWriter(self._folder.plate, self._well, name, COVERAGE, np.uint8) as writer:
            for (t, z), laid in image.laid.items():
                writer.write_plane(laid.mask(size).view(np.uint8), z=z, t=t)
            writer.commit(partial=True)

    def abort(self) -> None:
        """Take away what was not committed, and hold no outputs any more.

        Harmless after `commit`, and twice. The graph of the well holds this object and is held by
        itself: it may stay for many wells until it is collected, and should be small.
        """
        self._open.close()
        self._labels.clear()
        self._groups.clear()
        for arrangement in self._images.values():
            arrangement.waiting.clear()
            arrangement.writer = None

    def images(self) -> tuple[WellImage, ...]:
        """Give what lies in the plate for this well."""
        found: list[WellImage] = []
        for (name, field), arrangement in self._images.items():
            group = group_of(name, field)
            reader = open_image(self._folder.plate, self._well, group)
            found.append(
                WellImage(
                    name=group,
                    path=reader.path.relative_to(self._folder.plate).as_posix(),
                    field=field,
                    axes=("t", "channel", "z", "y", "x"),
                    # What was just written is known; zarr is imported for older images alone.
                    shape=arrangement.shape or reader.shapes[0],
                    dtype=arrangement.dtype or str(reader.dtype),
                    channels=tuple(map(_channel_name, arrangement.channel)),
                    labels=tuple(label for label in reader.label_names if label != COVERAGE),
                    pixel_um=self._pixel_um,
                )
            )
        return tuple(found)

    def _store_plane(self, name: str, key: GroupKey, plane: NDArray[Any]) -> None:
        arrangement = self._images[name, key.field]
        if arrangement.waits:
            arrangement.waiting.append((key, plane))
            return
        if arrangement.writer is None:
            arrangement.writer = self._writer(name, arrangement, plane, plane.shape, {})
        arrangement.writer.write_plane(plane, **arrangement.place(key))

    def _write_waiting(self, name: str, image: _Arrangement) -> None:
        """Write planes of unlike sizes, with zeros below and to the right of the smaller ones."""
        sizes = [plane.shape for _, plane in image.waiting]
        largest = (max(size[0] for size in sizes), max(size[1] for size in sizes))
        own = {
            _size_name(image.place(key)): list(plane.shape)
            for key, plane in image.waiting
            if plane.shape != largest
        }
        image.writer = self._writer(name, image, image.waiting[0][1], largest, own)
        for key, plane in image.waiting:
            image.writer.write_plane(_enlarged(plane, largest), **image.place(key))
        image.waiting.clear()

    def _writer(
        self,
        name: str,
        image: _Arrangement,
        plane: NDArray[Any],
        size: tuple[int, ...],
        smaller: Mapping[str, Any],
    ) -> ImageWriter:
        shape = (len(image.t), len(image.channel), len(image.z), *size)
        image.shape, image.dtype = shape, str(plane.dtype)
        where = NOWHERE
        if image.field is not None:
            where = placing(self._planes, image.planes, size, self._pixel_um)
        own: dict[str, Any] = {
            "field": image.field,
            "t": list(image.t),
            "z": list(image.z),
            "sizes": smaller,
            "origins_um": _origins(where),
        }
        image.own = own
        meta = ImageMeta(
            channels=tuple(ChannelMeta(_channel_name(channel)) for channel in image.channel),
            pixel_um=self._pixel_um,
            z_um=where.z_um,
            t_s=where.t_s,
            origin_um=where.origin_um,
            origin_z_um=where.origin_z_um,
            attributes={"openhcs": own},
        )
        group = group_of(name, image.field)
        return self._open.enter_context(
            ImageWriter(self._folder.plate, self._well, group, shape, plane.dtype, meta)
        )

    def _commit_labels(self, step: PlannedStep, output: PlannedOutput) -> None:
        assert step.beside is not None  # compiling stores the image below every label image
        found: dict[tuple[int | None, str], list[tuple[GroupKey, NDArray[Any]]]] = {}
        several = len({key.channel for key, _ in self._labels.get(output.stored, ())}) > 1
        for key, array in self._labels.pop(output.stored, ()):
            channel = key.channel if several else None
            name = label_name(output.stored, channel, self._images[step.beside, key.field].channel)
            found.setdefault((key.field, name), []).append((key, array))
        for (field, name), planes in found.items():
            arrangement = self._images[step.beside, field]
            group = group_of(step.beside, field)
            dtype = planes[0][1].dtype
            shape = arrangement.shape
            if arrangement.waits and not shape:
                shape = open_image(self._folder.plate, self._well, group).shapes[0]
            with LabelsWriter(self._folder.plate, self._well, group, name, dtype) as writer:
                for key, array in planes:
                    place = arrangement.place(_on_axes(key, arrangement))
                    whole = _enlarged(array, shape[-2:]) if arrangement.waits else array
                    writer.write_plane(whole, z=place["z"], t=place["t"])
                writer.commit(partial=True)

    def _read_labels(self, step: PlannedStep, name: str, key: GroupKey) -> NDArray[Any]:
        from polystore.omezarr import open_labels

        assert step.beside is not None  # compiling stores the image below every label image
        arrangement = self._images[step.beside, key.field]
        place = arrangement.place(_on_axes(key, arrangement))
        group = group_of(step.beside, key.field)
        image = open_image(self._folder.plate, self._well, group)
        names = (name, label_name(name, key.channel, arrangement.channel))
        wanted = next((each for each in names if each in image.label_names), names[0])
        labels = open_labels(self._folder.plate, self._well, group, wanted)
        plane = labels.read(0, z=place["z"], t=place["t"])
        return _cropped(plane, image.attributes, place)


def label_name(stored: str, channel: str | None, channels: Sequence[str | None]) -> str:
    """Name a label image: after its output, and its channel when there is one for each.

    Channels whose names are alike but for signs that the format does not take get a number more.
    """
    if channel is None:
        return stored
    spelled = [_spelled(each or "") for each in channels]
    alike = spelled.count(_spelled(channel)) > 1
    number = f"-{channels.index(channel) + 1}" if alike else ""
    return f"{stored}_{_spelled(channel)}{number}"


def _spelled(channel: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in channel)


def _size_name(place: Mapping[str, int]) -> str:
    return f"{place['t']}/{place['z']}"


def _enlarged(plane: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Give a plane with zeros below and to the right."""
    if plane.shape == size:
        return plane
    larger = np.zeros(size, plane.dtype)
    larger[: plane.shape[0], : plane.shape[1]] = plane
    return larger


def _cropped(
    plane: NDArray[Any], attributes: Mapping[str, Any], place: Mapping[str, int]
) -> NDArray[Any]:
    """Give a plane without the zeros that were put beside it."""
    size = attributes.get("openhcs", {}).get("sizes", {}).get(_size_name(place))
    return plane if size is None else plane[: size[0], : size[1]]


def _on_axes(key: GroupKey, arrangement: _Arrangement) -> GroupKey:
    """Give a label's key a channel of the image, as labels have no channel axis."""
    from dataclasses import replace

    return replace(key, channel=arrangement.channel[0])


def _origins(where: Placing) -> dict[str, list[float]]:
    return {f"{t}/{z}": list(at) for (t, z), at in where.moved_um.items()}


def _channel_name(channel: str | None) -> str:
    return "combined" if channel is None else channel


def _sort_key(group: tuple[GroupKey, Mapping[str, Any]]) -> tuple[int, int, str, int]:
    key = group[0]
    return (
        -1 if key.t is None else key.t,
        -1 if key.field is None else key.field,
        key.channel or "",
        -1 if key.z is None else key.z,
    )
