"""High-content screening pipelines over whole plates, shown live."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openhcs._errors import OpenHCSError
    from openhcs.execution import RunResult, load_run, run
    from openhcs.pipeline import (
        Branch,
        Pipeline,
        Plan,
        Route,
        Step,
        compile_pipeline,
        default_pipeline,
    )
    from openhcs.plates import PlateIndex, open_plate

__all__ = [
    "Branch",
    "OpenHCSError",
    "Pipeline",
    "Plan",
    "PlateIndex",
    "Route",
    "RunResult",
    "Step",
    "compile_pipeline",
    "default_pipeline",
    "load_run",
    "open_plate",
    "run",
]

_PLACES = {
    "Branch": "openhcs.pipeline",
    "OpenHCSError": "openhcs._errors",
    "Pipeline": "openhcs.pipeline",
    "Plan": "openhcs.pipeline",
    "PlateIndex": "openhcs.plates",
    "Route": "openhcs.pipeline",
    "RunResult": "openhcs.execution",
    "Step": "openhcs.pipeline",
    "compile_pipeline": "openhcs.pipeline",
    "default_pipeline": "openhcs.pipeline",
    "load_run": "openhcs.execution",
    "open_plate": "openhcs.plates",
    "run": "openhcs.execution",
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
