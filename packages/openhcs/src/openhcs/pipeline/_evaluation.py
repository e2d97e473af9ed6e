"""One well taken through the steps of a plan; used alike by the dry run and by the workers.

The steps of a well form a graph of lazy values: each image, label image, table or record is made
when its first reader asks for it. Steps are asked for from the last to the first, so that a plane
is read once, goes through all the steps that need nothing but it, and is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from numpy.typing import NDArray

from openhcs._errors import PlateError, StepError
from openhcs._words import reason_of
from openhcs.functions import ARRAYS, Axes, Kind, Stack, Tile, from_device, on_device, out_of_memory
from openhcs.pipeline._acting import NOWHERE
from openhcs.pipeline._groups import GroupKey, grouped
from openhcs.pipeline._lazy import Lazy, LoadedPlanes, frozen
from openhcs.pipeline._outputs import image_by_key, named_outputs
from openhcs.pipeline._plan import PLATE
from openhcs.pipeline._taken import Taken, taken

if TYPE_CHECKING:
    from openhcs.functions import FunctionSpec
    from openhcs.pipeline._plan import PlannedOutput, PlannedStep

__all__ = ["Evaluation", "Kept", "Source"]

Image: TypeAlias = Lazy[NDArray[Any]]
Stream: TypeAlias = Mapping[GroupKey, Image]


class Source(Protocol):
    """The planes of one well."""

    def keys(self) -> Sequence[GroupKey]:
        """Give the key of every plane; called once, when the graph is built."""
        ...

    def read(self, key: GroupKey) -> NDArray[Any]:
        """Give the pixels of a plane, shape (y, x); called whenever a step asks for them."""
        ...

    def place(self, key: GroupKey, axis: str) -> float:
        """Give where a key lies along ``x``, ``y`` or ``z`` in µm or ``t`` in s; NaN if unknown."""
        ...

    def prepared(self, step: str, channel: str | None) -> Mapping[str, NDArray[Any]]:
        """Give what a step learned from the whole plate for a channel."""
        ...

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) in µm."""
        ...


class Kept(Protocol):
    """Where outputs go, and where those of an earlier run lie."""

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        """Take an output, as soon as it is there and exactly once."""
        ...

    def reused(self, step: PlannedStep) -> bool:
        """Say whether the step's stored outputs are there already and still right."""
        ...

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        """Give an output that was stored by an earlier run."""
        ...

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Take note that all of a step is done; `seconds` leaves out the steps before it."""
        ...

    def proceed(self) -> None:
        """Raise something to stop here; called before each plane and each call."""
        ...


class Evaluation:
    """The graph of one well.

    Parameters
    ----------
    steps
        The plan's steps.
    source
        The well's planes.
    kept
        Where outputs go.
    trial
        Whether images are tiny ones, and results of no account: all steps compute on the host, and
        networks are not loaded.

    Raises
    ------
    StepError
        If an input of a step matches none or several of an earlier step's outputs.
    """

    def __init__(
        self, steps: Sequence[PlannedStep], source: Source, kept: Kept, *, trial: bool = False
    ) -> None:
        self._source = source
        self._kept = kept
        self.trial = trial
        self._clock = _Clock()
        self._cells: list[list[_Cell]] = []
        self._to_call: dict[str, int] = {}
        keys = source.keys()
        channels = {key.channel: place for place, key in reversed(list(enumerate(keys)))}
        self._order = partial(_order, channels)
        self._start: Stream = {key: Lazy(self._reader(key)) for key in keys}
        self._streams: list[Stream] = []
        self._steps = tuple(steps)
        for step in steps:
            self._add(step)
        for cells in reversed(self._cells):
            for cell in cells:
                cell.join()

    @property
    def streams(self) -> Sequence[Stream]:
        """Images after each step."""
        return self._streams

    def run(self) -> None:
        """Make every output that is not there yet.

        Raises
        ------
        StepError
            If a function fails or gives something else than it declares.
        PlateError
            If a plane cannot be read.
        """
        for position in reversed(range(len(self._steps))):
            self._finish(position)
        for stream in reversed(self._streams):
            for image in stream.values():
                if image.unstored:
                    image.get()
        for step, cells in zip(self._steps, self._cells, strict=True):
            if not cells and not self._kept.reused(step):
                self._kept.finished(step, 0.0)

    def attempt(self) -> Sequence[str]:
        """Make every output, from the first step on, and give each thing that goes wrong once."""
        problems: dict[str, None] = {}
        for position in range(len(self._steps)):
            try:
                self._finish(position)
            except (StepError, PlateError) as error:
                problems[str(error)] = None
        return list(problems)

    def _finish(self, position: int) -> None:
        if self._kept.reused(self._steps[position]):
            return
        for cell in self._cells[position]:
            cell.finish()

    def _reader(self, key: GroupKey) -> Callable[[], NDArray[Any]]:
        def read() -> NDArray[Any]:
            self._kept.proceed()
            with self._clock.running("read"):
                return frozen(self._source.read(key))

        return read

    @property
    def seconds(self) -> Mapping[str, float]:
        """Time by step, and under ``read`` and ``write`` for planes read and stored."""
        return self._clock.seconds

    def _add(self, step: PlannedStep) -> None:
        before = self._start if step.previous == PLATE else self._streams[step.previous]
        stream = self._start if step.source == PLATE else self._streams[step.source]
        taken = {
            key: image
            for key, image in stream.items()
            if step.channels is None or key.channel in step.channels
        }
        spec = step.spec
        cells: list[_Cell] = []
        images: dict[GroupKey, Image] = {}
        # A step that looks at planes one by one and changes none stands in their way instead of
        # reading them for itself: each plane is then read once for it and for what follows.
        taps = not step.gives_image and step.axes is Axes.PLANE and stream is before
        reused = self._kept.reused(step)
        for group, members in grouped(taken, step.axes.consumed).items():
            cell = _Cell(self, step, spec, group, {key: taken[key] for key in members})
            cells.append(cell)
            if step.gives_image:
                images.update(cell.images)
            elif taps and not reused:
                images[members[0]] = cell.tapped()
        if step.gives_image:
            others = (key for key in stream if key not in taken and key.channel not in step.drops)
            images.update((key, stream[key]) for key in others)
            images = {key: images[key] for key in sorted(images, key=self._order)}
            after = self._stored(step, images)
        else:
            after = {**before, **images}
        self._cells.append(cells)
        self._to_call[step.name] = len(cells)
        self._streams.append(after)

    def _stored(self, step: PlannedStep, stream: Stream) -> Stream:
        """Have the images after a step stored, or take them from where they are stored."""
        kept, name = self._kept, step.image
        if name is None:
            return stream
        if kept.reused(step):

            def reader(key: GroupKey) -> Callable[[], NDArray[Any]]:
                return lambda: frozen(kept.stored(step, name, Kind.IMAGE, key))

            return {key: Lazy(reader(key)) for key in stream}

        def writer(key: GroupKey) -> Callable[[NDArray[Any]], None]:
            def write(array: NDArray[Any]) -> None:
                with self._clock.running("write"):
                    try:
                        kept.store(step, name, Kind.IMAGE, key, array)
                    except OSError as error:
                        # Said here, or the step that asked for the image would seem to have failed.
                        reason = reason_of(error)
                        message = f"the image {name} of {step.name} was not stored, {key}: {reason}"
                        raise StepError(message) from error

            return write

        for key, image in stream.items():
            image.store_by(writer(key))
        return stream

    def called(self, step: PlannedStep) -> None:
        """Take note of a first call of a step's function; the last of them finishes the step."""
        self._to_call[step.name] -= 1
        if self._to_call[step.name] == 0 and not self._kept.reused(step):
            self._kept.finished(step, self._clock.seconds.get(step.name, 0.0))

    def providers(self, step: PlannedStep, group: GroupKey) -> Mapping[str, Taken]:
        """Find the earlier outputs that fill a step's inputs for one group."""
        for wanted in step.inputs:
            if wanted.step == NOWHERE:
                message = (
                    f"{step.name} takes {wanted.output} as {wanted.parameter}, and the step that "
                    "gives it does not act in this well: limit both to the same wells"
                )
                raise StepError(message)
        return {
            wanted.parameter: taken(
                step,
                wanted.parameter,
                group,
                giver=self._steps[wanted.step],
                output=wanted.output,
                values={cell.group: cell.named[wanted.output] for cell in self._cells[wanted.step]},
            )
            for wanted in step.inputs
        }

    @property
    def source(self) -> Source:
        """The well's planes."""
        return self._source

    @property
    def kept(self) -> Kept:
        """Where outputs go."""
        return self._kept

    @property
    def clock(self) -> _Clock:
        """Time by step."""
        return self._clock


@dataclass(frozen=True, slots=True)
class _Made:
    """What one call gave."""

    images: Mapping[GroupKey, NDArray[Any]]
    named: Mapping[str, Any]


class _Cell:
    """One call of one step's function."""

    def __init__(
        self,
        evaluation: Evaluation,
        step: PlannedStep,
        spec: FunctionSpec,
        group: GroupKey,
        members: Mapping[GroupKey, Image],
    ) -> None:
        self._evaluation = evaluation
        self._step = step
        self._spec = spec
        self.group = group
        self._members = members
        self._reused = evaluation.kept.reused(step)
        self._sent = step.device == "gpu" and spec.gpu == ARRAYS and not evaluation.trial
        self._done = False
        self._failed = False
        self._passed_on = False
        self._tap: Image | None = None
        self._inputs = evaluation.providers(step, group)
        self.images: Mapping[GroupKey, Image] = {}
        if step.gives_image:
            self.images = {key: self._image(key) for key in self._image_keys()}
        self.named = {output.name: self._named(output) for output in step.outputs}

    def join(self) -> None:
        """Become a reader of what the call takes, if the call will be made.

        Called from the last step to the first, so that it is known who reads this one.
        """
        if self._reused and not any(image.readers for image in self.images.values()):
            return
        for value in self._read():
            value.readers += 1
        if self._tap is not None and self._tap.readers:
            for image in self._members.values():
                image.readers += 1

    def _read(self) -> Iterator[Lazy[Any]]:
        """Give everything that the call reads."""
        yield from self._members.values()
        for each in self._inputs.values():
            yield from each.values.values()

    def tapped(self) -> Image:
        """Give the only member, as it comes out behind the step that looked at it."""
        (image,) = self._members.values()

        def make() -> NDArray[Any]:
            array = image.get()
            if not self._done and not self._failed:
                self._hand_out(self._call(array))
            if not self._passed_on:
                self._passed_on = True
                image.release()
            return array

        self._tap = Lazy(make)
        return self._tap

    def finish(self) -> None:
        """Make the call, unless it was made."""
        if not self._done:
            self._hand_out(self._call())

    def _image_keys(self) -> Sequence[GroupKey]:
        if "channel" not in self._step.axes.consumed - self._spec.collapses:
            return [self.group]
        channels = dict.fromkeys(key.channel for key in self._members)
        return [replace(self.group, channel=channel) for channel in channels]

    def _image(self, key: GroupKey) -> Image:
        def make() -> NDArray[Any]:
            made = self._call()
            self._hand_out(made, but=self.images[key])
            return made.images[key]

        return Lazy(make)

    def _named(self, output: PlannedOutput) -> Lazy[Any]:
        step, kept = self._step, self._evaluation.kept

        def make() -> Any:
            if self._reused:
                return kept.stored(step, output.stored, output.kind, self.group)
            made = self._call()
            self._hand_out(made, but=self.named[output.name])
            return made.named[output.name]

        def save(value: Any) -> None:
            kept.store(step, output.stored, output.kind, self.group, value)

        value: Lazy[Any] = Lazy(make)
        if not self._reused:
            value.store_by(save)
        return value

    def _hand_out(self, made: _Made, but: Lazy[Any] | None = None) -> None:
        """Let everything that a call made be stored and kept; `but` is seen to by who asked."""
        for key, array in made.images.items():
            if self.images[key] is not but:
                self.images[key].keep(array)
        for name, value in made.named.items():
            if self.named[name] is not but:
                self.named[name].keep(value)

    def _call(self, plane: NDArray[Any] | None = None) -> _Made:
        """Call the function. What went into it is let go the first time."""
        step = self._step
        self._evaluation.kept.proceed()
        with self._evaluation.clock.running(step.name):
            try:
                outputs = named_outputs(self._spec, self._computed(plane))
                arrays = self._images_of(outputs)
            except (StepError, PlateError):
                self._failed = True
                raise
            except Exception as error:
                self._failed = True
                # A function is a plug-in: whatever it raises is the step's failure, kept whole.
                reason = _reason(error)
                message = f"{step.name} failed on {self.group}: {reason}"
                raise StepError(message) from error
        if not self._done:
            self._done = True
            for value in self._read():
                value.release()
            self._evaluation.called(step)
        return _Made(arrays, {output.name: outputs[output.name] for output in step.outputs})

    def _computed(self, plane: NDArray[Any] | None) -> Any:
        """Call the function where it is to compute, and give what it gave on the host."""
        keywords = self._keywords()
        if self._evaluation.trial and self._spec.weights is not None:
            return self._spec.weights.stand_in(self._argument(plane), self._step.parameters)
        if not self._sent:
            return self._spec.call(self._argument(plane), **keywords)
        keywords = {name: on_device(value) for name, value in keywords.items()}
        return from_device(self._spec.call(on_device(self._argument(plane)), **keywords))

    def _images_of(self, outputs: Mapping[str, Any]) -> Mapping[GroupKey, NDArray[Any]]:
        if not self._step.gives_image:
            return {}
        name = next(output.name for output in self._spec.outputs if output.kind is Kind.IMAGE)
        return {
            key: frozen(array)
            for key, array in image_by_key(self._spec, outputs[name], self.images).items()
        }

    def _keywords(self) -> dict[str, Any]:
        keywords: dict[str, Any] = dict(self._step.parameters)
        for parameter, value in self._inputs.items():
            keywords[parameter] = value.get(self._evaluation.source.place)
        source = self._evaluation.source
        if "pixel_um" in self._spec.needs:
            keywords["pixel_um"] = source.pixel_um
        if "device" in self._spec.needs:
            keywords["device"] = "cpu" if self._evaluation.trial else self._step.device
        if self._spec.preparation is not None:
            keywords["prepared"] = source.prepared(self._step.name, self.group.channel)
        return keywords

    def _argument(self, plane: NDArray[Any] | None) -> Any:
        members = self._members
        match self._step.axes:
            case Axes.PLANE:
                return next(iter(members.values())).get() if plane is None else plane
            case Axes.ZSTACK | Axes.TIME:
                return self._stack()
            case Axes.CHANNELS:
                return LoadedPlanes(
                    {str(key.channel): self._loader(image) for key, image in members.items()}
                )
            case Axes.FIELDS:
                return self._tiles(members)
            case Axes.CHANNEL_FIELDS:
                channels = dict.fromkeys(key.channel for key in members)
                return {
                    str(channel): self._tiles(
                        {key: image for key, image in members.items() if key.channel == channel}
                    )
                    for channel in channels
                }

    def _loader(self, image: Image) -> Callable[[], NDArray[Any]]:
        """Give what loads a plane to where the function is to compute."""
        if not self._sent:
            return image.get
        return lambda: on_device(image.get())

    def _stack(self) -> Stack:
        axis = "z" if self._step.axes is Axes.ZSTACK else "t"
        return Stack(
            [self._loader(image) for image in self._members.values()],
            [self._evaluation.source.place(key, axis) for key in self._members],
            [getattr(key, axis) or 0 for key in self._members],
        )

    def _tiles(self, members: Mapping[GroupKey, Image]) -> tuple[Tile, ...]:
        place = self._evaluation.source.place
        return tuple(
            Tile(
                field=0 if key.field is None else key.field,
                x_um=place(key, "x"),
                y_um=place(key, "y"),
                load=self._loader(image),
            )
            for key, image in members.items()
        )


def _order(channels: Mapping[str | None, int], key: GroupKey) -> tuple[int, ...]:
    """Say where a key comes: by t, field, channel as on the plate, and z."""
    numbers = (key.t, key.field, channels.get(key.channel), key.z)
    return tuple(-1 if number is None else number for number in numbers)


def _reason(error: Exception) -> str:
    """Say in words why a function failed."""
    reason = str(error) or type(error).__name__
    if not out_of_memory(error):
        return reason
    return (
        "the memory of the GPU is full, of which every worker takes a part: use fewer workers, or "
        f"device='cpu' for this step ({reason})"
    )


class _Clock:
    """Time by name, leaving out what runs inside."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            total = time.perf_counter() - started
            own = total - self._inside.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inside:
                self._inside[-1] += total
