"""A pipeline over a plate in one call."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from openhcs._errors import ResultFolderError
from openhcs.execution import run as run_plan
from openhcs.pipeline import Pipeline, compile_pipeline, default_pipeline, load, nuclear_doubts
from openhcs.plates import PlateIndex, Platemap, open_plate, parse_wells, read_platemap
from openhcs.report import write_report
from openhcs.results import Results

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from concurrent import futures
    from pathlib import Path

    from openhcs.functions import Device
    from openhcs.pipeline import Acquisition, Event, MissingPlanes, Otherwise

__all__ = ["run"]


def run(
    plate: str | Path | PlateIndex,
    pipeline: Pipeline | str | Path | None = None,
    *,
    out: str | Path,
    wells: str | Iterable[str] | None = None,
    fields: Iterable[int] | None = None,
    channels: Iterable[str | int] | None = None,
    acquisition: Acquisition | None = None,
    platemap: Platemap | str | Path | None = None,
    missing: MissingPlanes | None = None,
    pixel_um: tuple[float, float] | None = None,
    keep: bool | None = None,
    otherwise: Otherwise | None = None,
    device: Device | None = None,
    workers: int = 2,
    memory_bytes: int | None = None,
    executor: futures.Executor | None = None,
    resume: bool = True,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
) -> Results:
    """Run a pipeline over a plate, and give its results.

    Parameters
    ----------
    plate
        The plate's folder, or its index.
    pipeline
        The pipeline, or its file; the default one without.
    out
        The result folder; what is finished and unchanged in it is not done again.
    wells
        Names of wells, or a selection such as ``"A01,B*"``; all by default.
    fields, channels, acquisition
        What else of the plate is used; see `openhcs.pipeline.compile_pipeline`.
    platemap
        Conditions of the wells, or their file; in place of those that the plate brings.
    missing, pixel_um, keep, otherwise, device
        Settings of the run; see `openhcs.pipeline.Settings`.
    workers, memory_bytes, executor, resume, on_event, cancel
        As in `openhcs.execution.run`.

    Returns
    -------
    Results
        Also when wells failed: `Results.completed` says whether all are there, `Results.errors`
        what went wrong.

    Raises
    ------
    PlateError
        If the plate cannot be opened.
    PipelineError
        If the pipeline cannot be read, or cannot run on the plate.
    ResultFolderError
        If the result folder cannot be used, or there is no room for the report.
    ValueError
        If a selection names no well of the plate, or `workers` is less than 1.
    TypeError
        If the pipeline is neither one nor the path of one, or `fields` or `channels` is a text in
        place of several.

    Notes
    -----
    Worker processes are started; they import functions of your own by the name of their module.
    """
    if not isinstance(pipeline, Pipeline | str | PathLike | None):
        message = (
            f"the pipeline is a {type(pipeline).__name__}: give a Pipeline, such as "
            "Pipeline(Step(project_max)), or the path of its file"
        )
        raise TypeError(message)
    index = plate if isinstance(plate, PlateIndex) else open_plate(plate)
    if platemap is not None:
        conditions = platemap if isinstance(platemap, Platemap) else read_platemap(platemap)
        index = index.with_platemap(conditions)
    chosen = default_pipeline(index) if pipeline is None else pipeline
    plan = compile_pipeline(
        chosen if isinstance(chosen, Pipeline) else load(chosen),
        index,
        wells=parse_wells(wells, index.wells) if isinstance(wells, str) else wells,
        fields=fields,
        channels=channels,
        acquisition=acquisition,
        missing=missing,
        pixel_um=pixel_um,
        keep=keep,
        otherwise=otherwise,
        device=device,
        warnings=nuclear_doubts(index) if pipeline is None else (),
    )
    result = run_plan(
        plan,
        out,
        workers=workers,
        memory_bytes=memory_bytes,
        executor=executor,
        resume=resume,
        on_event=on_event,
        cancel=cancel,
    )
    try:
        write_report(result.out)
    except OSError as error:
        message = (
            f"the results are whole and in {result.out}, where open_results finds them, but the "
            f"report could not be written: {error}"
        )
        raise ResultFolderError(message) from error
    return Results(result.out)
