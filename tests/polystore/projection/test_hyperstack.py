"""Components in the C, Z and T of ImageJ."""

from __future__ import annotations

import io
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import Components, Kind, Payload, ProjectionError, Regions
from polystore.projection import (
    ComponentModes,
    Fit,
    Hyperstack,
    LayerUpdate,
    Projector,
    StackPosition,
)
from polystore.testing import FakeClock, StandInViewer

if TYPE_CHECKING:
    from collections.abc import Mapping

CZT = ComponentModes.hyperstack()
# component modes, components, and the position that ImageJ gives it: channel, slice, frame
WELL, FIELD, TIME = ("A01", "B03"), (0, 1), (0, 1, 2)
PLACES: list[tuple[dict[str, str], dict[str, Any], tuple[int, int, int]]] = [
    ({}, {"channel": 0, "z": 0, "t": 0, "well": "A01", "field": 0}, (1, 1, 1)),
    ({}, {"channel": 2, "z": 0, "t": 0, "well": "A01", "field": 0}, (3, 1, 1)),
    ({}, {"channel": 0, "z": 4, "t": 0, "well": "A01", "field": 0}, (1, 5, 1)),
    ({}, {"channel": 0, "z": 0, "t": 2, "well": "A01", "field": 0}, (1, 1, 3)),
    # wells slowest, then fields, then time points: ((1 * 2) + 1) * 3 + 2, from 0
    ({}, {"channel": 0, "z": 0, "t": 0, "well": "A01", "field": 1}, (1, 1, 4)),
    ({}, {"channel": 0, "z": 0, "t": 0, "well": "B03", "field": 0}, (1, 1, 7)),
    ({}, {"channel": 2, "z": 4, "t": 2, "well": "B03", "field": 1}, (3, 5, 12)),
    # a window for each well: fields and time points are left
    ({"well": "window"}, {"channel": 1, "z": 3, "t": 2, "well": "B03", "field": 1}, (2, 4, 6)),
    # fields as slices below z, in which z changes faster: 1 * 5 + 3, from 0
    ({"field": "slice"}, {"channel": 1, "z": 3, "t": 2, "well": "B03", "field": 1}, (2, 9, 6)),
    # wells and channels as channels, channels slower, as they come first: 2 * 2 + 1, from 0
    ({"well": "channel"}, {"channel": 2, "z": 0, "t": 0, "well": "B03", "field": 0}, (6, 1, 1)),
    # everything along Z, as a plain stack
    (
        dict.fromkeys(("channel", "well", "field", "t", "z"), "slice"),
        {"channel": 0, "z": 1, "t": 1, "well": "A01", "field": 0},
        (1, 7, 1),
    ),
]


def everything() -> list[dict[str, Any]]:
    return [
        {"channel": c, "well": well, "field": field, "t": t, "z": z}
        for c, well, field, t, z in product(range(3), WELL, FIELD, TIME, range(5))
    ]


def plane(where: Mapping[str, Any], value: int = 1, shape: tuple[int, int] = (2, 2)) -> Payload:
    return Payload(data=np.full(shape, value, np.uint16), components=Components.from_dict(where))


def projector(modes: ComponentModes = CZT, **options: Any) -> Projector:
    given: dict[str, Any] = {"fit": Fit.SPLIT, "shared_axes": False, "most_items": 10_000}
    return Projector(modes, FakeClock(), **(given | options))


@pytest.mark.req("002.15")
@pytest.mark.parametrize(("changes", "where", "expected"), PLACES)
def test_components_have_their_channel_slice_and_frame(
    changes: dict[str, str], where: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    source = projector(CZT.changed(changes))
    for each in everything():
        source.add(plane(each))
    for update in source.take():
        stack = Hyperstack.of(update)
        for placement in update.placements:
            if placement.payload.components == Components.from_dict(where):
                channel, at, frame = expected
                assert stack.position(placement.index) == StackPosition(
                    channel=channel, slice=at, frame=frame
                )
                c, z, t = channel - 1, at - 1, frame - 1
                assert stack.plane(placement.index) == (t * stack.slices + z) * stack.channels + c
                return
    pytest.fail("it is in no window")


@pytest.mark.req("002.15")
def test_planes_in_the_order_of_their_numbers_are_a_hyperstack_to_imagej() -> None:
    tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
    source = projector()
    rng = np.random.default_rng(0)
    sent = everything()
    rng.shuffle(sent)
    for number, where in enumerate(sent):
        source.add(plane(where, number))
    (update,) = source.take()
    stack = Hyperstack.of(update)
    assert (stack.channels, stack.slices, stack.frames, stack.planes) == (3, 5, 12, 180)
    planes = np.zeros((stack.planes, 2, 2), np.uint16)
    for placement in update.placements:
        planes[stack.plane(placement.index)] = placement.payload.array
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        planes.reshape(stack.frames, stack.slices, stack.channels, 2, 2),
        imagej=True,
        metadata={"axes": "TZCYX"},
    )
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        assert [tiff.imagej_metadata[each] for each in ("channels", "slices", "frames")] == [
            3,
            5,
            12,
        ]
        for number, where in enumerate(sent):
            frame = (WELL.index(where["well"]) * 2 + where["field"]) * 3 + where["t"]
            page = (frame * 5 + where["z"]) * 3 + where["channel"]
            assert tiff.pages[page].asarray()[0, 0] == number


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(
        st.tuples(
            st.sampled_from(["A2", "A10", "B1"]),
            st.integers(0, 1),
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        unique=True,
        min_size=1,
        max_size=25,
    ),
    most=st.integers(1, 6),
)
@pytest.mark.req("002.15")
def test_stack_that_grows_by_moving_planes_is_the_stack_of_all(
    places: list[tuple[str, int, int, int]], most: int
) -> None:
    sent = [
        plane({"well": well, "channel": channel, "z": z, "t": t}, number + 1)
        for number, (well, channel, z, t) in enumerate(places)
    ]
    source = projector(most_items=most)
    planes: list[int] = []
    stack: Hyperstack | None = None
    for number, payload in enumerate(sent):
        source.add(payload)
        if number % 3 and number < len(sent) - 1:
            continue
        while source.pending_items:
            (update,) = source.take()
            grown = Hyperstack.of(update)
            if stack is None or update.resize is not None:
                moved = [0] * grown.planes
                for before, after in [] if stack is None else stack.moved(grown):
                    moved[after] = planes[before]
                planes, stack = moved, grown
            for placement in update.placements:
                planes[stack.plane(placement.index)] = int(placement.payload.array[0, 0])
    whole = projector()
    for payload in sent:
        whole.add(payload)
    (update,) = whole.take()
    stack = Hyperstack.of(update)
    truth = [0] * stack.planes
    for placement in update.placements:
        truth[stack.plane(placement.index)] = int(placement.payload.array[0, 0])
    assert planes == truth
    for number in range(stack.planes):
        assert stack.plane(stack.index(number)) == number


@pytest.mark.req("002.15")
def test_planes_that_have_not_come_have_their_label() -> None:
    source = projector()
    source.expect({"well": ["A01", "B03"], "channel": [0, 1]}, Components(plate="one"))
    source.add(plane({"plate": "one", "well": "B03", "channel": 1, "z": 5}))
    (update,) = source.take()
    stack = Hyperstack.of(update)
    labels = [stack.label(stack.index(number)) for number in range(stack.planes)]
    assert labels == ["A01 c0 z5", "A01 c1 z5", "B03 c0 z5", "B03 c1 z5"]
    assert (update.filled, update.expected) == (1, 4)


@pytest.mark.req("002.15")
def test_steps_plates_and_other_sizes_have_windows_of_their_own() -> None:
    source = projector()
    for step, plate, side in (("a", "p", 2), ("b", "p", 2), ("a", "q", 2), ("a", "p", 3)):
        source.add(plane({"step": step, "plate": plate, "well": "A01"}, shape=(side, side)))
    updates = source.take()
    assert len(updates) == len({update.name for update in updates}) == 4
    assert [dict(update.key.window) for update in updates[:3]] == [
        {"plate": "p", "step": "a"},
        {"plate": "p", "step": "b"},
        {"plate": "q", "step": "a"},
    ]


def test_outlines_of_a_projection_are_on_all_slices() -> None:
    source = projector()
    outline = Regions.from_polygons([[[0, 0], [0, 1], [1, 1]]])
    source.add(
        Payload(data=outline, kind=Kind.REGIONS, components=Components(well="A01", channel=1))
    )
    (update,) = source.take()
    assert update.key.axes == ("well", "channel")
    assert [axis.at(0) for axis in update.axes] == [{"well": "A01"}, {}, {"channel": 1}]


def test_other_axes_are_no_hyperstack() -> None:
    source = projector(ComponentModes())
    source.add(plane({"well": "A01"}))
    with pytest.raises(ProjectionError, match="well, field, t, z"):
        Hyperstack.of(source.take()[0])


def test_one_projector_serves_sliders_and_hyperstacks_alike() -> None:
    """The same stream, seen as layers with sliders and as one stack: every plane is in both."""
    views: list[tuple[StandInViewer, Projector]] = [
        (StandInViewer(), projector(ComponentModes())),
        (StandInViewer(), projector()),
    ]
    updates: list[LayerUpdate] = []
    for viewer, source in views:
        for number, where in enumerate(everything()):
            source.add(plane(where, number))
        updates = source.take()
        viewer.show(updates)
    layers, stacks = views[0][0].arrays, views[1][0].arrays
    assert [array.shape for array in layers.values()] == [(2, 2, 3, 5, 2, 2)] * 3
    (stack,) = stacks.values()
    assert stack.shape == (12, 5, 3, 2, 2)
    for channel, array in enumerate(layers.values()):
        np.testing.assert_array_equal(array.reshape(12, 5, 2, 2), stack[:, :, channel])


def test_position_outside_an_axis_is_refused() -> None:
    source = projector()
    source.add(plane({"well": "A01"}))
    (update,) = source.take()
    with pytest.raises(IndexError, match="positions 0 to 0"):
        update.axes[0].at(1)
    with pytest.raises(IndexError, match="planes 0 to 0"):
        Hyperstack.of(update).index(1)
