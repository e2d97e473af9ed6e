"""A pipeline and a plate made into a plan; whatever can go wrong is found here, all at once."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from openhcs._errors import CompileError, ParameterError
from openhcs.codegen import LARGEST_SOURCE_CHARACTERS
from openhcs.pipeline._filling import filled_in_words, filled_of, unfit_values, with_filled
from openhcs.pipeline._plan import Plan
from openhcs.pipeline._planes import UNUSABLE, left_out_in_words, unique_channels
from openhcs.pipeline._resolver import Resolver, listed
from openhcs.pipeline._settings import SKIP_GROUP, Settings, fill_value, resolve
from openhcs.pipeline._source import to_source
from openhcs.pipeline._trial import trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from openhcs.functions import Device
    from openhcs.pipeline._pipeline import Pipeline
    from openhcs.pipeline._plan import Acquisition, PlannedStep
    from openhcs.pipeline._settings import MissingPlanes, Otherwise, Setting
    from openhcs.plates import PlateIndex

T = TypeVar("T")

_MOST_NAMED = 8

__all__ = ["compile_pipeline"]


def compile_pipeline(
    pipeline: Pipeline,
    index: PlateIndex,
    *,
    wells: Iterable[str] | None = None,
    fields: Iterable[int] | None = None,
    channels: Iterable[str | int] | None = None,
    acquisition: Acquisition | None = None,
    missing: MissingPlanes | None = None,
    pixel_um: tuple[float, float] | None = None,
    keep: bool | None = None,
    otherwise: Otherwise | None = None,
    device: Device | None = None,
    warnings: Iterable[str] = (),
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
        Which one to use of a plate that was taken several times; numbered from 0. ``all`` takes
        them as cycles: the channels of the second are named ``DAPI (2)``, and so on.
    missing, pixel_um, keep, otherwise, device
        Settings of the run; see `Settings`. A pipeline's own go before them, a step's before both.
    warnings
        What is to be said beside the results, such as `nuclear_doubts` of a default pipeline.

    Returns
    -------
    Plan
        Ready to run. Wells that cannot run are listed in it with the reason.

    Raises
    ------
    CompileError
        If the plan cannot run; the message lists every problem found.
    TypeError
        If `wells`, `fields` or `channels` is a text in place of several.
    """
    for name, chosen in (("wells", wells), ("fields", fields), ("channels", channels)):
        if isinstance(chosen, str):
            several = "[0, 1]" if name == "fields" else f"[{chosen!r}]"
            raise TypeError(f"{name} is the text {chosen!r}; give several, such as {several}")
    problems: list[str] = []
    try:
        run = Settings(
            missing=missing, pixel_um=pixel_um, keep=keep, otherwise=otherwise, device=device
        )
    except ParameterError as error:
        raise CompileError([str(error)]) from error
    if acquisition == "all":
        index = index.cycles_as_channels()
    names = unique_channels(index.channel_names)
    if fields is not None:
        fields = tuple(dict.fromkeys(fields))
    plate, notes = _of_channels(
        index, names, channels, None if acquisition == "all" else acquisition, problems
    )
    selected = _selected(plate, wells, fields, problems)
    if problems:
        raise CompileError(problems)
    whole = resolve([("run", run), ("pipeline", pipeline.settings)])
    policy = whole["missing"].value
    usable, refused, skipped = _complete(selected, names, policy)
    whole_plate = plate.select(acquisitions=selected.acquisitions, kind=None, status=None)
    fill = fill_value(policy)
    if fill is not None:
        problems.extend(unfit_values(whole_plate, names, fill))
        whole_plate, unknown = with_filled(whole_plate, names)
        refused |= {well: reason for well, reason in unknown.items() if well in usable.wells}
        usable = whole_plate.select(
            wells=[well for well in usable.wells if well not in refused],
            fields=selected.fields,
            kind=None,
            status=None,
        )
    if not len(usable):
        problems.extend(f"well {well}: {reason}" for well, reason in refused.items())
        problems = problems or ["the selection holds no planes"]
        raise CompileError(problems)
    try:
        source = to_source(pipeline)
    except ValueError as error:  # without it, nobody could repeat the run
        raise CompileError([str(error)]) from error
    if len(source) > LARGEST_SOURCE_CHARACTERS:
        problems.append(
            f"the pipeline has {len(source)} characters when it is written down, and at most "
            f"{LARGEST_SOURCE_CHARACTERS} are read back: nobody could repeat the run"
        )
    size = whole["pixel_um"].value or usable.pixel_um
    resolver = Resolver(pipeline, run, usable, plate.wells, names, size, problems)
    steps = resolver.steps()
    notes.extend(_overruled(run, pipeline.settings))
    notes.extend(_placed(steps, resolver.settings))
    filled = filled_of(usable, names, fill)
    if filled and fill is not None:
        notes.append(filled_in_words({well: len(planes) for well, planes in filled.items()}, fill))
    if skipped:
        notes.append(left_out_in_words({well: sorted(groups) for well, groups in skipped.items()}))
    plan = Plan(
        pipeline=pipeline,
        source=source,
        index=usable,
        plate=whole_plate.select(kind=None, status="ok"),
        fillable=whole_plate.where(
            (whole_plate.column("status") != "ok") & np.bool_(fill is not None)
        ),
        fields=fields,
        acquisition="all" if acquisition == "all" else selected.acquisitions[0],
        steps=steps,
        wells=selected.wells,
        refused=refused,
        channels=names,
        pixel_um=size,
        missing=policy,
        skipped=skipped,
        run=run,
        settings=resolver.settings,
        notes=tuple(notes),
        warnings=tuple(warnings),
    )
    problems.extend(trial(replace(plan, steps=steps[: resolver.sound])))
    if problems:
        raise CompileError(list(dict.fromkeys(problems)))
    return plan


def _placed(
    steps: Sequence[PlannedStep], settings: Mapping[str, Mapping[str, Setting]]
) -> Iterable[str]:
    """Say where steps compute, where that is not what the setting alone would say."""
    wanted = [step for step in steps if settings[step.name]["device"].value == "gpu"]
    beside = ", ".join(step.name for step in wanted if step.device == "cpu")
    if beside and len(wanted) > beside.count(",") + 1:
        there = ", ".join(step.name for step in wanted if step.device == "gpu")
        yield f"on the GPU: {there}; in the processor, as these can alone: {beside}"
    elif beside:
        yield f"device='gpu', and no step can compute there: {beside} stay in the processor"


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
        # with none that is there, which is told of, wells and fields are those of all channels
        numbers = [names.index(name) for name in known or ()] if known or not spelled else None
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
            + ", or 'all' to take them as cycles of staining"
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


def _overruled(run: Settings, own: Settings) -> Iterator[str]:
    """Name the settings of a run that a pipeline sets by itself."""
    for name, value in run.made.items():
        if own.made.get(name, value) != value:
            yield f"{name}={value!r} of the run does nothing: the pipeline has {own.made[name]!r}"


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
    lacking = [each for each in given if each not in present]
    if len(lacking) > 1:
        some = f"{listed(lacking[:_MOST_NAMED])}{' and more' if len(lacking) > _MOST_NAMED else ''}"
        problems.append(f"the plate has no {what}s {some}; there are {listed(present)}")
    for each in lacking if len(lacking) == 1 else ():
        names = [name for name in present if isinstance(name, str)]
        close = difflib.get_close_matches(str(each), names, n=1)
        advice = f"did you mean {close[0]!r}?" if close else f"there are {listed(present)}"
        problems.append(f"the plate has no {what} {each!r}; {advice}")
    return [each for each in given if each in present]


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
        if fill_value(missing) is not None and well in groups:
            continue
        if missing == SKIP_GROUP and groups.get(well, set()) - bad:
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
