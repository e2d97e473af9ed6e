"""One call of a step's function on one group of a well's images, made when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from openhcs._errors import PlateError, StepError
from openhcs.functions import ARRAYS, Axes, Kind, Stack, Tile, from_device, on_device, out_of_memory
from openhcs.pipeline._lazy import Lazy, LoadedPlanes, frozen
from openhcs.pipeline._outputs import image_by_key, named_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import PlannedOutput, PlannedStep
    from openhcs.pipeline._surroundings import Surroundings
    from openhcs.pipeline._taken import Taken

__all__ = ["Cell", "Image"]

Image: TypeAlias = Lazy[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Made:
    """What one call gave."""

    images: Mapping[GroupKey, NDArray[Any]]
    named: Mapping[str, Any]


class Cell:
    """One call of one step's function.

    Parameters
    ----------
    surroundings
        What it is made in.
    step
        Its step.
    group
        What the images that it takes have in common.
    members
        These images.
    inputs
        Earlier outputs that it takes, by parameter.
    guide
        Images beside the group that say where its own lie; none where these say it themselves.

    Attributes
    ----------
    images, named
        What it gives: made when the first is asked for.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        step: PlannedStep,
        group: GroupKey,
        members: Mapping[GroupKey, Image],
        inputs: Mapping[str, Taken],
        guide: Mapping[GroupKey, Image],
    ) -> None:
        self._surroundings = surroundings
        self._step = step
        self._spec = step.spec
        self.group = group
        self._members = members
        self._guide = guide
        self._reused = surroundings.kept.reused(step)
        self._sent = step.device == "gpu" and step.spec.gpu == ARRAYS and not surroundings.trial
        self._done = False
        self._failed = False
        self._passed_on = False
        self._tap: Image | None = None
        self._inputs = inputs
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
        yield from self._guide.values()
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
        step, kept = self._step, self._surroundings.kept

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
        self._surroundings.kept.proceed()
        with self._surroundings.clock.running(step.name):
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
                raise StepError(message, step.name) from error
        if not self._done:
            self._done = True
            for value in self._read():
                value.release()
            self._surroundings.called(step)
        return _Made(arrays, {output.name: outputs[output.name] for output in step.outputs})

    def _computed(self, plane: NDArray[Any] | None) -> Any:
        """Call the function where it is to compute, and give what it gave on the host."""
        keywords = self._keywords()
        if self._surroundings.trial and self._spec.weights is not None:
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
            keywords[parameter] = value.get(self._surroundings.source.place)
        source = self._surroundings.source
        if "pixel_um" in self._spec.needs:
            keywords["pixel_um"] = source.pixel_um
        if "guide" in self._spec.needs:
            keywords["guide"] = self._guiding()
        if "device" in self._spec.needs:
            keywords["device"] = "cpu" if self._surroundings.trial else self._step.device
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
                return self._planes(members)
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

    def _guiding(self) -> Any:
        """Give what lies in the middle of the stack, in the form of what the call takes."""
        if self._step.axes is Axes.CHANNELS:
            return self._planes(self._guide)
        names = dict.fromkeys(str(key.channel) for key in self._guide)
        return {name: self._tiles(self._guide) for name in names}

    def _planes(self, members: Mapping[GroupKey, Image]) -> LoadedPlanes:
        return LoadedPlanes(
            {str(key.channel): self._loader(image) for key, image in members.items()}
        )

    def _loader(self, image: Image) -> Callable[[], NDArray[Any]]:
        """Give what loads a plane to where the function is to compute."""
        if not self._sent:
            return image.get
        return lambda: on_device(image.get())

    def _stack(self) -> Stack:
        axis = "z" if self._step.axes is Axes.ZSTACK else "t"
        return Stack(
            [self._loader(image) for image in self._members.values()],
            [self._surroundings.source.place(key, axis) for key in self._members],
            [getattr(key, axis) or 0 for key in self._members],
        )

    def _tiles(self, members: Mapping[GroupKey, Image]) -> tuple[Tile, ...]:
        place = self._surroundings.source.place
        return tuple(
            Tile(
                field=0 if key.field is None else key.field,
                x_um=place(key, "x"),
                y_um=place(key, "y"),
                load=self._loader(image),
            )
            for key, image in members.items()
        )


def _reason(error: Exception) -> str:
    """Say in words why a function failed."""
    reason = str(error) or type(error).__name__
    if not out_of_memory(error):
        return reason
    return (
        "the memory of the GPU is full, of which every worker takes a part: use fewer workers, or "
        f"device='cpu' for this step ({reason})"
    )
