"""How long a run will take: from what earlier wells took, or from a rehearsal on a few planes.

A rehearsal takes some planes of the largest well through all steps, twice, by a worker process of
its own and into a folder that is removed again. The first time tells what every worker takes to
begin, the second what planes cost from then on: read, computed and stored as the run will do it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from openhcs._errors import OpenHCSError
from openhcs.execution._folder import ResultFolder
from openhcs.execution._local import LocalExecutor
from openhcs.execution._preparation import learning_of
from openhcs.execution._run import run
from openhcs.pipeline import Outcome
from polystore import PolystoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openhcs.execution._forecast import Forecast
    from openhcs.pipeline import Plan
    from openhcs.plates import PlateIndex

__all__ = ["Duration", "duration", "few_planes"]

_MOST_PX = 24_000_000
"""Pixels of all planes of a rehearsal together, where one plane of each channel is no more."""

_TRIED = 3
"""Wells that are tried, one after the other, until one can be done."""

_LONGEST_S = 40.0
"""A rehearsal that takes longer is given up."""

_LOW, _HIGH = 0.7, 1.8
"""How far other work of the computer, and wells that are unlike the largest, move the time."""

_SHARED = 1.4
"""What a worker takes longer than one alone where others share memory and disk with it."""

_SHARED_BEGIN = 1.8
"""The same while all of them load libraries at once."""

_WELLS_AS_A_REPORT = 10
"""How many wells more make the report of one take as long again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long a run will take, from the command to the report.

    Attributes
    ----------
    seconds
        The likeliest; None where it cannot be told before a first well is done.
    fixed_s
        What of it does not depend on the wells: beginning, learning from the plate, the report.
    wells_seen
        How many wells that are done it follows from; 0 when it follows from a rehearsal.
    why
        Why it cannot be told; empty where it can.
    """

    seconds: float | None
    fixed_s: float = 0.0
    wells_seen: int = 0
    why: str = ""

    @property
    def range_s(self) -> tuple[float, float] | None:
        """The least and the most that is likely."""
        if self.seconds is None:
            return None
        return _LOW * self.seconds, _HIGH * self.seconds


def duration(
    plan: Plan,
    out: str | Path,
    will: Forecast,
    *,
    workers: int,
    ready_s: float = 0.0,
    finish: Callable[[Path], object] | None = None,
) -> Duration:
    """Say how long a run will take on this computer.

    Parameters
    ----------
    plan
        The plan.
    out
        The result folder; what wells took that are done there is looked at first.
    will
        What is to be done.
    workers
        How many worker processes there are.
    ready_s
        What it takes until the run begins: opening the plate, compiling.
    finish
        What is done with the results at the end, such as writing a report; done in the rehearsal,
        to see how long it takes.

    Notes
    -----
    A rehearsal takes some seconds. Steps that compute with a trained network or on a GPU are not
    rehearsed.
    """
    if not will.to_do:
        return Duration(seconds=ready_s, fixed_s=ready_s)
    seen = _seen(plan, out, will)
    if seen is not None:
        return _told(plan, will, seen, workers, ready_s)
    heavy = [step.name for step in plan.steps if step.spec.weights or step.device == "gpu"]
    if heavy:
        why = f"{', '.join(heavy)} cannot be tried beforehand; it is known when wells are done"
        return Duration(seconds=None, why=why)
    try:
        costs = _rehearsed(plan, will, finish)
    except (OpenHCSError, PolystoreError, OSError) as error:
        return Duration(seconds=None, why=f"a few planes were tried, and {error}")
    if isinstance(costs, str):
        return Duration(seconds=None, why=costs)
    return _told(plan, will, costs, workers, ready_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """What was seen, in s.

    Attributes
    ----------
    begin
        What every worker takes to begin.
    per_pixel
        What a well takes for a pixel of its raw planes.
    report_begin
        What the report takes to load its libraries.
    report
        What the report of one well takes beside that.
    learn_plane, learn_channel
        What a step that learns takes for a plane, and at the end for a channel.
    wells_seen
        As in `Duration`.
    """

    begin: float
    per_pixel: float
    report_begin: float = 2.0
    report: float = 0.15
    learn_plane: float = 0.0
    learn_channel: float = 0.0
    wells_seen: int = 0


def _told(plan: Plan, will: Forecast, costs: _Costs, workers: int, ready_s: float) -> Duration:
    pixels = _pixels_by_well(plan.index)
    wells = [costs.per_pixel * pixels[well] for well in will.to_do]
    workers = max(1, min(workers, len(wells)))
    # The last worker ends a well of its own after the others have run out of theirs.
    work = sum(wells) / workers + max(wells) * (1 - 1 / workers)
    begin = costs.begin
    if workers > 1 and not costs.wells_seen:  # what was seen there was shared already
        begin, work = _SHARED_BEGIN * begin, _SHARED * work
    learn = 0.0
    for learning in learning_of(plan):
        if not will.learned.get(learning.step.name, False):
            channels = sum(bool(sample.planes) for sample in learning.samples)
            learn += learning.planes * costs.learn_plane / workers
            learn += channels * costs.learn_channel
    report = costs.report_begin + costs.report * (1 + len(plan.wells) / _WELLS_AS_A_REPORT)
    fixed = ready_s + begin + learn + report
    return Duration(seconds=fixed + work, fixed_s=fixed, wells_seen=costs.wells_seen)


def _pixels_by_well(index: PlateIndex) -> Mapping[str, int]:
    """Count the pixels of all planes of each well; those of unknown size as the others."""
    sizes = index.column("height").astype(float) * index.column("width")
    known = sizes[sizes > 0]
    usual = float(known.mean()) if len(known) else 4.0e6
    counted: Counter[str] = Counter()
    for well, size in zip(index.column("well").tolist(), sizes.tolist(), strict=True):
        counted[well] += round(size if size > 0 else usual)
    return counted


def _seen(plan: Plan, out: str | Path, will: Forecast) -> _Costs | None:
    """Give what wells took that an earlier run did, if they tell of all that is to be done."""
    folder = ResultFolder(out)
    records = [folder.read_record(well) or {} for well in plan.wells]
    done = [record for record in records if record.get("outcome") == str(Outcome.OK)]
    steps: dict[str, list[float]] = {}
    for record in done:
        for name, seconds in (record.get("seconds") or {}).items():
            steps.setdefault(name, []).append(float(seconds))
    wanted = {name for names in will.to_do.values() for name in names}
    if len(done) < 3 or not wanted <= set(steps):
        return None
    usual = {name: median(seconds) for name, seconds in steps.items()}
    slowest = max(sum((record.get("seconds") or {}).values()) for record in done)
    pixels = _pixels_by_well(plan.index)
    mean = sum(pixels[well] for well in will.to_do) / len(will.to_do)
    a_well = sum(usual[name] for name in wanted) + sum(usual.get(n, 0.0) for n in ("read", "write"))
    learned = [folder.read_prepared(step.name) or {} for step in plan.steps if step.prepared]
    learn = sum(float(note.get("seconds") or 0.0) for note in learned)
    channels = sum(len(note.get("channels") or ()) for note in learned)
    return _Costs(
        # The first well of every worker took longer by what loading libraries takes.
        begin=min(10.0, max(2.0, slowest - sum(usual.values()))),
        per_pixel=a_well / max(1.0, mean),
        learn_channel=learn / max(1, channels),
        wells_seen=len(done),
    )


def _rehearsed(plan: Plan, will: Forecast, finish: Callable[[Path], object] | None) -> _Costs | str:
    """Try a few planes of a well; give what they took, or why that cannot be told.

    Where the largest well cannot be done, as when a file of it is damaged, others are tried.
    """
    pixels = _pixels_by_well(plan.index)
    largest = sorted(will.to_do, key=lambda name: -pixels[name])[:_TRIED]
    lack = ""
    for well in largest:
        costs = _tried(plan, well, finish)
        if not isinstance(costs, str):
            plane_s, channel_s = _learning_costs(plan, will)
            return replace(costs, learn_plane=plane_s, learn_channel=channel_s)
        lack = lack or costs
    return lack


def _tried(plan: Plan, well: str, finish: Callable[[Path], object] | None) -> _Costs | str:
    few = few_planes(plan, well)
    some = replace(plan, index=few, plate=few, wells=(well,), refused={})
    cancel = threading.Event()
    timer = threading.Timer(_LONGEST_S, cancel.set)
    timer.daemon = True
    timer.start()
    taken: list[tuple[float, float]] = []
    reports = [0.0, 0.0]
    try:
        with tempfile.TemporaryDirectory(prefix="openhcs-plan-") as folder:
            out = Path(folder) / "results"
            with (Path(folder) / "errors").open("wb") as errors, LocalExecutor(1, errors) as one:
                for _ in range(2):
                    began = time.perf_counter()
                    result = run(some, out, executor=one, resume=False, cancel=cancel)
                    taken.append((time.perf_counter() - began, result.wells[0].seconds))
                    if not result.completed:
                        return _lack(result.wells[0].error, stopped=cancel.is_set())
            if finish is not None:
                for turn in range(2):
                    began = time.perf_counter()
                    finish(out)
                    reports[turn] = time.perf_counter() - began
    finally:
        timer.cancel()
    (first, _), (_, of_well) = taken
    return _Costs(
        begin=max(0.5, first - of_well),
        per_pixel=of_well / max(1, _pixels_by_well(few)[well]),
        report_begin=max(0.0, reports[0] - reports[1]),
        report=reports[1],
    )


def _lack(error: str | None, *, stopped: bool) -> str:
    if stopped:
        return f"a few planes were tried, and took more than {_LONGEST_S:.0f} s"
    return f"a few planes were tried, and {error or 'gave no result'}"


def few_planes(plan: Plan, well: str, most_px: int = _MOST_PX) -> PlateIndex:
    """Choose planes of a well: whole fields while they are few enough, else fewer z and t."""
    index = plan.index.select(wells=[well], kind=None, status=None)
    skipped = plan.skipped.get(well, frozenset())
    fields = [
        field for field in index.fields if not any(field == other for other, _ in skipped)
    ] or list(index.fields)
    axes: dict[str, Sequence[int]] = {
        "fields": fields,
        "t": sorted(set(index.column("t").tolist())),
        "z": sorted(set(index.column("z").tolist())),
    }
    while True:
        chosen: dict[str, Any] = dict(axes)
        few = index.select(**chosen, kind=None, status=None)
        longest = next((name for name, values in axes.items() if len(values) > 1), None)
        if longest is None or _pixels_by_well(few)[well] <= most_px:
            return few
        values = axes[longest]
        axes[longest] = values[: (len(values) + 1) // 2]


def _learning_costs(plan: Plan, will: Forecast) -> tuple[float, float]:
    """Give what learning takes: for a plane, and at the end for a channel."""
    planes: list[float] = [0.0]
    channels: list[float] = [0.0]
    for learning in learning_of(plan):
        sample = next((each for each in learning.samples if each.planes), None)
        preparation = learning.step.spec.preparation
        if sample is None or preparation is None or will.learned.get(learning.step.name, False):
            continue
        well, field, z, t = sample.planes[len(sample.planes) // 2]
        (plane,) = plan.plate.select(
            wells=[well], fields=[field], channels=[sample.channel], z=[z], t=[t], kind=None
        )
        parameters = learning.step.parameters
        began = time.perf_counter()
        pixels = plan.plate.read(plane)
        summary = preparation.summarise(pixels, parameters)
        planes.append(time.perf_counter() - began)
        began = time.perf_counter()
        preparation.combine(
            [summary] * len(sample.planes),
            parameters,
            shape=pixels.shape,
            vendor=plan.plate.vendor_profile(sample.channel),
            vendor_dark=plan.plate.vendor_dark(sample.channel),
        )
        channels.append(time.perf_counter() - began)
    return max(planes), max(channels)
