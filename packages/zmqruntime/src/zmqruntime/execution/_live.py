"""LiveJob: what is known of a job that is not over, beyond its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqruntime.execution._lifecycle import Returned
from zmqruntime.execution._record import JobEvent

if TYPE_CHECKING:
    from zmqruntime.execution._journal import Journal
    from zmqruntime.execution._record import JobRecord, UnitOutcome
    from zmqruntime.execution._worker_messages import Report
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["LiveJob"]

_MOST_PLACES = 4096


class LiveJob:
    """What is known of a job that is not over.

    Of each unit and phase only the latest event is held; the numbers of those it replaced are
    missing, for all to see.

    Parameters
    ----------
    record
        The job.
    units
        Units that must be reported, or None.
    outcomes
        What was reported of them in former attempts.
    log_size
        How many bytes former attempts have written.
    """

    def __init__(
        self,
        record: JobRecord,
        units: tuple[str, ...] | None,
        *,
        outcomes: dict[str, bool] | None = None,
        log_size: int = 0,
    ) -> None:
        self.record = record
        """As it is in the journal."""
        self.units = units
        self.outcomes = dict(outcomes or {})
        self.log_size = log_size
        self.last_event = record.events
        self.latest: dict[tuple[str, str, str], JobEvent] = {}
        self.unsaved_events: dict[tuple[str, str, str], JobEvent] = {}
        self.unsaved_units: list[UnitOutcome] = []
        self.unsaved_log = bytearray()
        self.deadline: TimerHandle | None = None
        self.grace: TimerHandle | None = None
        self._offset = record.events

    def begin_attempt(self) -> None:
        """Take care that what a new attempt reports is numbered after all that was before."""
        self._offset = self.last_event

    def add_state(self, record: JobRecord, time: float) -> JobEvent:
        """Note a new state."""
        self.last_event += 1
        event = JobEvent(
            seq=self.last_event,
            time=time,
            kind="state",
            state=record.state,
            message=record.message,
        )
        self._add(event)
        return event

    def add_report(self, report: Report) -> None:
        """Note progress."""
        self._add(
            JobEvent(
                seq=self._number(report.n),
                time=report.time,
                kind="progress",
                unit=report.unit,
                phase=report.phase,
                fraction=report.fraction,
                message=report.message,
            )
        )

    def add_outcome(self, n: int, outcome: UnitOutcome, time: float) -> None:
        """Note what became of a unit."""
        self.outcomes[outcome.unit] = outcome.ok
        self.unsaved_units.append(outcome)
        self._add(
            JobEvent(
                seq=self._number(n),
                time=time,
                kind="unit",
                unit=outcome.unit,
                message=outcome.message,
                state="ok" if outcome.ok else "failed",
            )
        )

    def undo_state(self, event: JobEvent) -> None:
        """Take a new state back that could not be written; nothing was noted after it."""
        self.latest.pop(event.place, None)
        self.unsaved_events.pop(event.place, None)
        self.last_event = event.seq - 1

    def add_log(self, data: bytes, *, most: int) -> None:
        """Note what the job has written; only the last `most` bytes are held."""
        self.log_size += len(data)
        self.unsaved_log += data
        if len(self.unsaved_log) > 2 * most:
            del self.unsaved_log[:-most]

    def returned(self, *, n: int, value: bool) -> Returned:
        """Say what it means that the function has returned.

        Parameters
        ----------
        n
            How many reports there were.
        value
            Whether it returned something.
        """
        self._number(n)
        missing = tuple(unit for unit in self.units or () if unit not in self.outcomes)
        bad = tuple(unit for unit, ok in self.outcomes.items() if not ok)
        return Returned(nothing=not (value or self.outcomes), missing=missing, bad=bad)

    @property
    def reported(self) -> int:
        """How many units were reported with success."""
        return sum(self.outcomes.values())

    def save(self, journal: Journal) -> None:
        """Write what is not in the journal yet; inside a transaction."""
        seq = self.record.seq
        if self.unsaved_events:
            events = sorted(self.unsaved_events.values(), key=lambda event: event.seq)
            journal.add_events(seq, events)
        if self.unsaved_units:
            journal.add_units(seq, self.record.attempt, self.unsaved_units)
        if self.unsaved_log:
            start = self.log_size - len(self.unsaved_log)
            journal.add_log(seq, start, bytes(self.unsaved_log))

    def saved(self) -> None:
        """Note that what `save` wrote is safe."""
        self.unsaved_events.clear()
        self.unsaved_units.clear()
        self.unsaved_log.clear()

    def _number(self, n: int) -> int:
        seq = self._offset + n
        self.last_event = max(self.last_event, seq)
        return seq

    def _add(self, event: JobEvent) -> None:
        for events in (self.latest, self.unsaved_events):
            events.pop(event.place, None)
            if len(events) >= _MOST_PLACES:
                del events[next(iter(events))]
            events[event.place] = event
