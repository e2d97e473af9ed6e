"""What one well gives: collected while its steps run, and put in place together at the end."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs.execution._tables import measures, read_group, write_outputs
from openhcs.functions import Kind
from openhcs.pipeline import GroupKey, WellImage
from polystore.backends import ChannelMeta, ImageMeta, ImageWriter, LabelsWriter, open_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import Evaluation, PlannedOutput, PlannedStep

__all__ = ["WellOutputs", "group_of"]


def group_of(image: str, field: int | None) -> str:
    """Give the name of an image group: one for the well, or one for each field."""
    return image if field is None else f"{image}{field}"


@dataclass(slots=True)
class _Arrangement:
    """Where the planes of an image group lie along its axes."""

    field: int | None
    t: tuple[int | None, ...]
    channel: tuple[str | None, ...]
    z: tuple[int | None, ...]
    writer: ImageWriter | None = None
    dtype: str = ""
    shape: tuple[int, ...] = ()

    def place(self, key: GroupKey) -> dict[str, int]:
        """Give the place of a plane, by the names of the format's axes."""
        return {
            "t": self.t.index(key.t),
            "c": self.channel.index(key.channel),
            "z": self.z.index(key.z),
        }


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
    pixel_um
        Pixel size (y, x) in µm.
    reused
        Names of the steps whose outputs are there and still right.
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
        pixel_um: tuple[float, float] | None,
        reused: frozenset[str],
        proceed: Callable[[], None],
        finished: Callable[[str, float], None],
    ) -> None:
        self._folder = folder
        self._steps = steps
        self._well = well
        self._pixel_um = pixel_um
        self._reused = reused
        self._proceed = proceed
        self._finished = finished
        self._open = ExitStack()
        self._images: dict[tuple[str, int | None], _Arrangement] = {}
        self._labels: dict[str, list[tuple[GroupKey, NDArray[Any]]]] = {}
        self._groups: dict[str, list[tuple[GroupKey, Mapping[str, Any]]]] = {}

    def clear(self) -> None:
        """Take away what an earlier run left and this one makes anew."""
        plate = self._folder.plate
        for step in self._steps:
            if step.name in self._reused:
                continue
            for output in step.outputs:
                if output.kind is not Kind.LABELS:
                    self._folder.table(output.stored, self._well).unlink(missing_ok=True)
            if step.image is not None:
                row, column = self._well[:-2], int(self._well[-2:])
                for path in (plate / row / str(column)).glob(f"{step.image}*"):
                    if path.name.removeprefix(step.image).isdigit() or path.name == step.image:
                        shutil.rmtree(path)

    def arrange(self, evaluation: Evaluation) -> None:
        """Learn from the graph of the well what the images will hold."""
        for step, stream in zip(self._steps, evaluation.streams, strict=True):
            if step.image is None:
                continue
            for field in dict.fromkeys(key.field for key in stream):
                keys = [key for key in stream if key.field == field]
                self._images[step.image, field] = _Arrangement(
                    field=field,
                    t=tuple(dict.fromkeys(key.t for key in keys)),
                    channel=tuple(dict.fromkeys(key.channel for key in keys)),
                    z=tuple(dict.fromkeys(key.z for key in keys)),
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
                return reader.read(0, t=place["t"], c=place["c"], z=place["z"])
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

    def commit(self) -> dict[str, dict[str, Any]]:
        """Put everything in place, images first.

        Returns
        -------
        dict
            The row of the well, as far as it comes from new outputs: for each output the scalars
            that sum it up.
        """
        for arrangement in self._images.values():
            if arrangement.writer is not None:
                arrangement.writer.commit()
        for step in self._steps:
            for output in step.outputs:
                if output.kind is Kind.LABELS and step.name not in self._reused:
                    self._commit_labels(step, output)
        rows: dict[str, dict[str, Any]] = {}
        for step in self._steps:
            if step.name in self._reused:
                continue
            for output in step.outputs:
                if output.kind is Kind.LABELS:
                    continue
                groups = sorted(self._groups.get(output.stored, ()), key=_sort_key)
                path = self._folder.table(output.stored, self._well)
                write_outputs(path, self._well, output.kind, groups)
                rows[output.stored] = measures(output.stored, output.name, output.kind, groups)
        return rows

    def abort(self) -> None:
        """Take away what was not committed. Harmless after `commit`, and twice."""
        self._open.close()

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
                    labels=tuple(reader.label_names),
                    pixel_um=self._pixel_um,
                )
            )
        return tuple(found)

    def _store_plane(self, name: str, key: GroupKey, plane: NDArray[Any]) -> None:
        arrangement = self._images[name, key.field]
        if arrangement.writer is None:
            arrangement.writer = self._open.enter_context(self._writer(name, arrangement, plane))
        arrangement.writer.write_plane(plane, **arrangement.place(key))

    def _writer(self, name: str, image: _Arrangement, plane: NDArray[Any]) -> ImageWriter:
        shape = (len(image.t), len(image.channel), len(image.z), *plane.shape)
        image.shape, image.dtype = shape, str(plane.dtype)
        own = {"field": image.field, "t": list(image.t), "z": list(image.z)}
        meta = ImageMeta(
            channels=tuple(ChannelMeta(_channel_name(channel)) for channel in image.channel),
            pixel_um=self._pixel_um,
            attributes={"openhcs": own},
        )
        return ImageWriter(
            self._folder.plate, self._well, group_of(name, image.field), shape, plane.dtype, meta
        )

    def _commit_labels(self, step: PlannedStep, output: PlannedOutput) -> None:
        assert step.beside is not None  # compiling stores the image below every label image
        found: dict[tuple[int | None, str], list[tuple[GroupKey, NDArray[Any]]]] = {}
        several = len({key.channel for key, _ in self._labels.get(output.stored, ())}) > 1
        for key, array in self._labels.pop(output.stored, ()):
            name = label_name(output.stored, key.channel if several else None)
            found.setdefault((key.field, name), []).append((key, array))
        for (field, name), planes in found.items():
            arrangement = self._images[step.beside, field]
            group = group_of(step.beside, field)
            dtype = planes[0][1].dtype
            with LabelsWriter(self._folder.plate, self._well, group, name, dtype) as writer:
                for key, array in planes:
                    place = arrangement.place(_on_axes(key, arrangement))
                    writer.write_plane(array, z=place["z"], t=place["t"])
                writer.commit(partial=True)

    def _read_labels(self, step: PlannedStep, name: str, key: GroupKey) -> NDArray[Any]:
        from polystore.backends import open_labels

        assert step.beside is not None  # compiling stores the image below every label image
        arrangement = self._images[step.beside, key.field]
        place = arrangement.place(_on_axes(key, arrangement))
        group = group_of(step.beside, key.field)
        image = open_image(self._folder.plate, self._well, group)
        names = (label_name(name, None), label_name(name, key.channel))
        wanted = next((each for each in names if each in image.label_names), names[0])
        labels = open_labels(self._folder.plate, self._well, group, wanted)
        return labels.read(0, z=place["z"], t=place["t"])


def label_name(stored: str, channel: str | None) -> str:
    """Name a label image: after its output, and its channel when there is one for each."""
    if channel is None:
        return stored
    return stored + "_" + "".join(c if c.isalnum() and c.isascii() else "-" for c in channel)


def _on_axes(key: GroupKey, arrangement: _Arrangement) -> GroupKey:
    """Give a label's key a channel of the image, as labels have no channel axis."""
    from dataclasses import replace

    return replace(key, channel=arrangement.channel[0])


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
