"""The record of a run: what was run on what, how it went, and all that it takes to run it again."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import FormatNotRecognisedError, ResultFolderError
from openhcs.execution._folder import ResultFolder
from openhcs.pipeline import Outcome, compile_pipeline, from_source
from openhcs.plates import Description, Platemap, open_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from openhcs.execution._result import RunResult
    from openhcs.functions import Device
    from openhcs.pipeline import Acquisition, Otherwise, Pipeline, Plan
    from openhcs.plates import DuplicatePolicy

__all__ = ["RunRecord", "load_run", "run_document"]

_SCHEMA = 1
_PACKAGES = (
    "openhcs",
    "polystore",
    "zmqruntime",
    "numpy",
    "scipy",
    "scikit-image",
    "tifffile",
    "imagecodecs",
    "zarr",
    "pyarrow",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What it takes to run a plan again.

    Attributes
    ----------
    run_id
        Names the run.
    pipeline, source
        The pipeline, and the same as Python source.
    plate
        The plate's folder.
    plate_format
        Name of its format.
    described
        What a person said about it, where it was opened so.
    platemap
        Conditions per well, where there are any.
    duplicates, include_unlisted
        What was decided about doubled and unlisted files, as in `openhcs.plates.open_plate`.
    identity
        Hash over its files as they were.
    wells, fields, channels
        What was used of it.
    acquisition, missing, pixel_um, keep, otherwise, device
        As given to `openhcs.pipeline.compile_pipeline`.
    workers
        Number of worker processes.
    outcome
        How the run ended; None when it never came to its end.
    outcomes
        How each well ended.
    warnings
        What may make the results wrong; goes with those of the same plan again.
    """

    run_id: str
    pipeline: Pipeline
    source: str
    plate: Path
    plate_format: str
    described: Description | None
    platemap: Platemap | None
    duplicates: DuplicatePolicy
    include_unlisted: bool
    identity: str
    wells: tuple[str, ...]
    fields: tuple[int, ...]
    channels: tuple[str, ...]
    acquisition: Acquisition
    missing: str
    pixel_um: tuple[float, float] | None
    keep: bool | None
    otherwise: Otherwise | None
    device: Device | None
    workers: int
    outcome: Outcome | None
    outcomes: Mapping[str, Outcome]
    warnings: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """Compile the same pipeline against the same plate, as it is now.

        Raises
        ------
        PlateError
            If the plate cannot be opened.
        CompileError
            If the pipeline does not run on it any more.
        """
        if not self.plate.is_dir():
            message = (
                f"the plate of run {self.run_id} is no longer at {self.plate}: name the folder "
                "where it is now, and the same result folder; what is finished is not done again"
            )
            raise FormatNotRecognisedError(message)
        index = open_plate(
            self.plate,
            format=self.plate_format,
            described=self.described,
            platemap=self.platemap,
            duplicates=self.duplicates,
            include_unlisted=self.include_unlisted,
        )
        plan = compile_pipeline(
            self.pipeline,
            index,
            wells=self.wells,
            fields=self.fields,
            channels=self.channels,
            acquisition=self.acquisition,
            missing=self.missing,
            pixel_um=self.pixel_um,
            keep=self.keep,
            otherwise=self.otherwise,
            device=self.device,
            warnings=self.warnings,
        )
        if index.identity == self.identity:
            return plan
        changed = f"files of the plate have changed since run {self.run_id}"
        return replace(plan, notes=(*plan.notes, changed))


def load_run(folder: str | Path, *, functions: Iterable[Callable[..., Any]] = ()) -> RunRecord:
    """Read the record of the run in a result folder.

    Parameters
    ----------
    folder
        A result folder.
    functions
        Declared functions that its pipeline may name beside the registered ones.

    Raises
    ------
    ResultFolderError
        If it holds no record of a run, or one that cannot be read.
    SourceError
        If the pipeline in it is not one that can be read here.
    """
    place = ResultFolder(folder)
    document = place.read_run()
    if document is None:
        message = f"{place.run} is no record of a run: name a folder that a run was written to"
        raise ResultFolderError(message)
    try:
        return _record(place, document, functions)
    except (KeyError, TypeError, IndexError) as error:
        message = f"{place.run} is not a record that this version can read: {error!r}"
        raise ResultFolderError(message) from error


def _record(
    place: ResultFolder, document: Mapping[str, Any], functions: Iterable[Callable[..., Any]]
) -> RunRecord:
    plate, options = document["plate"], document["options"]
    size = options["pixel_um"]
    outcome = document["outcome"]
    return RunRecord(
        run_id=document["run_id"],
        pipeline=from_source(document["pipeline"], str(place.run), functions=functions),
        source=document["pipeline"],
        plate=Path(plate["path"]),
        plate_format=plate["format"],
        # Runs of before there were descriptions have neither, nor anything decided about files.
        described=Description.from_json(plate["described"]) if plate.get("described") else None,
        platemap=Platemap.from_json(plate["platemap"]) if plate.get("platemap") else None,
        duplicates=plate.get("duplicates", "error"),
        include_unlisted=plate.get("include_unlisted", False),
        identity=plate["identity"],
        wells=tuple(options["wells"]),
        fields=tuple(options["fields"]),
        channels=tuple(options["channels"]),
        acquisition=options["acquisition"],
        missing=options["missing"],
        pixel_um=None if size is None else (size[0], size[1]),
        keep=options.get("keep"),
        otherwise=options.get("otherwise"),
        device=options.get("device"),
        workers=options["workers"],
        outcome=None if outcome == "running" else Outcome(outcome),
        outcomes={well: Outcome(each["outcome"]) for well, each in document["wells"].items()},
        warnings=tuple(document.get("warnings", ())),
    )


def run_document(
    plan: Plan,
    *,
    run_id: str,
    started: str,
    workers: int,
    resume: bool,
    prepared: Mapping[str, Any],
    result: RunResult | None,
) -> dict[str, Any]:
    """Give what ``run.json`` says, at the start of a run without `result` and at its end with it.

    Parameters
    ----------
    plan
        The plan.
    run_id, started
        Name of the run, and its start in UTC.
    workers, resume
        As given to `openhcs.execution.run`.
    prepared
        What steps learned from the plate: notes by step.
    result
        How the run ended.
    """
    index = plan.index
    return {
        "schema": _SCHEMA,
        "run_id": run_id,
        "outcome": "running" if result is None else str(result.outcome),
        "reason": None if result is None else result.reason,
        "started": started,
        "seconds": None if result is None else round(result.seconds, 3),
        "pipeline": plan.source,
        "plate": {
            "path": str(index.root),
            "name": index.name,
            "format": index.format,
            "format_version": index.format_version,
            "identity": index.identity,
            "described": None if index.described is None else index.described.to_json(),
            "platemap": None if index.platemap is None else index.platemap.to_json(),
            "duplicates": index.facts.duplicates,
            "include_unlisted": index.facts.include_unlisted,
            "rows": index.rows,
            "columns": index.columns,
        },
        "options": {
            "wells": list(plan.wells),
            "fields": list(index.fields),
            "channels": [plan.channels[number] for number in index.channels],
            "acquisition": plan.acquisition,
            "missing": plan.missing,
            "pixel_um": plan.pixel_um,
            "keep": plan.run.keep,
            "otherwise": plan.run.otherwise,
            "device": plan.run.device,
            "workers": workers,
            "resume": resume,
        },
        "warnings": list(plan.warnings),
        "notes": list(dict.fromkeys((*plan.notes, *(() if result is None else result.notes)))),
        "steps": [
            {
                "name": step.name,
                "function": step.function,
                "version": step.version,
                "device": step.device,
                "parameters": dict(step.parameters),
                "image": step.image,
                "outputs": {output.stored: str(output.kind) for output in step.outputs},
                "seconds": None
                if result is None
                else round(result.step_seconds.get(step.name, 0.0), 3),
                "prepared": prepared.get(step.name),
            }
            for step in plan.steps
        ],
        "io_seconds": {
            name: round(result.step_seconds.get(name, 0.0), 3) for name in ("read", "write")
        }
        if result is not None
        else None,
        "wells": {}
        if result is None
        else {
            well.well: {
                "outcome": str(well.outcome),
                "seconds": round(well.seconds, 3),
                "reused": well.reused,
                "error": well.error,
                "filled": [plane.to_json() for plane in well.filled],
                "left_out": [{"field": field, "t": t} for field, t in well.left_out],
            }
            for well in result.wells
        },
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
