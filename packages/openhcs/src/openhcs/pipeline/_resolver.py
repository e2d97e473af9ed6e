"""Steps of a pipeline resolved against a plate, one after the other."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs._errors import ParameterError
from openhcs.functions import Kind
from openhcs.pipeline._acting import COVERAGE, LABELS_OF_PLATE, spelled, with_images
from openhcs.pipeline._content_key import file_key, package_versions
from openhcs.pipeline._flat import PLATE
from openhcs.pipeline._parameters import resolved_parameters
from openhcs.pipeline._plan import PlannedInput, PlannedOutput, PlannedStep
from openhcs.pipeline._settings import resolve
from openhcs.plates import parse_wells

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from openhcs.functions import Device, Output
    from openhcs.pipeline._flat import FlatStep
    from openhcs.pipeline._pipeline import Pipeline
    from openhcs.pipeline._settings import Otherwise, Setting, Settings
    from openhcs.pipeline._step import Step
    from openhcs.plates import PlateIndex

__all__ = ["Resolver", "listed"]


def listed(values: Iterable[object], most: int = 8) -> str:
    """List the first few values and count the others."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return (", ".join(texts[:most]) or "none") + more


def _instead(name: str, channels: Sequence[str]) -> str:
    """Say what there is in place of a channel that is not there."""
    if not channels:
        return ": channels were combined"
    close = difflib.get_close_matches(name, channels, n=1, cutoff=0.5)
    advice = f"did you mean {close[0]!r}?" if close else f"there are {listed(map(repr, channels))}"
    return f" here; {advice}"


@dataclass(slots=True)
class _Stream:
    """What is known of the images after a step, before any is made: their channels, by well."""

    channels: Mapping[str, tuple[str, ...]]
    raw: bool

    def of(self, wells: Iterable[str]) -> tuple[str, ...]:
        """Give the channels that there are in some of these wells."""
        several = dict.fromkeys(self.channels[well] for well in wells)
        return tuple(dict.fromkeys(name for channels in several for name in channels))

    def without(self, ended: Container[str], wells: Iterable[str]) -> _Stream:
        """Give what is left where some channels end in some wells."""
        left = {well: tuple(c for c in self.channels[well] if c not in ended) for well in wells}
        return _Stream({**self.channels, **left}, raw=False)


class Resolver:
    """Resolves the steps of a pipeline, and notes every problem it meets.

    Parameters
    ----------
    pipeline
        The pipeline.
    run
        Settings of the run.
    index
        The planes that are used.
    wells
        All wells of the plate.
    names
        Names of all channels, by channel number.
    pixel_um
        Pixel size (y, x) in µm; None when unknown.
    problems
        Takes one sentence for each problem.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        run: Settings,
        index: PlateIndex,
        wells: tuple[str, ...],
        names: tuple[str, ...],
        pixel_um: tuple[float, float] | None,
        problems: list[str],
    ) -> None:
        self._flat = pipeline.flat
        self._names = pipeline.names
        self._run = run
        self._index = index
        self._wells = wells
        self._pixel_um = pixel_um
        self._problems = problems
        start = tuple(names[number] for number in index.channels)
        self._start = _Stream(dict.fromkeys(wells, start), raw=True)
        self._streams: list[_Stream] = []
        self._outputs: list[tuple[PlannedOutput, ...]] = []
        self._stored: Counter[str] = Counter()
        self._told: set[str] = set()
        self.settings: dict[str, Mapping[str, Setting]] = {}
        """What holds for each step, and which layer set it; known once `steps` was called."""
        self.sound = len(self._flat)
        """How many steps there are before the first one with a problem."""

    def steps(self) -> tuple[PlannedStep, ...]:
        """Give the steps of the plan, as good as they can be made."""
        resolved = with_images([self._step(at, flat) for at, flat in enumerate(self._flat)])
        for position, step in enumerate(resolved):
            self._check_stored(position, step)
        return resolved

    def _problem(self, position: int, message: str) -> None:
        self.sound = min(self.sound, position)
        place = self._flat[position].step.place
        where = f"{place}: " if place is not None else ""
        self._problems.append(f"{where}{self._names[position]}: {message}")

    def _stream(self, position: int) -> _Stream:
        return self._start if position == PLATE else self._streams[position]

    def _step(self, position: int, flat: FlatStep) -> PlannedStep:
        step, spec = flat.step, flat.step.spec
        settings = resolve([("run", self._run), *flat.layers])
        self.settings[flat.name] = settings
        stream = self._stream(flat.source)
        acting = self._acting(position, flat)
        wells = self._wells if acting is None else acting
        channels = self._channels(position, flat, stream, wells)
        gives_image = any(output.kind is Kind.IMAGE for output in spec.outputs)
        others = tuple(name for name in stream.of(wells) if name not in (*channels, *flat.apart))
        otherwise = flat.unnamed or settings["otherwise"].value
        self._check_routing(position, channels, others if gives_image else (), otherwise)
        self._check_needs(position, step, stream)
        try:
            parameters = resolved_parameters(spec, step.parameters)
        except ParameterError as error:
            self._problem(position, str(error))
            parameters = dict(step.parameters)
        inputs = self._inputs(position, step)
        device = self._device(position, step, settings["device"])
        outputs = tuple(
            PlannedOutput(
                name=output.name, kind=output.kind, stored=self._stored_name(position, output)
            )
            for output in spec.outputs
            if output.kind is not Kind.IMAGE
        )
        drops = others if otherwise == "drop" and gives_image else ()
        if gives_image:
            ended = (*drops, *(channels if "channel" in spec.collapses else ()))
            self._streams.append(stream.without(ended, wells))
        else:
            self._streams.append(self._stream(flat.previous))
        self._outputs.append(outputs)
        return PlannedStep(
            name=self._names[position],
            function=spec.name,
            module=spec.call.__module__,
            version=spec.version,
            library=spec.library,
            packages={} if spec.missing else package_versions(spec, device),
            files=self._weights(position, step, parameters),
            axes=spec.axes,
            parameters=parameters,
            channels=None if flat.channels is None and not flat.apart else channels,
            drops=drops,
            previous=flat.previous,
            source=flat.source,
            wells=acting,
            keep=bool(settings["keep"].value),
            device=device,
            inputs=inputs,
            outputs=outputs,
            gives_image=gives_image,
            image=None,
            beside=None,
            prepared=spec.preparation is not None,
        )

    def _device(self, position: int, step: Step, wanted: Setting) -> Device:
        """Say where a step computes; what is inherited holds for the functions that can."""
        if wanted.value == "cpu" or step.spec.gpu:
            device: Device = wanted.value
            return device
        if wanted.origin == "step":
            self._problem(
                position, f"device='gpu', but {step.spec.name} computes in the processor alone"
            )
        return "cpu"

    def _weights(
        self, position: int, step: Step, parameters: Mapping[str, Any]
    ) -> Mapping[str, str]:
        """Give the files of the network that a step computes with, and what they hold."""
        if step.spec.weights is None or step.spec.missing:
            return {}
        try:
            return {path: file_key(path) for path in step.spec.weights.files(parameters)}
        except (ValueError, OSError) as error:
            self._problem(position, str(error))
            return {}

    def _acting(self, position: int, flat: FlatStep) -> tuple[str, ...] | None:
        """Give the wells that a step is limited to."""
        if not flat.wells:
            return None
        wells = self._wells
        around = len(flat.wells) - (flat.step.wells is not None)
        for depth, selection in enumerate(flat.wells):
            try:
                chosen = frozenset(parse_wells(selection, self._wells))
            except ValueError as error:
                message = f"wells={selection!r}: {error}"
                # that of a pipeline is told at its first step, and not at all of them
                if depth >= around or message not in self._told:
                    self._problem(position, message)
                    self._told.add(message)
                continue
            wells = tuple(well for well in wells if well in chosen)
        return wells

    def _channels(
        self, position: int, flat: FlatStep, stream: _Stream, wells: Sequence[str]
    ) -> tuple[str, ...]:
        there = stream.of(wells)
        if flat.channels is None:
            return tuple(name for name in there if name not in flat.apart)
        for name in flat.channels if wells else ():
            if name not in there:
                self._problem(position, f"there is no channel {name!r}{_instead(name, there)}")
                continue
            lacking = [well for well in wells if name not in stream.channels[well]]
            if lacking:
                self._problem(
                    position,
                    f"{listed(lacking)} have no channel {name!r} here: limit the step to other "
                    "wells",
                )
        return tuple(name for name in there if name in flat.channels)

    def _check_routing(
        self,
        position: int,
        channels: tuple[str, ...],
        others: tuple[str, ...],
        otherwise: Otherwise | None,
    ) -> None:
        if not others:
            return
        named = ", ".join(others)
        if otherwise is None:
            self._problem(
                position,
                f"it changes images of {', '.join(channels)} alone; say what becomes of "
                f"{named} with otherwise='pass', 'drop' or 'error'",
            )
        elif otherwise == "error":
            self._problem(position, f"otherwise='error', and there are other channels: {named}")

    def _check_stored(self, position: int, step: PlannedStep) -> None:
        if self._flat[position].step.keep and not step.gives_image:
            self._problem(position, "keep=True, but it gives no images")
        labels = any(output.kind is Kind.LABELS for output in step.outputs)
        if labels and step.beside is None:
            self._problem(position, LABELS_OF_PLATE)

    def _check_needs(self, position: int, step: Step, stream: _Stream) -> None:
        spec = step.spec
        if spec.missing:
            named = " and ".join(spec.missing)
            install = f"'openhcs[{spec.extra}]'" if spec.extra else " ".join(spec.missing)
            self._problem(
                position, f"it needs {named}, which is not installed: pip install {install}"
            )
        if spec.call.__module__ == "__main__":
            self._problem(
                position,
                f"{spec.name} is defined in the script or notebook itself, where worker processes "
                "cannot find it: put it in a module and import it from there",
            )
        if "pixel_um" in spec.needs and self._pixel_um is None:
            self._problem(
                position, "it needs the pixel size, which the plate does not tell: give pixel_um"
            )
        if spec.preparation is not None and not stream.raw:
            self._problem(
                position,
                "it learns from the plate's own planes: put it before the steps that change "
                "images, or give input='start'",
            )
        if "field" in spec.axes.consumed:
            unknown = self._unplaced()
            if unknown:
                self._problem(
                    position,
                    f"it needs to know where fields lie, and the plate does not tell it for "
                    f"{listed(unknown)}",
                )

    def _unplaced(self) -> list[str]:
        """Name the wells of several fields of which some have no position."""
        columns = ("well", "field", "x_um", "y_um")
        fields: dict[str, set[int]] = {}
        unknown: dict[str, None] = {}
        for well, field, x_um, y_um in zip(
            *(self._index.column(name).tolist() for name in columns), strict=True
        ):
            fields.setdefault(well, set()).add(field)
            if not (math.isfinite(x_um) and math.isfinite(y_um)):
                unknown[well] = None
        return [f"well {well}" for well in unknown if len(fields[well]) > 1]

    def _inputs(self, position: int, step: Step) -> tuple[PlannedInput, ...]:
        inputs: list[PlannedInput] = []
        for parameter, (kind, wanted) in step.spec.inputs.items():
            if parameter in step.inputs:
                inputs += self._named_input(position, parameter, kind, step.inputs[parameter])
                continue
            found = self._giver(kind, wanted)
            if found is None and parameter in step.spec.optional_inputs:
                continue
            if found is None:
                name = f"{kind} {wanted!r}" if wanted else str(kind)
                self._problem(
                    position, f"it takes {name} as {parameter}, and no step before it gives that"
                )
                continue
            inputs.append(PlannedInput(parameter=parameter, step=found[0], output=found[1]))
        return tuple(inputs)

    def _named_input(
        self, position: int, parameter: str, kind: Kind, text: str
    ) -> Iterator[PlannedInput]:
        """Give the input that a step names itself."""
        wanted, _, output = text.partition(".")
        given = dict(zip(self._names, self._outputs, strict=False))
        if wanted not in given:
            close = difflib.get_close_matches(wanted, given, n=1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            self._problem(
                position, f"it takes {parameter} from {wanted!r}, no step before it{advice}"
            )
            return
        fitting = [each.name for each in given[wanted] if each.kind is kind]
        if not fitting or output not in ("", *fitting):
            there = listed(each.name for each in given[wanted])
            self._problem(
                position,
                f"it takes {kind} as {parameter}, and {text!r} is none: {wanted} gives {there}",
            )
            return
        yield PlannedInput(
            parameter=parameter, step=self._names.index(wanted), output=output or fitting[-1]
        )

    def _giver(self, kind: Kind, wanted: str | None) -> tuple[int, str] | None:
        """Find the latest step that gives an output of a kind, and of a name if one is wanted."""
        for position in reversed(range(len(self._outputs))):
            for output in self._outputs[position]:
                if output.kind is kind and wanted in (None, output.name):
                    return position, output.name
        return None

    def _stored_name(self, position: int, output: Output) -> str:
        """Give an output a name in the result folder that no other output has."""
        name = output.name
        self._stored[name] += 1
        taken = self._stored[name] > 1 or (output.kind is Kind.LABELS and name == COVERAGE)
        if not taken:
            return name
        step = self._names[position]
        if output.kind is Kind.LABELS and step in map(spelled, self._start.of(self._wells)):
            self._problem(
                position,
                f"its labels would be stored under the name that {name} of the channel {step} has: "
                "give the step another name",
            )
        return f"{name}_{step}"
