"""What a worker process of a server does: one run, from its order to its report."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openhcs._errors import PlateError, ResultFolderError, ResultFolderInUseError, RunError
from openhcs._typed import from_plain
from openhcs.execution import run
from openhcs.pipeline import Outcome, WellFinished
from openhcs.report import write_report
from openhcs.server._events import EventLog, run_ids
from openhcs.server._messages import Order
from openhcs.server._requests import as_submitted, ordered_request
from openhcs.server._settings import ServerSettings, known_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openhcs.execution import RunResult
    from openhcs.pipeline import Event, Plan
    from openhcs.viewers import NapariFeed
    from zmqruntime.execution import JobContext

__all__ = ["run_order"]

_LOOK_S: Final = 0.5
"""Between two looks whether the folder of results is free."""
_LAST_WAIT_S: Final = 20.0
"""Longest wait for a viewer to take in what it was sent, at the end of a run."""


def run_order(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Do a run, as `zmqruntime.execution.ExecutionServer` asks a worker for it.

    Parameters
    ----------
    context
        Of the job.
    payload
        An `Order` in plain form.

    Returns
    -------
    dict
        How the run ended: ``outcome``, ``reason``, ``notes``, and where its results lie.

    Raises
    ------
    zmqruntime.execution.JobStopped
        If it was asked to stop; what is finished is kept.
    OpenHCSError
        If the run cannot be begun.
    """
    settings = ServerSettings.from_environment()
    order = from_plain(payload, Order)
    submission = order.submission
    out = Path(order.out)
    if not settings.results.is_dir():
        message = f"{settings.results}, the folder for results, is gone: is its disk mounted?"
        raise ResultFolderError(message)
    out.parent.mkdir(exist_ok=True)
    events = settings.events_of(context.id)
    # forced is what earlier jobs have done, not what this one did before its server ended
    resume = run_ids(events) if submission.force else True
    try:
        plan = ordered_request(order, settings).plan()
    except PlateError as error:
        error.args = (as_submitted(str(error), settings),)
        raise
    for note in plan.notes:
        context.log(f"Note: {note}")
    with (
        _opened(events) as log,
        _viewer_feed(context, order, plan, settings) as feed,
    ):
        total, done = len(plan.wells), 0

        def tell(event: Event) -> None:
            nonlocal done
            log.append(event)
            if feed is not None:
                feed(event)
            done += isinstance(event, WellFinished)
            context.progress(phase="wells", fraction=done / total, message=f"{done} of {total}")

        done_in_turn = partial(
            run,
            plan,
            out,
            workers=settings.workers,
            memory_bytes=settings.memory_bytes,
            resume=resume,
            on_event=tell,
            cancel=context.stopping,
        )
        result = _when_free(context, submission.results, done_in_turn)
        notes = [*result.warnings, *result.notes]
        try:
            write_report(out)
        except OSError as error:  # the disk may be full: the results are told all the same
            notes.append(f"the report could not be written: {error}")
        if result.outcome is Outcome.CANCELLED:
            context.check()
        if log.lack:
            notes.append(log.lack)
        shown = "" if feed is None else feed.finish(timeout=_LAST_WAIT_S).sentence
    return {
        "outcome": str(result.outcome),
        "run_id": result.run_id,
        "seconds": result.seconds,
        "reason": result.reason,
        "notes": notes,
        "viewer": shown,
        "results": submission.results,
        "out": str(out),
    }


def _opened(path: Path) -> EventLog:
    try:
        return EventLog(path)
    except OSError as error:
        message = (
            f"{path}, the file of what happens in the run, cannot be written: {error.strerror}. "
            "Make room on the server, then submit again"
        )
        raise RunError(message) from error


def _when_free(context: JobContext, results: str, begin: Callable[[], RunResult]) -> RunResult:
    """Do a run when no other works in its folder: two submissions may name the same results.

    Raises
    ------
    zmqruntime.execution.JobStopped
        If it was asked to stop meanwhile.
    """
    waits = f"another run makes the results {results!r}: this one waits for it"
    while True:
        try:
            return begin()
        except ResultFolderInUseError:
            context.progress(phase="wells", message=waits)
            context.stopping.wait(_LOOK_S)
            context.check()


@contextmanager
def _viewer_feed(
    context: JobContext, order: Order, plan: Plan, settings: ServerSettings
) -> Iterator[NapariFeed | None]:
    """Give what shows the run in the submitter's viewer; None where there is to be none."""
    viewer = order.submission.viewer
    if viewer is None:
        yield None
        return
    from openhcs.viewers import NapariFeed

    with NapariFeed(
        Path(order.out),
        plan.index.name,
        source=plan.index.root,
        host=viewer.host,
        port=viewer.port,
        keys=known_keys(settings.keys, viewer.host, viewer.port),
        launch=False,
        tell=context.log,
    ) as feed:
        yield feed
