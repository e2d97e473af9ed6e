"""A run shown while it goes on: what arrives, what is held up, what a lost viewer gets again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from openhcs.pipeline import Outcome, WellFinished, WellStarted
from openhcs.testing.viewers import RecordingViewer
from openhcs.viewers import NapariFeed
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openhcs.testing.viewers import ShownRun


@pytest.fixture(autouse=True)
def own_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep lock files and logs of viewers out of the user's folders."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    left = {thread.name for thread in threading.enumerate()}
    assert not left & {"napari-feed", "recording-viewer"}
    assert not list(Path("/dev/shm").glob(f"zr-*-{os.getpid()}-*"))


def has_everything(viewer: RecordingViewer, wells: tuple[str, ...]) -> bool:
    names = ("stitched DAPI", "stitched GFP", "nuclei")
    return all((name, (well,)) in viewer.planes for name in names for well in wells)


@pytest.mark.parametrize("shared", [True, False], ids=["arena", "inline"])
def test_viewer_shows_what_the_run_finished(shown_run: ShownRun, shared: bool) -> None:
    port = free_endpoint().port
    with RecordingViewer(port) as viewer:
        with NapariFeed(
            shown_run.out, "plate", port=port, tell=print, use_shared_memory=shared
        ) as feed:
            feed(shown_run.started())
            for well in shown_run.wells:
                feed(WellStarted(well=well, worker=0, attempt=1))
                feed(shown_run.finished(well))
            report = feed.finish(30)
        assert (report.taken_in, report.missed) == (9, 0)
        assert has_everything(viewer, shown_run.wells)
        for well in shown_run.wells:
            for channel, name in enumerate(("stitched DAPI", "stitched GFP")):
                np.testing.assert_array_equal(
                    viewer.planes[name, (well,)], shown_run.plane(well, channel)
                )
        assert set(viewer.states.values()) == {"ok"}


def test_failed_well_is_told_and_brings_no_image(shown_run: ShownRun) -> None:
    port = free_endpoint().port
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(shown_run.out, "plate", port=port, tell=print) as feed,
    ):
        feed(shown_run.started())
        feed(
            WellFinished(
                well="A02", outcome=Outcome.FAILED, seconds=1, reused=False, error="plane missing"
            )
        )
        assert viewer.wait_for(lambda it: it.states.get(("run", "A02")) == "failed")
        assert feed.finish(5).missed == 0
        assert not viewer.planes


def test_viewer_that_comes_back_gets_what_it_missed(shown_run: ShownRun) -> None:
    port = free_endpoint().port
    said: list[str] = []
    with NapariFeed(shown_run.out, "plate", port=port, tell=said.append) as feed:
        with RecordingViewer(port) as first:
            feed(shown_run.started())
            feed(shown_run.finished("A01"))
            assert first.wait_for(lambda it: has_everything(it, ("A01",)))
        feed(shown_run.finished("A02"))
        feed(shown_run.finished("B03"))
        with RecordingViewer(port) as second:
            assert second.wait_for(lambda it: has_everything(it, shown_run.wells))
            assert feed.finish(30).missed == 0


def test_stopped_viewer_holds_nothing_up_and_is_named(shown_run: ShownRun) -> None:
    """A viewer that hangs keeps the feed waiting, never the run, and the end is bounded."""
    endpoint = free_endpoint()
    program = (
        "import sys, time; from openhcs.testing.viewers import RecordingViewer\n"
        f"with RecordingViewer({endpoint.port}) as v:\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as viewer:
        assert viewer.stdout is not None
        assert viewer.stdout.readline() == "ready\n"
        said: list[str] = []
        with NapariFeed(shown_run.out, "plate", port=endpoint.port, tell=said.append) as feed:
            feed(shown_run.started())
            feed(shown_run.finished("A01"))
            assert feed.finish(30).missed == 0
            os.kill(viewer.pid, signal.SIGSTOP)
            events = [shown_run.finished(well) for well in ("A02", "B03")]
            began = time.perf_counter()
            for event in events:
                feed(event)
            told = time.perf_counter() - began
            report = feed.finish(3)
            waited = time.perf_counter() - began - told
            assert told < waited  # the run's part is a note in a queue
            assert report.missed > 0
            assert "misses" in report.sentence
            os.kill(viewer.pid, signal.SIGCONT)
            assert feed.finish(30).missed == 0
        viewer.communicate()


def test_port_of_another_program_is_left_alone(shown_run: ShownRun) -> None:
    import socket

    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        said: list[str] = []
        with NapariFeed(shown_run.out, "plate", port=port, tell=said.append) as feed:
            feed(shown_run.started())
            feed(shown_run.finished("A01"))
            report = feed.finish(60)
        assert report.missed == 3
        assert "goes on without napari" in " ".join(said)


def test_large_runs_are_sent_at_a_level_that_fits(shown_run: ShownRun) -> None:
    port = free_endpoint().port
    said: list[str] = []
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(shown_run.out, "plate", port=port, tell=said.append, most_bytes=1) as feed,
    ):
        feed(shown_run.started())
        feed(shown_run.finished("A01"))
        assert feed.finish(30).missed == 0
        sent = viewer.planes["stitched DAPI", ("A01",)]
        assert sent.shape[0] <= shown_run.shape[0]
