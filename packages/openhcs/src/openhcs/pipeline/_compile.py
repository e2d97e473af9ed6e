"""A pipeline and a plate made into a plan; whatever can go wrong is found here, all at once."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np

from openhcs._errors import CompileError, ParameterError
from openhcs.functions import Kind
from openhcs.pipeline._content_key import package_versions
from openhcs.pipeline._parameters import resolved_parameters
from openhcs.pipeline._pipeline import to_source
from openhcs.pipeline._plan import PLATE, Plan, PlannedInput, PlannedOutput, PlannedStep
from openhcs.pipeline._planes import UNUSABLE, unique_channels
from openhcs.pipeline._step import PREVIOUS, START
from openhcs.pipeline._trial import trial

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from openhcs.pipeline._pipeline import Pipeline
    from openhcs.pipeline._step import Step
    from openhcs.plates import PlateIndex

T = TypeVar("T")

__all__ = ["MissingPlanes", "compile_pipeline"]

MissingPlanes: TypeAlias = Literal["fail-well", "skip-group"]
"""What is done about a well whose planes are not all there: it fails, or goes on without the field
and time point that they belong to."""


def compile_pipeline(
    pipeline: Pipeline,
    index: PlateIndex,
    *,
    wells: Iterable[str] | None = None,
    fields: Iterable[int] | None = None,
    channels: Iterable[str | int] | None = None,
    acquisition: int | None = None,
    missing: MissingPlanes = "fail-well",
    pixel_um: tuple[float, float] | None = None,
) -> Plan:
    """Resolve a pipeline against a plate.

    Parameters
    ----------
    pipeline
        What is to be done.
    index
        The plate.
    wells, fields, channels
        What is to be used; None for all. Fields are numbers from 0; channels are names, or
        numbers from 0.
    acquisition
        Which one to use of a plate that was taken several times; numbered from 0.
    missing
        What is done about missing planes.
    pixel_um
        Pixel size (y, x) in µm, in place of what the plate says.

    Returns
    -------
    Plan
        Ready to run. Wells that cannot run are listed in it with the reason.

    Raises
    ------
    CompileError
        If the plan cannot run; the message lists every problem found.
    """
    problems: list[str] = []
    names = unique_channels(index.channel_names)
    if fields is not None:
        fields = tuple(dict.fromkeys(fields))
    plate, notes = _of_channels(index, names, channels, acquisition, problems)
    selected = _selected(plate, wells, fields, problems)
    if missing not in ("fail-well", "skip-group"):
        problems.append(f"missing is 'fail-well' or 'skip-group', not {missing!r}")
    if problems:
        raise CompileError(problems)
    usable, refused, skipped = _complete(selected, names, missing)
    if not len(usable):
        problems.extend(f"well {well}: {reason}" for well, reason in refused.items())
        problems = problems or ["the selection holds no planes"]
        raise CompileError(problems)
    size = pixel_um or usable.pixel_um
    steps = _Resolver(pipeline, usable, names, size, problems).steps()
    plan = Plan(
        pipeline=pipeline,
        source=to_source(pipeline),
        index=usable,
        plate=plate.select(acquisitions=selected.acquisitions, kind=None, status="ok"),
        fields=fields,
        steps=steps,
        wells=selected.wells,
        refused=refused,
        channels=names,
        pixel_um=size,
        missing=missing,
        skipped=skipped,
        notes=tuple(notes),
    )
    if not problems:
        problems.extend(trial(plan))
    if problems:
        raise CompileError(list(dict.fromkeys(problems)))
    return plan


def _of_channels(
    index: PlateIndex,
    names: Sequence[str],
    channels: Iterable[str | int] | None,
    acquisition: int | None,
    problems: list[str],
) -> tuple[PlateIndex, list[str]]:
    """Give the planes of the channels asked for, usable or not, and what was chosen of kinds."""
    notes: list[str] = []
    numbers = None
    if channels is not None:
        spelled = [_channel_name(each, names) for each in channels]
        known = _known("channel", spelled, [names[number] for number in index.channels], problems)
        numbers = [names.index(name) for name in known or ()]
    runs = None if acquisition is None else [acquisition]
    runs = _known("acquisition", runs, index.acquisitions, problems)
    chosen = index.select(channels=numbers, acquisitions=runs, kind=None, status=None)
    return _of_one_kind(chosen, names, notes), notes


def _selected(
    plate: PlateIndex,
    wells: Iterable[str] | None,
    fields: Iterable[int] | None,
    problems: list[str],
) -> PlateIndex:
    """Give the planes of the wells and fields asked for, usable or not."""
    chosen = plate.select(
        wells=_known("well", wells, plate.wells, problems),
        fields=_known("field", fields, plate.fields, problems),
        kind=None,
        status=None,
    )
    if len(chosen.acquisitions) > 1:
        problems.append(
            f"the plate was taken {len(chosen.acquisitions)} times: give acquisition="
            + " or ".join(map(str, chosen.acquisitions))
        )
    if not problems and not len(chosen):
        problems.append("the selection holds no planes")
    return chosen


def _of_one_kind(index: PlateIndex, names: Sequence[str], notes: list[str]) -> PlateIndex:
    """Keep the single planes of each channel, or the projections of one that has nothing else."""
    by_channel: dict[int, Counter[str]] = {}
    columns = [index.column(name).tolist() for name in ("channel", "kind")]
    for channel, kind in zip(*columns, strict=True):
        by_channel.setdefault(channel, Counter())[kind] += 1
    kinds: dict[int, str] = {}
    for channel, counts in by_channel.items():
        kinds[channel] = "plane" if "plane" in counts else counts.most_common(1)[0][0]
        if kinds[channel] != "plane":
            notes.append(
                f"{names[channel]} has no single planes; its {kinds[channel]} images are used"
            )
    kept = [kinds[channel] == kind for channel, kind in zip(*columns, strict=True)]
    return index.where(np.array(kept, dtype=np.bool_))


def _channel_name(channel: str | int, names: Sequence[str]) -> str:
    """Give the name of a channel that is named, or numbered from 0."""
    if isinstance(channel, str):
        return channel
    return names[channel] if 0 <= channel < len(names) else str(channel)


def _known(
    what: str, wanted: Iterable[T] | None, present: Sequence[T], problems: list[str]
) -> list[T] | None:
    if wanted is None:
        return None
    given = list(dict.fromkeys(wanted))
    for each in given:
        if each not in present:
            close = difflib.get_close_matches(str(each), map(str, present), n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"there are {_some(present)}"
            problems.append(f"the plate has no {what} {each!r}; {advice}")
    return [each for each in given if each in present]


def _some(values: Iterable[object], most: int = 8) -> str:
    texts = [str(value) for value in values]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return (", ".join(texts[:most]) or "none") + more


def _complete(
    selected: PlateIndex, names: Sequence[str], missing: str
) -> tuple[PlateIndex, dict[str, str], dict[str, frozenset[tuple[int, int]]]]:
    """Give the planes that can be used, the wells that cannot run, and the groups left out."""
    columns = ("well", "field", "t", "channel", "z", "status")
    rows = zip(*(selected.column(name).tolist() for name in columns), strict=True)
    lacking: dict[str, list[tuple[int, int, int, int, str]]] = {}
    for well, *place, status in rows:
        if status in UNUSABLE:
            lacking.setdefault(well, []).append((*place, status))
    usable = selected.select(kind=None, status="ok")
    refused: dict[str, str] = {}
    skipped: dict[str, frozenset[tuple[int, int]]] = {}
    groups: dict[str, set[tuple[int, int]]] = {}
    for well, field, t in zip(
        *(usable.column(name).tolist() for name in ("well", "field", "t")), strict=True
    ):
        groups.setdefault(well, set()).add((field, t))
    for well, planes in lacking.items():
        bad = frozenset((field, t) for field, t, *_ in planes)
        if missing == "skip-group" and groups.get(well, set()) - bad:
            skipped[well] = bad
            continue
        field, t, channel, z, status = planes[0]
        more = f", and {len(planes) - 1} more planes" if len(planes) > 1 else ""
        refused[well] = (
            f"the plane of field {field}, channel {names[channel]}, z {z}, t {t} is {status}{more}"
        )
    for well in selected.wells:
        if well not in groups and well not in refused:
            refused[well] = "none of its planes can be used"
    runnable = [well for well in selected.wells if well not in refused]
    return usable.select(wells=runnable, kind=None), refused, skipped


@dataclass(slots=True)
class _Stream:
    """What is known of the images after a step, before any is made."""

    channels: tuple[str, ...]
    raw: bool
    step: int


class _Resolver:
    """Steps resolved one after the other."""

    def __init__(
        self,
        pipeline: Pipeline,
        index: PlateIndex,
        names: tuple[str, ...],
        pixel_um: tuple[float, float] | None,
        problems: list[str],
    ) -> None:
        self._pipeline = pipeline
        self._names = pipeline.names
        self._index = index
        self._pixel_um = pixel_um
        self._problems = problems
        start = _Stream(tuple(names[number] for number in index.channels), raw=True, step=PLATE)
        self._start = start
        self._streams: list[_Stream] = []
        self._outputs: list[tuple[PlannedOutput, ...]] = []
        self._stored: Counter[str] = Counter()

    def steps(self) -> tuple[PlannedStep, ...]:
        resolved = [self._step(position, step) for position, step in enumerate(self._pipeline)]
        return tuple(self._with_images(resolved))

    def _problem(self, position: int, message: str) -> None:
        place = self._pipeline.steps[position].place
        where = f"{place}: " if place is not None else ""
        self._problems.append(f"{where}{self._names[position]}: {message}")

    def _step(self, position: int, step: Step) -> PlannedStep:
        spec = step.spec
        source = self._source(position, step)
        stream = self._start if source == PLATE else self._streams[source]
        channels = self._channels(position, step, stream)
        gives_image = any(output.kind is Kind.IMAGE for output in spec.outputs)
        others = tuple(name for name in stream.channels if name not in channels)
        self._check_routing(position, step, others if gives_image else ())
        self._check_needs(position, step, stream)
        try:
            parameters = resolved_parameters(spec, step.parameters)
        except ParameterError as error:
            self._problem(position, str(error))
            parameters = dict(step.parameters)
        inputs = self._inputs(position, step)
        outputs = tuple(
            PlannedOutput(
                name=output.name, kind=output.kind, stored=self._stored_name(position, output.name)
            )
            for output in spec.outputs
            if output.kind is not Kind.IMAGE
        )
        before = self._streams[-1] if self._streams else self._start
        if gives_image:
            combined = "channel" in spec.collapses
            kept = () if step.otherwise == "drop" else others
            through = () if combined else channels
            after = tuple(name for name in stream.channels if name in (*through, *kept))
            self._streams.append(_Stream(after, raw=False, step=position))
        else:
            self._streams.append(before)
        self._outputs.append(outputs)
        return PlannedStep(
            name=self._names[position],
            function=spec.name,
            module=spec.call.__module__,
            version=spec.version,
            library=spec.library,
            packages={} if spec.missing else package_versions(spec),
            axes=spec.axes,
            parameters=parameters,
            channels=step.channel,
            drops=step.otherwise == "drop",
            source=source,
            inputs=inputs,
            outputs=outputs,
            gives_image=gives_image,
            image=None,
            beside=None,
            prepared=spec.preparation is not None,
        )

    def _source(self, position: int, step: Step) -> int:
        if step.input == START:
            return PLATE
        if step.input == PREVIOUS:
            return position - 1
        wanted = step.source_step
        return self._names.index(wanted) if wanted in self._names[:position] else position - 1

    def _channels(self, position: int, step: Step, stream: _Stream) -> tuple[str, ...]:
        if step.channel is None:
            return stream.channels
        for name in step.channel:
            if name in stream.channels:
                continue
            if not stream.channels:
                self._problem(position, f"there is no channel {name!r}: channels were combined")
                continue
            close = difflib.get_close_matches(name, stream.channels, n=1, cutoff=0.5)
            listed = _some(map(repr, stream.channels))
            advice = f"did you mean {close[0]!r}?" if close else f"there are {listed}"
            self._problem(position, f"there is no channel {name!r} here; {advice}")
        return tuple(name for name in stream.channels if name in step.channel)

    def _check_routing(self, position: int, step: Step, others: tuple[str, ...]) -> None:
        if not others:
            return
        listed = ", ".join(others)
        if step.otherwise is None:
            self._problem(
                position,
                f"it changes images of {', '.join(step.channel or ())} alone; say what becomes of "
                f"{listed} with otherwise='pass', 'drop' or 'error'",
            )
        elif step.otherwise == "error":
            self._problem(position, f"otherwise='error', and there are other channels: {listed}")

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
                    f"{_some(unknown)}",
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

    def _giver(self, kind: Kind, wanted: str | None) -> tuple[int, str] | None:
        """Find the latest step that gives an output of a kind, and of a name if one is wanted."""
        for position in reversed(range(len(self._outputs))):
            for output in self._outputs[position]:
                if output.kind is kind and wanted in (None, output.name):
                    return position, output.name
        return None

    def _stored_name(self, position: int, name: str) -> str:
        """Give an output a name in the result folder that no other output has."""
        self._stored[name] += 1
        return name if self._stored[name] == 1 else f"{name}_{self._names[position]}"

    def _with_images(self, steps: list[PlannedStep]) -> Iterable[PlannedStep]:
        """Choose the steps whose images are stored, and name their image groups."""
        below: dict[int, int] = {}
        stored = {
            position
            for position, (step, planned) in enumerate(zip(self._pipeline, steps, strict=True))
            if step.keep and planned.gives_image
        }
        for position, step in enumerate(self._pipeline):
            if step.keep and position not in stored:
                self._problem(position, "keep=True, but it gives no images")
        if self._streams[-1].step != PLATE:
            stored.add(self._streams[-1].step)
        for position, planned in enumerate(steps):
            if any(output.kind is Kind.LABELS for output in planned.outputs):
                # Labels lie beside the image that they were found in.
                source = planned.source
                below[position] = PLATE if source == PLATE else self._streams[source].step
                if below[position] == PLATE:
                    self._problem(
                        position,
                        "its labels belong to the plate's own planes, which are not copied to the "
                        "result: put a step that gives images before it, such as project_max",
                    )
                else:
                    stored.add(below[position])
        groups: dict[int, str] = {}
        for position, planned in enumerate(steps):
            if position in stored:
                groups[position] = group_name(planned.name, groups.values())
            beside = groups.get(below[position]) if position in below else None
            yield replace(planned, image=groups.get(position), beside=beside)


def group_name(step: str, taken: Collection[str] = ()) -> str:
    """Give the name of the image group of a step; the format takes letters and digits alone.

    No name ends in a digit: the images of single fields have the number of the field there.
    """
    base = "stitched" if step == "stitch" else re.sub(r"[^A-Za-z0-9]", "", step)
    name, count = base + "v" * base[-1:].isdigit(), 1
    while name in taken:
        count += 1
        name = f"{base}{count}v"
    return name
