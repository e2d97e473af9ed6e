"""High-content screening pipelines over whole plates, shown live."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openhcs._errors import OpenHCSError
    from openhcs._run import run
    from openhcs.execution import RunResult, load_run
    from openhcs.pipeline import (
        Branch,
        Pipeline,
        Plan,
        Route,
        RunRequest,
        Settings,
        Step,
        compile_pipeline,
        default_pipeline,
    )
    from openhcs.plates import PlateIndex, open_plate
    from openhcs.results import Results, open_results

__all__ = [
    "Branch",
    "OpenHCSError",
    "Pipeline",
    "Plan",
    "PlateIndex",
    "Results",
    "Route",
    "RunRequest",
    "RunResult",
    "Settings",
    "Step",
    "compile_pipeline",
    "default_pipeline",
    "load_run",
    "open_plate",
    "open_results",
    "run",
]

_PLACES = {
    "Branch": "openhcs.pipeline",
    "OpenHCSError": "openhcs._errors",
    "Pipeline": "openhcs.pipeline",
    "Plan": "openhcs.pipeline",
    "PlateIndex": "openhcs.plates",
    "Results": "openhcs.results",
    "Route": "openhcs.pipeline",
    "RunRequest": "openhcs.pipeline",
    "RunResult": "openhcs.execution",
    "Settings": "openhcs.pipeline",
    "Step": "openhcs.pipeline",
    "compile_pipeline": "openhcs.pipeline",
    "default_pipeline": "openhcs.pipeline",
    "load_run": "openhcs.execution",
    "open_plate": "openhcs.plates",
    "open_results": "openhcs.results",
    "run": "openhcs._run",
}


def __getattr__(name: str) -> object:
    # Names are fetched when they are first used: importing openhcs alone reads none of numpy.
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
