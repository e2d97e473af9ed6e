"""JobContext: what a function that does a job can say and ask."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from zmqruntime.execution._errors import JobStopped
from zmqruntime.execution._record import UnitOutcome
from zmqruntime.execution._worker_messages import Progress, Report, UnitReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec

__all__ = ["JobContext"]

_PACE_S = 0.02
_MOST_PLACES = 4096
_MOST_NAME = 200
_MOST_TEXT = 1000


class JobContext:
    """What a function that does a job can say and ask; made by the worker, any thread.

    Attributes
    ----------
    id
        Name of the job.
    attempt
        Which attempt this is, from 1.
    units
        Units that must be reported, or None when the result is all there is.
    stopping
        Set when the job is asked to stop, for what takes an event; `cancelled` says the same.

    Notes
    -----
    Progress never makes the function wait: reports are handed over at most every 20 ms, and of
    each unit and phase only the latest. Outcomes of units are all handed over, in order.
    """

    def __init__(
        self,
        id_: str,
        attempt: int,
        *,
        units: Sequence[str] | None,
        due: float | None,
        send: Callable[[msgspec.Struct], object],
    ) -> None:
        self.id = id_
        self.attempt = attempt
        self.units = None if units is None else tuple(units)
        self._names = frozenset(units or ())
        self._due = None if due is None else time.monotonic() + due
        self._send = send
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._reports: dict[tuple[str, str], Report] = {}
        self._n = 0
        self._over = False
        self._sender: threading.Thread | None = None

    def progress(
        self,
        unit: str = "",
        phase: str = "",
        fraction: float | None = None,
        message: str = "",
    ) -> None:
        """Say how far the work is.

        Parameters
        ----------
        unit
            Which part of it, empty for all of it; at most 200 characters count.
        phase
            What is being done.
        fraction
            How much of that is done, from 0 to 1; None when nobody can say.
        message
            For people; at most 1000 characters count.

        Raises
        ------
        ValueError
            If the fraction is not a number from 0 to 1.
        """
        if fraction is not None:
            fraction = float(fraction)
            if not 0 <= fraction <= 1 or math.isnan(fraction):
                raise ValueError(f"fraction is {fraction}: expected 0 to 1")
        place = (str(unit)[:_MOST_NAME], str(phase)[:_MOST_NAME])
        with self._changed:
            if self._over:
                return
            self._n += 1
            self._reports.pop(place, None)  # the latest goes last, so that numbers stay in order
            if len(self._reports) >= _MOST_PLACES:
                del self._reports[next(iter(self._reports))]
            self._reports[place] = Report(
                n=self._n,
                time=time.time(),
                unit=place[0],
                phase=place[1],
                fraction=fraction,
                message=str(message)[:_MOST_TEXT],
            )
            if self._sender is None:
                self._sender = threading.Thread(target=self._run, name="progress", daemon=True)
                self._sender.start()
            self._changed.notify()

    def report(self, unit: str, value: Any = None) -> None:
        """Say that a unit is done, with its result.

        Parameters
        ----------
        unit
            Its name.
        value
            Plain value: None, bool, int, float, str, bytes, lists and maps with str keys.

        Raises
        ------
        TypeError
            If the value is not plain.
        ValueError
            If the unit has no name, or is not one of those that are expected.
        """
        self._outcome(UnitOutcome(unit=unit, ok=True, value=value))

    def report_failure(self, unit: str, error: BaseException | str) -> None:
        """Say that a unit failed; the others go on, and their results are kept.

        Parameters
        ----------
        unit
            Its name.
        error
            What happened.

        Raises
        ------
        ValueError
            If the unit has no name, or is not one of those that are expected.
        """
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._outcome(UnitOutcome(unit=unit, ok=False, message=text[:_MOST_TEXT]))

    def log(self, message: str) -> None:
        """Write a line to the log of the job, where all that it prints goes too."""
        print(message, file=sys.stderr, flush=True)  # noqa: T201 - standard error is the log

    def cancelled(self) -> bool:
        """Whether the job was asked to stop, for whatever reason; look often."""
        return self.stopping.is_set()

    def check(self) -> None:
        """Leave the function if the job was asked to stop.

        Raises
        ------
        JobStopped
            If it was. Let it through: the job then ends as what it was stopped for.
        """
        if self.stopping.is_set():
            raise JobStopped(f"job {self.id} was asked to stop")

    def wait_cancelled(self, timeout: float | None = None) -> bool:
        """Wait until the job is asked to stop.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether it was asked.
        """
        return self.stopping.wait(timeout)

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None when there is none."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def stop(self) -> None:
        """Ask the function to stop; for the worker."""
        self.stopping.set()

    def finish(self) -> int:
        """Hand over what is left and take nothing more; for the worker.

        Returns
        -------
        int
            How many reports there were.
        """
        with self._changed:
            self._over = True
            self._flush()
            self._changed.notify()
            return self._n

    def _outcome(self, outcome: UnitOutcome) -> None:
        if not outcome.unit or len(outcome.unit) > _MOST_NAME:
            raise ValueError(f"a unit has a name of 1 to {_MOST_NAME} characters")
        if self.units is not None and outcome.unit not in self._names:
            raise ValueError(f"unit {outcome.unit!r} is not one of the {len(self.units)} expected")
        with self._changed:
            if self._over:
                return
            self._flush()
            self._n += 1
            self._send(UnitReport(id=self.id, attempt=self.attempt, n=self._n, outcome=outcome))

    def _flush(self) -> None:
        if self._reports:
            reports = list(self._reports.values())
            self._reports.clear()
            self._send(Progress(id=self.id, attempt=self.attempt, reports=reports))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._reports or self._over)
                if self._over:
                    return
                self._flush()
            if self._stop_pacing(_PACE_S):
                return

    def _stop_pacing(self, seconds: float) -> bool:
        """Let reports gather for a while; True when the job is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over, seconds)
