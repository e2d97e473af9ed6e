"""What happens during a run, as values: progress bar, log, report and viewer feed read these alone.

A run sends ``RunStarted`` first and ``RunFinished`` last. Every well of the plan gets exactly one
``WellFinished``, whatever happens to it; the wells that run get ``WellStarted`` before it, and one
``StepFinished`` for each step between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  # what reads events from text looks at their types
from typing import TypeAlias

from openhcs.pipeline._outcome import Outcome  # noqa: TC001  # as above

__all__ = [
    "Event",
    "PreparationAdvanced",
    "PreparationFinished",
    "RunFinished",
    "RunStarted",
    "StepFinished",
    "WellFinished",
    "WellImage",
    "WellRetried",
    "WellStarted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WellImage:
    """An image of a well as it lies in the result's plate.

    Attributes
    ----------
    name
        Name of the image group inside the well, such as ``stitched``.
    path
        Path of the group inside ``plate.zarr``, such as ``A/1/stitched``.
    field
        The field that it shows; None when it shows the whole well.
    axes
        Names of the array's axes, of ``t``, ``channel``, ``z``, ``y``, ``x``, in order.
    shape
        Size along each axis.
    dtype
        Name of the element type.
    channels
        Channel names, in the order of the channel axis.
    labels
        Names of the label images that lie beside the pixels; the mask of what tiles cover is none.
    pixel_um
        Pixel size (y, x) in µm; None when unknown.
    """

    name: str
    path: str
    field: int | None
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    pixel_um: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The plan is accepted and the result folder is ours.

    Attributes
    ----------
    run_id
        Names this run in the log and in ``run.json``.
    out
        The result folder.
    wells
        Every well that must get a result, in plate order.
    done
        Wells of these that are finished and unchanged, and are not done again.
    steps
        Names of the steps, in order.
    workers
        Number of worker processes.
    """

    run_id: str
    out: Path
    wells: tuple[str, ...]
    done: tuple[str, ...]
    steps: tuple[str, ...]
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationAdvanced:
    """A part of the planes that a step learns from has been looked at."""

    step: str
    planes: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFinished:
    """A step has learned from the plate what it needs; wells can start.

    Attributes
    ----------
    step
        Name of the step.
    seconds
        Time that it took.
    reused
        Whether what an earlier run learned still stands.
    planes
        How many planes it has looked at; 0 when there was nothing to learn from them.
    without
        Channels of which it has learned nothing, or not as well as it should, and why.
    """

    step: str
    seconds: float
    reused: bool
    planes: int = 0
    without: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WellStarted:
    """A worker has taken up a well."""

    well: str
    worker: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step is done for a well, or its earlier result was taken as it is."""

    well: str
    step: str
    seconds: float
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WellRetried:
    """The worker of a well died; the well waits for its second try, which `WellStarted` tells."""

    well: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WellFinished:
    """A well has its result, which is in the result folder.

    Attributes
    ----------
    well
        Name of the well, such as ``A01``.
    outcome
        How it ended.
    seconds
        Time from its start; 0 for a well taken over from an earlier run.
    reused
        Whether nothing had to be done because it was finished and unchanged.
    images
        What lies in ``plate.zarr`` for it; empty unless the outcome is ok.
    error
        What went wrong, in one sentence; None when the outcome is ok.
    """

    well: str
    outcome: Outcome
    seconds: float
    reused: bool
    images: tuple[WellImage, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """Every well has its result.

    Attributes
    ----------
    outcome
        ok if and only if every well is ok; cancelled if it was stopped on request.
    wells
        How many wells ended in which way, by outcome.
    seconds
        Time from the start of the run.
    reason
        Why the run as a whole stopped early; None when it did not.
    """

    outcome: Outcome
    wells: dict[Outcome, int]
    seconds: float
    reason: str | None = None


Event: TypeAlias = (
    RunStarted
    | PreparationAdvanced
    | PreparationFinished
    | WellStarted
    | StepFinished
    | WellRetried
    | WellFinished
    | RunFinished
)
"""Anything that a run reports."""
