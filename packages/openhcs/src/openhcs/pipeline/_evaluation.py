"""One well taken through the steps of a plan; used alike by the dry run and by the workers.

The steps of a well form a graph of lazy values: each image, label image, table or record is made
when its first reader asks for it. Steps are asked for from the last to the first, so that a plane
is read once, goes through all the steps that need nothing but it, and is forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs._errors import PlateError, StepError
from openhcs._words import reason_of
from openhcs.functions import Axes, Kind
from openhcs.pipeline._acting import NOWHERE
from openhcs.pipeline._cell import Cell, Image
from openhcs.pipeline._clock import Clock
from openhcs.pipeline._flat import PLATE
from openhcs.pipeline._groups import GroupKey, grouped
from openhcs.pipeline._lazy import Lazy, frozen
from openhcs.pipeline._surroundings import Kept, Source, Surroundings
from openhcs.pipeline._taken import Taken, taken

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs._errors import OpenHCSError
    from openhcs.pipeline._plan import PlannedStep

__all__ = ["Evaluation"]

_FRAMES, _FRAMES_EACH = 1000, 20
"""Calls within calls that Python is to allow, and more for each step: a step takes 5 to 20.

With the most steps of a pipeline these are few enough that whatever else recurs in the process,
such as the reading of JSON, is stopped by Python long before its stack is full.
"""

Stream: TypeAlias = Mapping[GroupKey, Image]


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
        self._clock = Clock()
        self._surroundings = Surroundings(source, kept, self._clock, self._called, trial)
        self._cells: list[list[Cell]] = []
        self._to_call: dict[str, int] = {}
        keys = source.keys()
        channels = {key.channel: place for place, key in reversed(list(enumerate(keys)))}
        self._order = partial(_order, channels)
        self._start: Stream = {key: Lazy(self._reader(key)) for key in keys}
        self._streams: list[Stream] = []
        self._steps = tuple(steps)
        _allow_depth(len(self._steps))
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

    def attempt(self) -> Sequence[OpenHCSError]:
        """Make every output, from the first step on, and give each thing that goes wrong once."""
        problems: dict[str, OpenHCSError] = {}
        for position in range(len(self._steps)):
            try:
                self._finish(position)
            except (StepError, PlateError) as error:
                problems.setdefault(str(error), error)
        return list(problems.values())

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
        step = _with_reference(step, taken)
        cells: list[Cell] = []
        images: dict[GroupKey, Image] = {}
        # A step that looks at planes one by one and changes none stands in their way instead of
        # reading them for itself: each plane is then read once for it and for what follows.
        taps = not step.gives_image and step.axes is Axes.PLANE and stream is before
        reused = self._kept.reused(step)
        for group, members in grouped(taken, step.axes.consumed).items():
            images_of = {key: taken[key] for key in members}
            guide = _guide(step, taken, group) if "guide" in step.spec.needs else {}
            inputs = self._inputs(step, group)
            cell = Cell(self._surroundings, step, group, images_of, inputs, guide)
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
                        raise StepError(message, step.name) from error

            return write

        for key, image in stream.items():
            image.store_by(writer(key))
        return stream

    def _called(self, step: PlannedStep) -> None:
        """Take note of a first call of a step's function; the last of them finishes the step."""
        self._to_call[step.name] -= 1
        if self._to_call[step.name] == 0 and not self._kept.reused(step):
            self._kept.finished(step, self._clock.seconds.get(step.name, 0.0))

    def _inputs(self, step: PlannedStep, group: GroupKey) -> Mapping[str, Taken]:
        """Find the earlier outputs that fill a step's inputs for one group."""
        for wanted in step.inputs:
            if wanted.step == NOWHERE:
                message = (
                    f"{step.name} takes {wanted.output} as {wanted.parameter}, and the step that "
                    "gives it does not act in this well: limit both to the same wells"
                )
                raise StepError(message, step.name)
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


def _allow_depth(steps: int) -> None:
    """Let every step ask the one before it: Python alone allows 190 of them, or fewer."""
    wanted = _FRAMES + steps * _FRAMES_EACH
    if sys.getrecursionlimit() < wanted:
        sys.setrecursionlimit(wanted)


def _with_reference(step: PlannedStep, stream: Stream) -> PlannedStep:
    """Have every call of a step that puts channels upon one, and names none, take the same.

    Calls for other z may lack the first channel, and would take the first of what they have.
    """
    if step.parameters.get("reference", "") is not None or not stream:
        return step
    if step.axes not in (Axes.CHANNELS, Axes.CHANNEL_FIELDS):
        return step
    first = str(next(iter(stream)).channel)
    return replace(step, parameters={**step.parameters, "reference": first})


def _guide(step: PlannedStep, stream: Stream, group: GroupKey) -> Stream:
    """Give the images by which all z of a time point are laid: those in the middle of the stack.

    A step that consumes fields gets the tiles of its references; one that puts channels upon a
    reference gets the planes of all of them. Where a reference was not taken at that time point,
    those of the first one at which it was. None where they are among the images of the group.
    """
    wanted = step.parameters["reference"]
    whole = "field" in step.axes.consumed
    near = [key for key in stream if whole or key.field == group.field]
    found: dict[GroupKey, Image] = {}
    for reference in dict.fromkeys(wanted if isinstance(wanted, tuple) else (wanted,)):
        every = [key for key in near if str(key.channel) == reference]
        if not every:
            return {}
        times = {key.t for key in every}
        t = group.t if group.t in times else every[0].t
        z = _middle(key.z for key in every if key.t == t)
        found |= {key: stream[key] for key in every if key.t == t and key.z == z}
    if all((key.t, key.z) == (group.t, group.z) for key in found):
        return {}
    return found if whole else {**found, **_beside(found, near, stream)}


def _beside(found: Stream, near: Sequence[GroupKey], stream: Stream) -> Stream:
    """Give planes of the other channels: where that of the reference lies, or in their middle."""
    (at,) = found
    beside: dict[GroupKey, Image] = {}
    for channel in dict.fromkeys(key.channel for key in near if key.channel != at.channel):
        heights = {key.z: key for key in near if key.channel == channel and key.t == at.t}
        if heights:
            key = heights[at.z if at.z in heights else _middle(heights)]
            beside[key] = stream[key]
    return beside


def _middle(heights: Iterable[int | None]) -> int | None:
    ordered = sorted(set(heights), key=lambda z: -1 if z is None else z)
    return ordered[len(ordered) // 2]


def _order(channels: Mapping[str | None, int], key: GroupKey) -> tuple[int, ...]:
    """Say where a key comes: by t, field, channel as on the plate, and z."""
    numbers = (key.t, key.field, channels.get(key.channel), key.z)
    return tuple(-1 if number is None else number for number in numbers)
