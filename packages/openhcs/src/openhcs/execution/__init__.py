"""Runs of a plan: worker processes, the result folder, what is reused, how it ended."""

from __future__ import annotations

from openhcs.execution._dask import DaskExecutor
from openhcs.execution._duration import Duration, duration
from openhcs.execution._executor import Executor, Notice, StepDone, TaskBegun
from openhcs.execution._fit import Fit, available_bytes, fit
from openhcs.execution._folder import ResultFolder
from openhcs.execution._forecast import Forecast, forecast
from openhcs.execution._gpus import check_devices, gpu_workers
from openhcs.execution._illumination import save_illumination
from openhcs.execution._local import LocalExecutor
from openhcs.execution._perform import perform
from openhcs.execution._result import RunResult, WellResult
from openhcs.execution._run import run
from openhcs.execution._run_record import RunRecord, load_run
from openhcs.execution._slurm import SlurmJobs, slurm_executor
from openhcs.execution._task import CombineTask, SummaryTask, Task, WellTask

__all__ = [
    "CombineTask",
    "DaskExecutor",
    "Duration",
    "Executor",
    "Fit",
    "Forecast",
    "LocalExecutor",
    "Notice",
    "ResultFolder",
    "RunRecord",
    "RunResult",
    "SlurmJobs",
    "StepDone",
    "SummaryTask",
    "Task",
    "TaskBegun",
    "WellResult",
    "WellTask",
    "available_bytes",
    "check_devices",
    "duration",
    "fit",
    "forecast",
    "gpu_workers",
    "load_run",
    "perform",
    "run",
    "save_illumination",
    "slurm_executor",
]
