"""How the wells of a run end: their results and records, each told and put on disk as it comes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from openhcs.execution._result import WellResult
from openhcs.execution._resume import WellState, well_result
from openhcs.pipeline import Outcome, StepFinished, WellFinished, WellStarted
from polystore import PolystoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openhcs.execution._dispatch import Ended
    from openhcs.execution._executor import TaskBegun
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._log import RunLog
    from openhcs.pipeline import Event

__all__ = ["Endings"]


class Endings:
    """The wells of a run, as they begin and end.

    Parameters
    ----------
    folder
        The result folder.
    run_id
        Names the run.
    log
        Takes what went wrong, with its traceback.
    tell
        Told every event.
    """

    def __init__(
        self, folder: ResultFolder, run_id: str, log: RunLog, tell: Callable[[Event], None]
    ) -> None:
        self._folder = folder
        self._run_id = run_id
        self._log = log
        self._tell = tell
        self._began: dict[str, float] = {}
        self.results: dict[str, WellResult] = {}
        """By well, once it has ended."""
        self.records: dict[str, Mapping[str, Any]] = {}
        """Of the wells that are ok: what their rows in the table of wells are made of."""

    @property
    def any_begun(self) -> bool:
        """Whether a worker has taken up any well."""
        return bool(self._began)

    def begin(self, item: TaskBegun, reused: Sequence[str]) -> None:
        """Take note of a well that was taken up, and of its steps that stand already."""
        self._began[item.task] = time.perf_counter()
        self._tell(WellStarted(well=item.task, worker=item.worker, attempt=item.attempt))
        for step in reused:
            self._tell(StepFinished(well=item.task, step=step, seconds=0.0, reused=True))

    def take_over(self, states: Sequence[WellState]) -> None:
        """Take over the wells that are finished."""
        for state in states:
            if state.record is not None:
                self._succeed(state.well, state.record, seconds=0.0, reused=True)

    def end(self, item: Ended) -> None:
        """Take note of how the task of a well ended."""
        record, outcome = item.record, Outcome(item.record["outcome"])
        began = self._began.get(item.task)
        seconds = 0.0 if began is None else time.perf_counter() - began
        # what the worker counted, where it could: notices may come late, or at the end only
        seconds = float(record.get("seconds", seconds))
        done = record.get("record") if outcome is Outcome.OK else self._unheard(item.task, outcome)
        if done is not None:
            self._succeed(item.task, done, seconds=seconds, reused=False)
            return
        error = record.get("error") or "cancelled"
        self.fail(item.task, outcome, error, seconds, record.get("traceback"))

    def fail(
        self,
        well: str,
        outcome: Outcome,
        error: str,
        seconds: float = 0.0,
        trace: str | None = None,
    ) -> None:
        """Take note of a well that is not ok."""
        self.results[well] = WellResult(
            well=well,
            outcome=outcome,
            seconds=seconds,
            reused=False,
            images=(),
            error=error,
            traceback=trace,
            steps={},
        )
        there = self._folder.read_record(well) or {"schema": 1, "well": well, "keys": {}}
        ending = {
            "run_id": self._run_id,
            "outcome": str(outcome),
            "error": error,
            "traceback": trace,
        }
        try:
            self._folder.write_record(well, {**there, **ending})
        except (PolystoreError, OSError) as failure:
            # The well's outcome is in the result all the same; a full disk takes no more files.
            self._log.write(f"{well}: its record could not be written: {failure}")
        self._log.write(f"{well}: {outcome}: {error}")
        if trace:
            self._log.write(trace)
        self._tell(
            WellFinished(well=well, outcome=outcome, seconds=seconds, reused=False, error=error)
        )

    def _succeed(
        self, well: str, record: Mapping[str, Any], *, seconds: float, reused: bool
    ) -> None:
        self.records[well] = _kept(record)
        result = well_result(well, record, seconds=seconds, reused=reused)
        self.results[well] = result
        self._tell(
            WellFinished(
                well=well,
                outcome=Outcome.OK,
                seconds=seconds,
                reused=reused,
                images=result.images,
            )
        )

    def _unheard(self, well: str, outcome: Outcome) -> Mapping[str, Any] | None:
        """Give the record of a well that was finished, though who did it could not say so."""
        if outcome is Outcome.FAILED:
            return None
        record = self._folder.read_record(well) or {}
        ours = record.get("run_id") == self._run_id and record.get("outcome") == str(Outcome.OK)
        return record if ours else None


def _kept(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the part of a record that is needed to the end of the run, as small as may be.

    Names are those of every other well: each is held once, not once for each well.
    """
    return {
        "seconds": {sys.intern(step): seconds for step, seconds in record["seconds"].items()},
        "measures": {
            output: dict(zip(map(sys.intern, row), row.values(), strict=True))
            for output, row in record.get("measures", {}).items()
        },
        "filled": record.get("filled", ()),
        "left_out": record.get("left_out", ()),
    }
