"""What steps learn from the whole plate before any well: planes sampled, summarised, combined."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import RunError
from openhcs.execution._lesson import summary_files
from openhcs.execution._task import CombineTask, SummaryTask
from openhcs.pipeline import content_key
from polystore.files import atomic_folder, write_json

if TYPE_CHECKING:
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._resume import Resume
    from openhcs.pipeline import Plan, PlannedStep

__all__ = ["Learned", "Learning", "Lesson", "learning_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The tasks by which a step learns from one channel.

    Attributes
    ----------
    channel
        Name of the channel.
    summaries
        Come first, in any order.
    combine
        Comes after all of them.
    """

    channel: str
    summaries: tuple[SummaryTask, ...]
    combine: CombineTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What tasks found.

    Attributes
    ----------
    notes
        By number of the channel.
    unread
        What was wrong with planes that could not be read.
    """

    notes: Mapping[int, Mapping[str, Any]]
    unread: Sequence[str]


Have = Callable[[Sequence[Lesson]], Learned]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """The planes of one channel to learn from.

    Attributes
    ----------
    channel
        Number of the channel.
    planes
        Well, field, z and t of each.
    """

    channel: int
    planes: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What one step has to learn.

    Attributes
    ----------
    step
        The step.
    key
        Hash of all that it will learn from.
    samples
        Planes by channel.
    """

    step: PlannedStep
    key: str
    samples: tuple[_Sample, ...]

    @property
    def planes(self) -> int:
        """Number of planes to be read."""
        return sum(len(sample.planes) for sample in self.samples)

    def found(self, folder: ResultFolder, resume: Resume = True) -> str | None:
        """Give the key of what was learned in an earlier run, if it still stands.

        Parameters
        ----------
        folder
            The result folder.
        resume
            Whether it is taken over at all, or the runs of which it is.

        Notes
        -----
        What was learned without planes that could not be read is learned again: they may be back.
        """
        note = folder.read_prepared(self.step.name) if resume else None
        if note is not None and not isinstance(resume, bool) and note.get("run_id") not in resume:
            return None
        if note is None or note.get("key") != self.key or note.get("unread"):
            return None
        content = note.get("content")
        return content if isinstance(content, str) else None

    def without(self, folder: ResultFolder) -> dict[str, str]:
        """Say of which channels nothing was learned, or not as well as it should be, and why."""
        note = folder.read_prepared(self.step.name) or {}
        channels = note.get("channels", {})
        return {name: str(each["why"]) for name, each in channels.items() if each.get("why")}

    def learn(self, plan: Plan, folder: ResultFolder, run_id: str, have_done: Have) -> str:
        """Learn it, store it, and give its key.

        Parameters
        ----------
        plan
            The plan.
        folder
            The result folder.
        run_id
            Names the run.
        have_done
            Has the tasks done.

        Raises
        ------
        RunError
            If the step cannot learn from what it is given.
        """
        started = time.perf_counter()
        scratch = folder.work / f"summaries-{self.step.name}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            lessons = [self._lesson(plan, folder, run_id, each, scratch) for each in self.samples]
            learned = have_done(lessons)
            content = _content(scratch, learned.notes)
            with atomic_folder(folder.prepared / self.step.name) as path:
                for channel in learned.notes:
                    shutil.move(_found(scratch, channel), path / str(channel))
                note = {
                    "key": self.key,
                    "run_id": run_id,
                    "content": content,
                    "unread": learned.unread,
                    "seconds": time.perf_counter() - started,
                    "numbers": {plan.channels[channel]: channel for channel in learned.notes},
                    "channels": {
                        plan.channels[channel]: dict(learned.notes[channel])
                        for channel in learned.notes
                    },
                }
                write_json(path / "note.json", note)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return content

    def _lesson(
        self, plan: Plan, folder: ResultFolder, run_id: str, sample: _Sample, scratch: Path
    ) -> Lesson:
        vendor = plan.plate.vendor_profile(sample.channel)
        profile = scratch / f"vendor-{sample.channel}.npy"
        if vendor is not None:
            np.save(profile, vendor, allow_pickle=False)
        files = summary_files(scratch, sample.channel, len(sample.planes))
        return Lesson(
            channel=plan.channels[sample.channel],
            summaries=tuple(
                SummaryTask(
                    folder=str(folder.root),
                    step=self.step.name,
                    channel=sample.channel,
                    planes=sample.planes[planes.start : planes.stop],
                    out=str(file),
                    run_id=run_id,
                )
                for planes, file in files.items()
            ),
            combine=CombineTask(
                folder=str(folder.root),
                step=self.step.name,
                channel=sample.channel,
                summaries=str(scratch),
                planes=len(sample.planes),
                shape=_plane_shape(plan, sample.channel),
                vendor=None if vendor is None else str(profile),
                vendor_dark=plan.plate.vendor_dark(sample.channel),
                out=str(_found(scratch, sample.channel)),
                run_id=run_id,
            ),
        )


def learning_of(plan: Plan) -> tuple[Learning, ...]:
    """Say what the steps of a plan have to learn, and from which planes."""
    return tuple(_learning(plan, step) for step in plan.steps if step.prepared)


def _learning(plan: Plan, step: PlannedStep) -> Learning:
    preparation = step.spec.preparation
    assert preparation is not None  # the plan says so
    samples: list[_Sample] = []
    facts: list[Any] = []
    for channel in plan.plate.channels:
        if step.channels is not None and plan.channels[channel] not in step.channels:
            continue
        rounds = _rounds(plan, channel)
        vendor = plan.plate.vendor_profile(channel)
        dark = plan.plate.vendor_dark(channel)
        wanted = preparation.wanted(
            step.parameters,
            vendor=vendor is not None,
            vendor_dark=dark,
            available=sum(map(len, rounds)),
        )
        chosen = _spread(rounds, wanted)
        samples.append(_Sample(channel=channel, planes=tuple(place for place, _ in chosen)))
        profile = None if vendor is None else hashlib.sha256(vendor.tobytes()).hexdigest()
        # What was learned before vendors' dark levels were known stands where there is none.
        facts.append([channel, profile, chosen, *([] if dark is None else [dark])])
    files = [_hash(step, path) for path in preparation.reads(step.parameters)]
    return Learning(
        step=step,
        key=content_key([step.to_key(), plan.format_facts, facts, files]),
        samples=tuple(samples),
    )


def _hash(step: PlannedStep, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"{step.name} cannot read {path}: {error.strerror or error}"
        raise RunError(message) from error


_Place = tuple[str, int, int, int]
_Candidate = tuple[_Place, list[Any]]


def _rounds(plan: Plan, channel: int) -> Sequence[Sequence[_Candidate]]:
    """Give the middle plane of each field of a channel, in rounds of one field of each well.

    Each comes with path, page, size and time of its file. Planes of another size than most do not
    count.
    """
    index = plan.plate.select(channels=[channel], kind=None)
    names = ("height", "width", "well", "field", "z", "t", "path", "page", "file_size", "mtime_ns")
    usual = _plane_shape(plan, channel)
    wells: dict[str, dict[tuple[int, int], list[_Candidate]]] = {}
    for height, width, well, field, z, t, *facts in zip(
        *(index.column(name).tolist() for name in names), strict=True
    ):
        if height > 0 and (height, width) != usual:
            continue
        wells.setdefault(well, {}).setdefault((t, field), []).append(((well, field, z, t), facts))
    turns = []
    for number, fields in enumerate(wells.values()):
        middles = [sorted(stack)[len(stack) // 2] for _, stack in sorted(fields.items())]
        # Neighbouring wells begin with different fields, so that no place of wells prevails.
        start = number % len(middles)
        turns.append(middles[start:] + middles[:start])
    longest = max(map(len, turns), default=0)
    return [[turn[place] for turn in turns if place < len(turn)] for place in range(longest)]


def _spread(rounds: Sequence[Sequence[_Candidate]], wanted: int) -> Sequence[_Candidate]:
    """Choose as many as wanted, whole rounds first, then evenly over the wells of the next."""
    chosen: list[_Candidate] = []
    for candidates in rounds:
        left = wanted - len(chosen)
        if left >= len(candidates):
            chosen.extend(candidates)
            continue
        chosen.extend(candidates[n * len(candidates) // left] for n in range(left))
        break
    return sorted(chosen)


def _plane_shape(plan: Plan, channel: int) -> tuple[int, int]:
    """Give the size (y, x) in pixels that most planes of a channel have."""
    planes = plan.plate.select(channels=[channel], kind=None)
    heights, widths = (planes.column(name).tolist() for name in ("height", "width"))
    known = Counter((y, x) for y, x in zip(heights, widths, strict=True) if y > 0)
    if known:
        return known.most_common(1)[0][0]
    message = f"the size of the planes of channel {plan.channels[channel]} is unknown"
    raise RunError(message)


def _found(scratch: Path, channel: int) -> Path:
    """Name the folder of the arrays that are learned of a channel."""
    return scratch / f"found-{channel}"


def _content(scratch: Path, channels: Iterable[int]) -> str:
    """Give the hash of what is learned of all channels."""
    digest = hashlib.blake2b(digest_size=16)
    for channel in sorted(channels):
        for path in sorted(_found(scratch, channel).glob("*.npy"), key=lambda path: path.stem):
            array = np.load(path, allow_pickle=False)
            digest.update(f"{channel}/{path.stem}/{array.dtype.str}/{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
