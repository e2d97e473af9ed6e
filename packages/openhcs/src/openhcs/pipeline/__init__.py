"""Pipelines: steps in order, compiled against a plate into a plan."""

from __future__ import annotations

from openhcs.pipeline._events import (
    Event,
    PreparationAdvanced,
    PreparationFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    WellFinished,
    WellImage,
    WellRetried,
    WellStarted,
)
from openhcs.pipeline._outcome import Outcome

__all__ = [
    "Event",
    "Outcome",
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
