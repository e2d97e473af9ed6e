"""What tests of runs on a server share: what is submitted, who follows it, and a server to kill."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from openhcs.pipeline import Outcome, RunStarted, WellFinished
from openhcs.server import RunClient, ServerSettings, Submission

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from openhcs.pipeline import Event
    from zmqruntime import Endpoint
    from zmqruntime.execution import JobRecord

SOON = 60.0
"""Longest wait in s for what happens at once on a computer that has nothing else to do."""

WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in (1, 2))
PIPELINE = """from openhcs import Pipeline, Step
from openhcs.functions import measure_image_quality, measure_objects, segment_nuclei, stitch

pipeline = Pipeline(
    Step(measure_image_quality),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)
"""


class Serve(Protocol):
    """Makes a client of a server in this process."""

    def __call__(self, **settings: Any) -> RunClient: ...


def settings_of(screens: Path, tmp_path: Path, **further: Any) -> ServerSettings:
    return ServerSettings(
        **{
            "roots": {"screens": screens},
            "results": tmp_path / "results",
            "state": tmp_path / "jobs",
            "workers": 1,
            **further,
        }
    )


def order(results: str = "mine", *, text: str | None = PIPELINE, **further: Any) -> Submission:
    """Give a submission of the plate."""
    submission: dict[str, Any] = {
        "results": results,
        "text": text,
        "filename": "pipeline.py",
        "options": {"plate": "screens/p1"},
        **further,
    }
    return Submission(**submission)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what happens in other processes, of which nothing tells."""
    waiting = threading.Event()
    for _ in range(round(SOON / 0.05)):
        if condition():
            return
        waiting.wait(0.05)
    raise AssertionError


def every_well_is_done_once(events: list[Event]) -> bool:
    """Say whether all wells are ok at the end, and none was done again that had been finished.

    A well that was finished when the server was killed may not have been told; the next attempt
    takes it over then.
    """
    ended = [each for each in events if isinstance(each, WellFinished)]
    done = [each.well for each in ended if each.outcome is Outcome.OK and not each.reused]
    last = max(n for n, event in enumerate(events) if isinstance(event, RunStarted))
    whole = {each.well for each in events[last:] if isinstance(each, WellFinished)}
    return len(set(done)) == len(done) and whole == set(WELLS)


@dataclass
class Watched:
    """A run that is followed on a thread of its own."""

    client: RunClient
    job: str
    events: list[Event] = field(default_factory=list)
    record: JobRecord | None = None
    error: Exception | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.record = self.client.follow(self.job, self._take)
        except Exception as error:  # noqa: BLE001  # told by `ended`
            self.error = error
        with self.changed:
            self.changed.notify_all()

    def _take(self, event: Event) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[list[Event]], bool]) -> None:
        """Wait until the events so far fulfil a condition."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: condition(self.events) or not self.thread.is_alive(), SOON
            )
            assert condition(self.events), (self.record, self.error)

    def ended(self) -> JobRecord:
        """Wait until the run is over."""
        self.thread.join(SOON)
        if self.error is not None:
            raise self.error
        assert self.record is not None, self.events[-3:]
        return self.record


class Program:
    """A server as a process of its own, which can be killed and started again."""

    def __init__(self, endpoint: Endpoint, screens: Path, tmp_path: Path) -> None:
        self.endpoint = endpoint
        self._log = tmp_path / "server.log"
        self._words = [
            *(sys.executable, "-m", "openhcs", "serve"),
            *("--root", f"screens={screens}", "--results", str(tmp_path / "results")),
            *("--state", str(tmp_path / "jobs"), "--port", str(endpoint.port), "--workers", "1"),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._words, stdout=log, stderr=log)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SOON)


@contextmanager
def connected(program: Program, **further: Any) -> Iterator[RunClient]:
    with RunClient(program.endpoint, **further) as client:
        client.connect_or_raise(SOON)
        yield client
