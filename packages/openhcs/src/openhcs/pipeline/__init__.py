"""Pipelines: steps in order, compiled against a plate into a plan."""

from __future__ import annotations

from openhcs.pipeline._acting import COVERAGE, made_by, spelled, steps_in
from openhcs.pipeline._compile import compile_pipeline
from openhcs.pipeline._content_key import (
    content_key,
    edited_since_import,
    file_key,
    package_versions,
    step_keys,
    well_keys,
)
from openhcs.pipeline._default import default_pipeline, nuclear_channel, nuclear_doubts
from openhcs.pipeline._estimate import (
    PROCESS_BYTES,
    Estimate,
    StoredEstimate,
    estimate,
    process_bytes,
)
from openhcs.pipeline._evaluation import Evaluation
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
from openhcs.pipeline._filling import FilledPlane, filled_in_words, filled_of
from openhcs.pipeline._flat import PLATE
from openhcs.pipeline._groups import AXES, GroupKey
from openhcs.pipeline._outcome import Outcome
from openhcs.pipeline._pipeline import Branch, Part, Pipeline, Route
from openhcs.pipeline._plan import (
    Acquisition,
    Plan,
    PlannedInput,
    PlannedOutput,
    PlannedStep,
)
from openhcs.pipeline._planes import left_out_in_words, well_planes
from openhcs.pipeline._request import RunRequest, load_request
from openhcs.pipeline._settings import SKIP_GROUP, MissingPlanes, Otherwise, Setting, Settings
from openhcs.pipeline._source import from_source, load, read_text, to_source
from openhcs.pipeline._step import Step
from openhcs.pipeline._surroundings import Kept, Source

__all__ = [
    "AXES",
    "COVERAGE",
    "PLATE",
    "PROCESS_BYTES",
    "SKIP_GROUP",
    "Acquisition",
    "Branch",
    "Estimate",
    "Evaluation",
    "Event",
    "FilledPlane",
    "GroupKey",
    "Kept",
    "MissingPlanes",
    "Otherwise",
    "Outcome",
    "Part",
    "Pipeline",
    "Plan",
    "PlannedInput",
    "PlannedOutput",
    "PlannedStep",
    "PreparationAdvanced",
    "PreparationFinished",
    "Route",
    "RunFinished",
    "RunRequest",
    "RunStarted",
    "Setting",
    "Settings",
    "Source",
    "Step",
    "StepFinished",
    "StoredEstimate",
    "WellFinished",
    "WellImage",
    "WellRetried",
    "WellStarted",
    "compile_pipeline",
    "content_key",
    "default_pipeline",
    "edited_since_import",
    "estimate",
    "file_key",
    "filled_in_words",
    "filled_of",
    "from_source",
    "left_out_in_words",
    "load",
    "load_request",
    "made_by",
    "nuclear_channel",
    "nuclear_doubts",
    "package_versions",
    "process_bytes",
    "read_text",
    "spelled",
    "step_keys",
    "steps_in",
    "to_source",
    "well_keys",
    "well_planes",
]
