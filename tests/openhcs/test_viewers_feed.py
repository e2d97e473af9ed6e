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

from openhcs.pipeline import Outcome, WellFinished, WellImage, WellStarted
from openhcs.testing.viewers import RecordingViewer, ShownRun
from openhcs.viewers import NapariFeed
from openhcs.viewers._pictures import PictureReader, level_for, narrowed, pictures_of
from openhcs.viewers._sink import send
from polystore import Kind, Payload
from polystore.omezarr import ChannelMeta, ImageMeta, ImageWriter, PlateLayout, create_plate
from zmqruntime import Endpoint, Publisher, ZMQClient
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zmqruntime import Ack

SHAPES = {"one": (300, 260), "two": (200, 210)}


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


def finished_well(
    shape: tuple[int, ...],
    *,
    name: str = "stitched",
    field: int | None = None,
    labels: tuple[str, ...] = (),
) -> WellFinished:
    image = WellImage(
        name=name,
        path=f"A/1/{name}",
        field=field,
        axes=("t", "channel", "z", "y", "x"),
        shape=shape,
        dtype="uint16",
        channels=("DAPI", "GFP", "RFP")[: shape[1]],
        labels=labels,
        pixel_um=None,
    )
    return WellFinished(well="A01", outcome=Outcome.OK, seconds=1, reused=False, images=(image,))


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


def test_hung_viewer_is_not_waited_for_at_the_end(shown_run: ShownRun) -> None:
    """It is given up once it took nothing for a while, long before the last moment."""
    port = free_endpoint().port
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(shown_run.out, "plate", port=port, tell=print, stalled_s=0.5) as feed,
    ):
        feed(shown_run.started())
        feed(shown_run.finished("A01"))
        assert viewer.wait_for(lambda it: has_everything(it, ("A01",)))
        with viewer.held():
            feed(shown_run.finished("A02"))
            assert feed.finish(600).missed >= 3
        assert viewer.wait_for(lambda it: has_everything(it, ("A01", "A02")))


def test_plates_of_one_name_are_told_apart(tmp_path: Path) -> None:
    port = free_endpoint().port
    runs = [ShownRun(tmp_path / name, shape=shape) for name, shape in SHAPES.items()]
    with RecordingViewer(port) as viewer:
        for run in [*runs, runs[0]]:  # the first plate once more: into the same layers
            run.out.mkdir(exist_ok=True)
            with NapariFeed(run.out, "plate", source=run.out, port=port, tell=print) as feed:
                feed(run.started())
                feed(run.finished("A01"))
                assert feed.finish(30).missed == 0
        layers = {name for name, _ in viewer.planes if "DAPI" in name}
        shapes = {viewer.planes[name, ("A01",)].shape for name in layers}
    assert len(layers) == 2
    assert shapes == set(SHAPES.values())


def test_level_lets_all_wells_and_planes_fit() -> None:
    """384 wells x 3 channels of 2000 x 2000 and labels: 10 GiB at full size."""
    event = finished_well((1, 3, 1, 2000, 2000), labels=("nuclei",))
    assert level_for(event, 384, 16 << 30) == 0
    assert level_for(event, 384, 2 << 30) == 2
    assert level_for(finished_well((5, 3, 7, 2000, 2000)), 1, 1 << 30) == 0
    assert level_for(finished_well((50, 3, 7, 2000, 2000)), 1, 1 << 30) == 2


@pytest.mark.parametrize(
    ("most", "expected"), [(0, "uint8"), (255, "uint8"), (256, "uint16"), (70_000, "uint32")]
)
def test_labels_take_the_smallest_type(most: int, expected: str) -> None:
    labels = np.array([[0, most]], np.int32)
    assert narrowed(labels).dtype == expected
    np.testing.assert_array_equal(narrowed(labels), labels)


def test_fields_are_places_in_one_layer(shown_run: ShownRun) -> None:
    event = finished_well((1, 1, 1, 8, 8), name="max3", field=3)
    reader = PictureReader(shown_run.out / "plate.zarr", "plate")
    meta = ImageMeta(channels=(ChannelMeta("DAPI"),))
    layout = PlateLayout.regular("p", rows=8, columns=12, wells=["A01"], images=["max3"])
    create_plate(reader.path, layout)
    with ImageWriter(reader.path, "A01", "max3", (1, 8, 8), np.uint16, meta) as image:
        image.write_plane(np.ones((8, 8), np.uint16), c=0)
        image.commit()
    (picture,) = pictures_of(event)
    payload = reader.read(picture, 0, "run")
    assert (payload.name, payload.components.field) == ("max", 3)
    assert payload.components.label() == "plate A01 f3 c0"


def test_kinds_that_are_not_shown_are_refused() -> None:
    endpoint = Endpoint("localhost", free_endpoint().port)
    told: dict[str, Ack] = {}
    heard = threading.Event()

    def hear(key: str, ack: Ack) -> None:
        told[key] = ack
        if len(told) == 3:
            heard.set()

    payloads = {
        "table": Payload(data={"area": np.arange(3.0)}, kind=Kind.TABLE),
        "text": Payload(data="words", kind=Kind.TEXT),
        "points": Payload(data=np.zeros((4, 2), np.float32), kind=Kind.POINTS),
    }
    with RecordingViewer(endpoint.port) as viewer, ZMQClient(endpoint, app="test") as client:
        client.connect(10)
        with Publisher(client, "payloads") as publisher:
            publisher.on_ack(hear)
            for key, payload in payloads.items():
                send(publisher, payload, key=key, timeout=10)
            assert heard.wait(10)
        assert not viewer.planes
    assert {(ack.code, str(ack.status)) for ack in told.values()} == {("kind", "failed")}
    assert "not table" in told["table"].text


def test_large_runs_are_sent_at_a_level_that_fits(shown_run: ShownRun) -> None:
    port = free_endpoint().port
    said: list[str] = []
    with (
        RecordingViewer(port) as viewer,
        NapariFeed(shown_run.out, "plate", port=port, tell=said.append, most_bytes=30_000) as feed,
    ):
        feed(shown_run.started())
        feed(shown_run.finished("A01"))
        assert feed.finish(30).missed == 0
    ((name, sent),) = [
        (name, plane) for (name, _), plane in viewer.planes.items() if name.endswith("DAPI")
    ]
    assert name.startswith("stitched 1:")  # whole pixels of another run are never drawn among these
    assert sent.shape[0] < shown_run.shape[0]
    assert "pixel" in " ".join(said)
