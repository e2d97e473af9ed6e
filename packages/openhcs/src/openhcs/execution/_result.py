"""What a run gives back: one result for each well of the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.pipeline import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.pipeline import FilledPlane, WellImage

__all__ = ["RunResult", "WellResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WellResult:
    """How one well ended.

    Attributes
    ----------
    well
        Name of the well.
    outcome
        How it ended.
    seconds
        Time that a worker spent on it; 0 when it was taken over from an earlier run.
    reused
        Whether it was finished and unchanged, and not done again.
    images
        What lies in ``plate.zarr`` for it.
    error
        What went wrong, in one sentence; None when the outcome is ok.
    traceback
        Where it went wrong; None when there is nothing to show.
    steps
        Seconds by step name.
    filled
        Planes that could not be used and had a constant value instead.
    left_out
        Field and time point, from 0, of what the well went without because planes of it could not
        be used.
    """

    well: str
    outcome: Outcome
    seconds: float
    reused: bool
    images: tuple[WellImage, ...]
    error: str | None
    traceback: str | None
    steps: Mapping[str, float]
    filled: tuple[FilledPlane, ...] = ()
    left_out: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    run_id
        Names the run in the log and in ``run.json``.
    out
        The result folder.
    outcome
        ok if and only if every well is ok; cancelled if it was stopped on request.
    wells
        One result for each well of the plan, in plate order.
    seconds
        Time from start to end.
    step_seconds
        Seconds by step name, summed over the wells that were done.
    reason
        Why the run as a whole stopped early, such as a full disk; None when it did not.
    notes
        What to know about the results, one sentence each.
    warnings
        What may make the results wrong, one sentence each; those of the plan.
    """

    run_id: str
    out: Path
    outcome: Outcome
    wells: tuple[WellResult, ...]
    seconds: float
    step_seconds: Mapping[str, float]
    reason: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def completed(self) -> bool:
        """Whether every well of the plan is ok."""
        return self.outcome is Outcome.OK

    def with_outcome(self, outcome: Outcome) -> tuple[WellResult, ...]:
        """Give the wells that ended in one way."""
        return tuple(well for well in self.wells if well.outcome is outcome)
