"""How a well ended, and how a run of many wells ended."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Outcome"]


class Outcome(StrEnum):
    """The end of a well or of a run; every well of a plan gets exactly one."""

    OK = "ok"
    """Everything asked for is there."""
    FAILED = "failed"
    """An error, which is named; for a run, at least one well is not ok."""
    CANCELLED = "cancelled"
    """Stopped on request before it was done."""
    LOST = "lost"
    """The worker process died, twice; nothing is known but that."""
