"""What workers are asked for: one well of a plan, or a part of what a step learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CombineTask", "SummaryTask", "Task", "WellTask", "errno_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WellTask:
    """A well to be taken through the steps.

    Attributes
    ----------
    folder
        The result folder, which holds the plan and the index of the plate.
    well
        Name of the well.
    keys
        Content key of each step, by name.
    reused
        Steps whose outputs are there and still right.
    prepared
        Key of what each step learned from the plate, by step name.
    run_id
        The run that this is a part of.
    attempt
        Which attempt at it this is, from 1.
    """

    folder: str
    well: str
    keys: Mapping[str, str]
    reused: tuple[str, ...]
    prepared: Mapping[str, str]
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return self.well


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTask:
    """Planes to be summarised for a step that learns from the plate.

    Attributes
    ----------
    folder
        The result folder.
    step
        Name of the step.
    channel
        Number of the channel.
    planes
        Well, field, z and t of each.
    out
        File for the summaries.
    run_id, attempt
        As in `WellTask`.
    """

    folder: str
    step: str
    channel: int
    planes: tuple[tuple[str, int, int, int], ...]
    out: str
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return f"{self.step}-{Path(self.out).stem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineTask:
    """Summaries of a channel to be made into what a step learns of it.

    Attributes
    ----------
    folder
        The result folder.
    step
        Name of the step.
    channel
        Number of the channel.
    summaries
        Folder with what summary tasks found, in the files that `summary_files` names.
    planes
        How many planes they were given.
    shape
        (y, x) of the channel's planes, in pixels.
    vendor
        File with the plate's own profile; None where it has none.
    vendor_dark
        The plate's own dark level, counts; None where it has none.
    out
        Folder for the arrays.
    run_id, attempt
        As in `WellTask`.
    """

    folder: str
    step: str
    channel: int
    summaries: str
    planes: int
    shape: tuple[int, int]
    vendor: str | None
    vendor_dark: float | None
    out: str
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return f"{self.step}-{self.channel}"


Task: TypeAlias = WellTask | SummaryTask | CombineTask


def errno_of(error: BaseException | None) -> int | None:
    """Give the operating system's number for what went wrong, if it had a part in it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None
