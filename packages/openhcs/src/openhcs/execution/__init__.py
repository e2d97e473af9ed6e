"""Runs of a plan: worker processes, the result folder, what is reused, how it ended."""

from __future__ import annotations

from openhcs.execution._executor import Executor, Watcher
from openhcs.execution._fit import Fit, available_bytes, fit
from openhcs.execution._folder import ResultFolder
from openhcs.execution._forecast import Forecast, forecast
from openhcs.execution._illumination import save_illumination
from openhcs.execution._local import LocalExecutor
from openhcs.execution._result import RunResult, WellResult
from openhcs.execution._run import run
from openhcs.execution._run_record import RunRecord, load_run
from openhcs.execution._task import SummaryTask, Task, WellTask

__all__ = [
    "Executor",
    "Fit",
    "Forecast",
    "LocalExecutor",
    "ResultFolder",
    "RunRecord",
    "RunResult",
    "SummaryTask",
    "Task",
    "Watcher",
    "WellResult",
    "WellTask",
    "available_bytes",
    "fit",
    "forecast",
    "load_run",
    "run",
    "save_illumination",
]
