"""Runs of a plan: worker processes, the result folder, what is reused, how it ended."""

from __future__ import annotations

from openhcs.execution._result import RunResult, WellResult

__all__ = ["RunResult", "WellResult"]
