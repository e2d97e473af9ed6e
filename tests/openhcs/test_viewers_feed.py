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

from openhcs.pipeline import Outcome, RunStarted, WellFinished, WellImage, WellStarted
from openhcs.testing.viewers import RecordingViewer
from openhcs.viewers import NapariFeed
from polystore.backends import (
    ChannelMeta,
    ImageMeta,
    ImageWriter,
    PlateLayout,
    create_plate,
    write_labels,
)
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

WELLS = ("A01", "A02", "B03")
SHAPE = (300, 260)


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


def plane(well: str, channel: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    seed = [WELLS.index(well), channel]
    return np.random.default_rng(seed).integers(0, 4000, SHAPE).astype(np.uint16)


def finished(out: Path, well: str) -> WellFinished:
    """Write a well's results as a run does, and give the event of its end."""
    plate = out / "plate.zarr"
    if not plate.exists():
        layout = PlateLayout.regular("p", rows=8, columns=12, wells=WELLS, images=["stitched"])
        create_plate(plate, layout)
    meta = ImageMeta(channels=(ChannelMeta("DAPI"), ChannelMeta("GFP")), pixel_um=(0.65, 0.65))
    with ImageWriter(plate, well, "stitched", (2, *SHAPE), np.uint16, meta) as image:
        for channel in range(2):
            image.write_plane(plane(well, channel), c=channel)
        image.commit()
    write_labels(plate, well, "stitched", "nuclei", (plane(well, 0) > 2000).astype(np.int32))
    return WellFinished(
        well=well,
        outcome=Outcome.OK,
        seconds=1.0,
        reused=False,
        images=(
            WellImage(
                name="stitched",
                path=f"{well[0]}/{int(well[1:])}/stitched",
                field=None,
                axes=("t", "channel", "z", "y", "x"),
                shape=(1, 2, 1, *SHAPE),
                dtype="uint16",
                channels=("DAPI", "GFP"),
                labels=("nuclei",),
                pixel_um=(0.65, 0.65),
            ),
        ),
    )


def started(out: Path) -> RunStarted:
    return RunStarted(run_id="run", out=out, wells=WELLS, done=(), steps=("stitch",), workers=1)


def has_everything(viewer: RecordingViewer, wells: tuple[str, ...] = WELLS) -> bool:
    names = ("stitched DAPI", "stitched GFP", "nuclei")
    return all((name, (well,)) in viewer.planes for name in names for well in wells)


@pytest.mark.parametrize("shared", [True, False], ids=["arena", "inline"])
def test_viewer_shows_what_the_run_finished(tmp_path: Path, shared: bool) -> None:
    port = free_endpoint().port
    with RecordingViewer(port) as viewer:
        with NapariFeed(tmp_path, "plate", port=port, tell=print, use_shared_memory=shared) as feed:
            feed(started(tmp_path))
            for well in WELLS:
                feed(WellStarted(well=well, worker=0, attempt=1))
                feed(finished(tmp_path, well))
            report = feed.finish(30)
        assert (report.taken_in, report.missed) == (9, 0)
        assert has_everything(viewer)
        for well in WELLS:
            for channel, name in enumerate(("stitched DAPI", "stitched GFP")):
                np.testing.assert_array_equal(viewer.planes[name, (well,)], plane(well, channel))
        assert set(viewer.states.values()) == {"ok"}


def test_failed_well_is_told_and_brings_no_image(tmp_path: Path) -> None:
    port = free_endpoint().port
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(tmp_path, "plate", port=port, tell=print) as feed,
    ):
        feed(started(tmp_path))
        feed(
            WellFinished(
                well="A02", outcome=Outcome.FAILED, seconds=1, reused=False, error="plane missing"
            )
        )
        assert viewer.wait_for(lambda it: it.states.get(("run", "A02")) == "failed")
        assert feed.finish(5).missed == 0
        assert not viewer.planes


def test_viewer_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    port = free_endpoint().port
    said: list[str] = []
    with NapariFeed(tmp_path, "plate", port=port, tell=said.append) as feed:
        with RecordingViewer(port) as first:
            feed(started(tmp_path))
            feed(finished(tmp_path, "A01"))
            assert first.wait_for(lambda it: has_everything(it, ("A01",)))
        feed(finished(tmp_path, "A02"))
        feed(finished(tmp_path, "B03"))
        with RecordingViewer(port) as second:
            assert second.wait_for(has_everything)
            assert feed.finish(30).missed == 0


def test_stopped_viewer_holds_nothing_up_and_is_named(tmp_path: Path) -> None:
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
        with NapariFeed(tmp_path, "plate", port=endpoint.port, tell=said.append) as feed:
            feed(started(tmp_path))
            feed(finished(tmp_path, "A01"))
            assert feed.finish(30).missed == 0
            os.kill(viewer.pid, signal.SIGSTOP)
            events = [finished(tmp_path, well) for well in ("A02", "B03")]
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


def test_port_of_another_program_is_left_alone(tmp_path: Path) -> None:
    import socket

    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        said: list[str] = []
        with NapariFeed(tmp_path, "plate", port=port, tell=said.append) as feed:
            feed(started(tmp_path))
            feed(finished(tmp_path, "A01"))
            report = feed.finish(60)
        assert report.missed == 3
        assert "goes on without napari" in " ".join(said)


def test_large_runs_are_sent_at_a_level_that_fits(tmp_path: Path) -> None:
    port = free_endpoint().port
    said: list[str] = []
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(tmp_path, "plate", port=port, tell=said.append, most_bytes=1) as feed,
    ):
        feed(started(tmp_path))
        feed(finished(tmp_path, "A01"))
        assert feed.finish(30).missed == 0
        sent = viewer.planes["stitched DAPI", ("A01",)]
        assert sent.shape[0] <= SHAPE[0]
