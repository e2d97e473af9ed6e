"""napari itself: layers on its model, and the service as a process with a window."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.viewers import NapariFeed, RunWells, WellStatus, napari_command
from openhcs.viewers.napari import LayerBook
from openhcs.viewers.napari._stack import PlaneStack
from polystore import Components, Kind, Payload
from polystore.projection import Axis, ComponentModes, Projector
from zmqruntime import Endpoint, ZMQClient, find_services
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.testing.viewers import ShownRun

# napari's own models still name things that pydantic deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::FutureWarning:napari"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:napari"),
]
READY_S = 90.0


@pytest.fixture
def viewer() -> Any:
    components = pytest.importorskip(
        "napari.components",
        reason="needs napari's system libraries (libfontconfig1, libgl1 and others)",
        exc_type=ImportError,
    )
    return components.ViewerModel()


def projector() -> Projector:
    return Projector(ComponentModes(), time.monotonic)


def image(
    well: str, value: int, *, side: int = 32, channel: int = 0, plate: str | None = None
) -> Payload:
    return Payload(
        data=np.full((side, side), value, np.uint16),
        components=Components(plate=plate, well=well, channel=channel),
        name="stitched",
        channel_name=("DAPI", "GFP")[channel],
        contrast_limits=(0.0, 1000.0),
        pixel_um=(0.65, 0.65),
    )


def show(book: LayerBook, source: Projector, *payloads: Payload) -> None:
    for payload in payloads:
        source.add(payload)
    for update in source.take():
        book.apply(update)


def test_channels_are_layers_and_wells_a_slider(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    source.expect({"well": ["A01", "A02", "B03"]})
    show(book, source, image("A02", 7), image("A02", 9, channel=1))
    assert [layer.name for layer in viewer.layers] == ["stitched DAPI", "stitched GFP"]
    data: NDArray[Any] = viewer.layers["stitched DAPI"].data
    assert data.shape[0] == 3
    assert data[1].max() == data[1].min() == 7
    assert not data[0].any()
    assert viewer.dims.axis_labels[0] == "well"
    assert viewer.dims.current_step[0] == 1  # begins where there is something
    assert tuple(viewer.layers[0].scale[-2:]) == (0.65, 0.65)


def test_what_the_user_set_stays(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1))
    layer = viewer.layers[0]
    layer.contrast_limits = (10, 20)
    layer.name = "mine"
    viewer.scene.camera.zoom = 3.5
    show(book, source, image("B02", 2), image("C03", 3, side=48))
    assert viewer.layers[0] is layer
    assert layer.name == "mine"
    assert tuple(layer.contrast_limits) == (10, 20)
    assert viewer.scene.camera.zoom == 3.5
    assert layer.data.shape[-2:] == (48, 48)
    assert layer.data[1, ..., :32, :32].max() == 2


def test_second_run_updates_the_same_layers(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1))
    show(book, source, image("A01", 5))
    assert len(viewer.layers) == 1
    assert viewer.layers[0].data.max() == 5


def test_what_a_run_makes_anew_is_empty_until_it_comes(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1), image("B01", 2))
    source.restart("second", Components(well="B01"))
    show(book, source)
    assert [int(plane.max()) for plane in viewer.layers[0].data] == [1, 0]


def test_layer_that_is_taken_away_is_gone_and_can_come_again(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1), image("A01", 2, channel=1))
    source.remove(source.layers[0])
    show(book, source)
    assert [layer.name for layer in viewer.layers] == ["stitched GFP"]
    show(book, source, image("A02", 3))
    assert [layer.name for layer in viewer.layers] == ["stitched GFP", "stitched DAPI"]
    assert viewer.layers[1].data.max() == 3


def test_wells_and_fields_can_share_a_slider(viewer: Any) -> None:
    modes = ComponentModes().changed({"well": "stack", "field": "stack"})
    book, source = LayerBook(viewer), Projector(modes, time.monotonic)
    for well, field in (("B01", 1), ("A01", 0), ("A01", 1)):
        there = Components(well=well, field=field)
        show(book, source, Payload(data=np.full((4, 4), field + 1, np.uint8), components=there))
    assert viewer.dims.axis_labels[-3] == "stack"
    assert [int(plane.max()) for plane in viewer.layers[0].data.reshape(4, 4, 4)] == [1, 2, 0, 2]


def test_fields_lie_beside_each_other_where_the_stage_took_them(viewer: Any) -> None:
    modes = ComponentModes().changed({"field": "place"})
    book, source = LayerBook(viewer, placed=True), Projector(modes, time.monotonic)

    def tile(field: int | None, y: float, x: float) -> Payload:
        return Payload(
            data=np.full((32, 32), 7, np.uint16),
            components=Components(well="A01", field=field, channel=0),
            name="stitched" if field is None else "fields",
            pixel_um=(0.5, 0.5),
            origin_um=(y, x),
        )

    show(book, source, tile(0, -16.0, -16.0), tile(1, -16.0, 0.0), tile(None, -16.0, -16.0))
    corners = {
        layer.name: tuple(layer.data_to_world((0,) * (layer.ndim - 2) + (-0.5, -0.5))[-2:])
        for layer in viewer.layers
    }
    assert sorted(corners.values()) == [(-16.0, -16.0), (-16.0, -16.0), (-16.0, 0.0)]
    assert viewer.layers.extent.world[1][-1] == pytest.approx(15.75)
    moved = viewer.layers[0]
    moved.translate = (0,) * (moved.ndim - 2) + (3.0, 4.0)
    show(book, source, tile(0, -16.0, -16.0), tile(1, -16.0, 0.0))
    assert tuple(moved.translate[-2:]) == (3.0, 4.0)  # what the user moved stays


def test_layer_that_the_user_removed_comes_back_with_the_next_image(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1))
    viewer.layers.clear()
    show(book, source, image("A01", 2))
    assert [layer.data.max() for layer in viewer.layers] == [2]


def test_another_plate_gets_layers_of_its_own(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1, plate="one"), image("A01", 2, plate="one", channel=1))
    show(book, source, image("A01", 7, plate="two"))
    names = [layer.name for layer in viewer.layers]
    assert names == ["stitched DAPI", "stitched GFP", "stitched DAPI (two)"]
    assert [int(layer.data.max()) for layer in viewer.layers] == [1, 2, 7]
    assert [layer.visible for layer in viewer.layers] == [False, False, True]
    assert viewer.layers[2].colormap.name == viewer.layers[0].colormap.name


def test_images_of_a_channel_share_its_colour_whatever_was_done_to_them(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    flat = replace(image("A01", 3), name="flat")
    show(book, source, image("A01", 1), image("A01", 2, channel=1), flat)
    colours = {layer.name: layer.colormap.name for layer in viewer.layers}
    assert colours["stitched DAPI"] == colours["flat DAPI"] != colours["stitched GFP"]


def test_chosen_plate_is_shown_as_the_user_left_it(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("A01", 1, plate="one"), image("A01", 2, plate="one", channel=1))
    viewer.layers[1].visible = False
    show(book, source, image("A01", 7, plate="two"))
    book.show_plate("one")
    assert [layer.visible for layer in viewer.layers] == [True, False, False]
    show(book, source, image("A01", 8, plate="two", channel=1))  # comes while it is not looked at
    assert [layer.visible for layer in viewer.layers] == [True, False, False, False]
    book.show_plate("two")
    assert [layer.visible for layer in viewer.layers] == [False, False, True, True]


def test_slider_stays_on_the_well_when_others_come_before_it(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    show(book, source, image("C03", 3), image("C03", 3, channel=1))
    show(book, source, image("A01", 1), image("B02", 2), image("A01", 1, channel=1))
    assert viewer.dims.current_step[0] == 2
    assert viewer.layers[0].data[viewer.dims.current_step[0]].max() == 3


def test_planes_of_different_sizes_move_only_what_has_come() -> None:
    stack, wells = PlaneStack(), tuple(f"{row}{column:02}" for row in "ABCD" for column in range(9))
    axes = (Axis("well", wells), Axis("z", ()))
    stack.fit(axes, (1000, 1000), np.dtype(np.uint16))
    stack.put((1, 0), np.full((1000, 1000), 5, np.uint16))
    whole = stack.array.base
    stack.fit(axes, (1003, 1001), np.dtype(np.uint16))
    assert stack.array.base is whole  # wells differ by some pixels: nothing is made anew
    assert stack.array.shape == (36, 1, 1003, 1001)
    stack.fit(
        (Axis("well", ("A00", *wells[1:], "Z09")), Axis("z", ())), (1500, 900), np.dtype("u4")
    )
    assert stack.array.shape == (37, 1, 1500, 900)
    assert stack.array[1, 0, 999, 899] == 5
    assert np.count_nonzero(stack.array) == 1000 * 900
    stack.put((1, 0), np.full((3, 3), 6, np.uint32))
    assert np.count_nonzero(stack.array) == 9


def test_labels_become_a_labels_layer(viewer: Any) -> None:
    book, source = LayerBook(viewer), projector()
    labels = Payload(
        data=np.eye(8, dtype=np.int32),
        components=Components(well="A01"),
        kind=Kind.LABELS,
        name="nuclei",
    )
    show(book, source, labels)
    assert type(viewer.layers["nuclei"]).__name__ == "Labels"


def test_dock_tells_plates_of_one_name_apart(request: pytest.FixtureRequest) -> None:
    pytest.importorskip(
        "PyQt6.QtWidgets", reason="needs Qt's system libraries", exc_type=ImportError
    )
    request.getfixturevalue("qapp")
    from openhcs.viewers.napari._runs_dock import RunsDock

    dock = RunsDock()
    for run, plate, state in [
        ("1", "p #a", "ok"),
        ("2", "p #b", "failed"),
        ("3", "p #b", "failed"),
    ]:
        wells = (WellStatus(well="A01", state=state),)
        assert dock.show(RunWells(run=run, plate=plate, title="p", wells=wells))
        assert not dock.show(RunWells(run=run, plate=plate, title="p", wells=wells))
    model = dock.widget.model()
    assert model is not None
    assert [model.index(row, 0).data() for row in range(3)] == ["p", "p #b", "p #b"]
    assert (dock.state_of("p #a", "A01"), dock.state_of("p #b", "A01")) == ("ok", "failed")
    assert dock.plate_of("3") == "p #b"


@pytest.fixture
def service(
    display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Start napari services with their own settings, on a screen; stop them at the end."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    settings = tmp_path / "napari.yaml"
    settings.write_text("schema_version: 0.9.0\napplication: {first_time: false}\n")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NAPARI_CONFIG", str(settings))
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    monkeypatch.setenv("DISPLAY", display)
    processes: list[subprocess.Popen[str]] = []

    def start(port: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(napari_command(port), text=True)
        processes.append(process)
        deadline = time.monotonic() + READY_S
        while not any(each.port == port and each.ready for each in find_services()):
            assert process.poll() is None, "napari ended before it was ready"
            assert time.monotonic() < deadline, "napari did not become ready"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def describe(port: int) -> dict[str, Any]:
    with ZMQClient(Endpoint("localhost", port), app="test") as client:
        client.connect(10)
        return dict(client.control.request("command", {"name": "describe"}, timeout=10))


@pytest.mark.display
def test_service_shows_a_run_and_serves_the_next_one(
    service: Callable[[int], subprocess.Popen[str]], shown_run: ShownRun
) -> None:
    port = free_endpoint().port
    process = service(port)
    for _ in range(2):
        with NapariFeed(shown_run.out, "plate", port=port, tell=print, stalled_s=READY_S) as feed:
            feed(shown_run.started())
            for well in shown_run.wells:
                feed(shown_run.finished(well))
            assert feed.finish(READY_S).missed == 0
    told = describe(port)
    assert told["layers"] == ["stitched DAPI", "stitched GFP", "nuclei"]
    assert told["counts"]["received"] == 18
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not find_services()


@pytest.mark.display
def test_killed_service_gets_everything_when_it_is_started_again(
    service: Callable[[int], subprocess.Popen[str]], shown_run: ShownRun
) -> None:
    port = free_endpoint().port
    first = service(port)
    with NapariFeed(shown_run.out, "plate", port=port, tell=print, stalled_s=READY_S) as feed:
        feed(shown_run.started())
        feed(shown_run.finished(shown_run.wells[0]))
        assert feed.finish(READY_S).missed == 0
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        for well in shown_run.wells[1:]:
            feed(shown_run.finished(well))
        service(port)
        assert feed.finish(READY_S).missed == 0
    assert describe(port)["counts"]["received"] == 9


@pytest.mark.display
def test_commands_list_and_stop_the_service(
    service: Callable[[int], subprocess.Popen[str]],
) -> None:
    port = free_endpoint().port
    process = service(port)
    openhcs = [sys.executable, "-m", "openhcs"]
    listed = subprocess.run(
        [*openhcs, "services", "--json"], capture_output=True, text=True, check=True
    )
    assert [(each["app"], each["port"]) for each in json.loads(listed.stdout)] == [("napari", port)]
    subprocess.run([*openhcs, "stop", str(port)], check=True)
    assert process.wait(30) == 0
