from __future__ import annotations

import dataclasses
import sys
import time
from itertools import permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import Components, Kind, Payload, ProjectionError, Regions
from polystore.projection import (
    ComponentModes,
    Debounce,
    Fit,
    LayerKey,
    LayerUpdate,
    Mode,
    Projector,
)
from polystore.testing import FakeClock, StandInViewer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def plane(value: int, shape: tuple[int, int] = (2, 3), **components: Any) -> Payload:
    return Payload(
        data=np.full(shape, value, np.uint16),
        components=Components(**components),
        kind=Kind.IMAGE,
        name="stitched",
    )


def drain(projector: Projector) -> list[LayerUpdate]:
    updates = projector.take()
    while projector.pending_items:
        updates += projector.take()
    return updates


def new(**options: Any) -> tuple[Projector, FakeClock]:
    clock = FakeClock()
    return Projector(ComponentModes(), clock, **options), clock


WELLS = ("A01", "A02", "A10", "B01", "AA01")


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(
        st.tuples(
            st.sampled_from(WELLS),
            st.sampled_from([0, 1, None]),
            st.integers(0, 2),
            st.integers(1, 3),
            st.integers(1, 3),
            st.integers(0, 3),
        ),
        max_size=40,
    ),
    expected=st.lists(st.sampled_from(WELLS), unique=True),
    every=st.integers(1, 7),
    most=st.integers(1, 5),
)
def test_what_is_shown_is_the_newest_of_every_place_whatever_the_order(
    sent: list[tuple[str, int | None, int, int, int, int]],
    expected: list[str],
    every: int,
    most: int,
) -> None:
    projector, _ = new(most_items=most)
    canvas = StandInViewer()
    model: dict[tuple[int, bool], dict[tuple[str, int | None], NDArray[Any]]] = {}
    for number, (well, at, channel, height, width, pause) in enumerate(sent):
        if number == len(sent) // 2:
            projector.expect({"well": expected})
        payload = plane(number + 1, (height, width), well=well, field=at, channel=channel)
        projector.add(payload)
        model.setdefault((channel, at is None), {})[well, at] = payload.array
        if number % every == pause:
            canvas.show(projector.take())
    canvas.show(drain(projector))

    assert len(canvas.arrays) == len(model)
    for key, array in canvas.arrays.items():
        values = dict(key.values)
        truth = model[int(values["channel"]), "field" not in key.axes]
        axes = canvas.last[key].axes
        assert [axis.name for axis in axes] == ["well", "field", "t", "z"]
        wells, fields = axes[0].values, axes[1].values or (None,)
        assert list(wells) == [well for well in WELLS if well in wells]
        # a layer does not shrink when its largest plane is replaced by a smaller one
        sides = array.shape[-2:]
        assert all(np.less_equal(each.shape, sides).all() for each in truth.values())
        for (i, row), (j, column) in product(enumerate(wells), enumerate(fields)):
            shown = array[i, j, 0, 0]
            wanted = np.zeros(sides, np.uint16)
            place = (str(row), None if column is None else int(column))
            if (plane_there := truth.get(place)) is not None:
                wanted[: plane_there.shape[0], : plane_there.shape[1]] = plane_there
            np.testing.assert_array_equal(shown, wanted)
        assert canvas.last[key].filled == len(truth)


@pytest.mark.req("002.14")
def test_steps_channels_kinds_and_names_are_layers_and_the_rest_are_axes() -> None:
    projector, _ = new()
    projector.add(plane(1, step="stitch", well="A01", channel=0))
    projector.add(plane(1, step="stitch", well="A01", channel=1))
    projector.add(plane(1, step="other", well="A01", channel=0))
    labels = dataclasses.replace(plane(1, step="stitch", well="A01", channel=0), kind=Kind.LABELS)
    projector.add(labels)
    projector.add(dataclasses.replace(labels, name="cells"))
    updates = projector.take()
    assert len({str(update.key) for update in updates}) == 5
    assert len({update.name for update in updates}) == 5
    assert all(len(update.axes) == 4 for update in updates)


def test_plates_are_layers_of_their_own_and_named_when_names_clash() -> None:
    projector = Projector(ComponentModes(), FakeClock())
    for plate in ("one", "two"):
        projector.add(
            Payload(
                data=np.zeros((2, 2), np.uint8),
                components=Components(plate=plate, well="A01"),
                name="stitched",
                channel_name="DAPI",
            )
        )
    assert [update.name for update in projector.take()] == [
        "stitched DAPI (one)",
        "stitched DAPI (two)",
    ]


def test_a_component_can_be_a_layer_instead_of_an_axis() -> None:
    modes = ComponentModes(well=Mode.LAYER, channel=Mode.AXIS)
    projector = Projector(modes, FakeClock())
    for well, channel in product(("A01", "B01"), (0, 1)):
        projector.add(plane(1, well=well, channel=channel))
    updates = projector.take()
    assert [dict(update.key.values)["well"] for update in updates] == ["A01", "B01"]
    assert [update.axes[0].name for update in updates] == ["channel", "channel"]
    assert [update.shape for update in updates] == [(2, 1, 1, 1, 2, 3)] * 2


def test_a_stitched_image_and_its_fields_are_two_layers() -> None:
    projector, _ = new()
    projector.add(plane(1, well="A01", field=0, channel=0))
    projector.add(plane(2, well="A01", channel=0))
    first, second = projector.take()
    assert (first.key.axes, second.key.axes) == (("well", "field"), ("well",))
    assert first.name != second.name


def test_announced_wells_make_room_from_the_start() -> None:
    projector, _ = new()
    projector.expect({"well": WELLS, "channel": [0, 1]})
    projector.add(plane(1, well="B01", channel=0))
    (update,) = projector.take()
    assert update.axes[0].values == WELLS
    assert update.placements[0].index == (3, 0, 0, 0)
    assert (update.filled, update.expected) == (1, 5)
    assert [components.well for components in projector.missing(update.key)] == [
        "A01",
        "A02",
        "A10",
        "AA01",
    ]
    projector.add(plane(1, well="A01", channel=0))
    (update,) = projector.take()
    assert update.resize is None


def test_wells_announced_later_move_what_is_shown() -> None:
    projector, _ = new()
    projector.add(plane(1, well="B01"))
    projector.take()
    assert projector.due() is None
    projector.expect({"well": ["A01"]})
    assert projector.due() is not None
    (update,) = projector.take()
    assert update.placements == ()
    assert update.resize is not None
    assert update.resize.places[0] == (1,)
    assert projector.due() is None


def test_stacks_are_taken_apart_into_planes() -> None:
    projector, _ = new()
    stack = Payload(
        data=np.arange(24, dtype=np.uint16).reshape(2, 3, 4), components=Components(well="A01")
    )
    projector.add(stack)
    (update,) = projector.take()
    assert update.shape == (1, 1, 1, 2, 3, 4)
    assert [placement.index[-1] for placement in update.placements] == [0, 1]
    assert np.shares_memory(update.placements[1].payload.array, stack.array)


def test_a_smaller_plane_is_padded_and_the_update_says_so() -> None:
    projector, _ = new()
    projector.add(plane(1, (4, 4), well="A01"))
    projector.add(plane(1, (2, 4), well="A02"))
    (update,) = projector.take()
    assert [placement.padded for placement in update.placements] == [False, True]
    assert update.notes == ("A02 is 2 x 4 px and is shown padded to 4 x 4",)


def test_a_wider_type_widens_the_layer() -> None:
    projector, _ = new()
    projector.add(plane(1, well="A01"))
    projector.take()
    projector.add(dataclasses.replace(plane(1, well="A02"), data=np.ones((2, 3), np.float32)))
    (update,) = projector.take()
    assert update.dtype == np.float32
    assert update.resize is not None


def test_contrast_is_that_of_the_producer_where_there_is_one() -> None:
    projector, _ = new()
    projector.add(plane(1, well="A01"))
    assert projector.take()[0].contrast_limits == (0, 65535)
    projector.add(dataclasses.replace(plane(1, well="A02"), contrast_limits=(10, 20)))
    projector.add(dataclasses.replace(plane(1, well="A03"), contrast_limits=(5, 15)))
    assert projector.take()[0].contrast_limits == (5, 20)


def test_other_kinds_come_with_their_place() -> None:
    projector, _ = new()
    for kind, data in (
        (Kind.POINTS, np.ones((3, 2))),
        (Kind.REGIONS, Regions.from_polygons([[[0, 0], [0, 1], [1, 1]]])),
        (Kind.TABLE, {"area": np.ones(3)}),
        (Kind.TEXT, "no cells"),
    ):
        projector.add(Payload(data=data, kind=kind, components=Components(well="A01")))
    updates = projector.take()
    assert [update.shape for update in updates] == [(1, 1, 1, 1)] * 4
    assert [update.dtype for update in updates] == [None] * 4


def test_updates_are_due_after_a_quiet_moment_and_never_later_than_the_longest_wait() -> None:
    projector, clock = new(quiet_s=1.0, longest_s=3.0)
    assert projector.due() is None
    projector.add(plane(1, well="A01"))
    assert projector.due() == clock() + 1.0
    first = clock()
    for _ in range(5):
        clock.advance(0.9)
        projector.add(plane(1, well="A01"))
    assert projector.due() == first + 3.0
    projector.take()
    assert projector.due() is None


def test_a_full_batch_is_due_at_once_and_the_rest_stays() -> None:
    projector, clock = new(most_items=2)
    for well in ("A01", "A02", "A03"):
        projector.add(plane(1, well=well))
    assert projector.due() == clock()
    assert len(projector.take()[0].placements) == 2
    assert projector.pending_items == 1
    assert projector.due() is not None
    assert len(projector.take()[0].placements) == 1


def test_a_batch_is_bounded_in_bytes_but_a_large_plane_goes_through() -> None:
    projector, _ = new(most_bytes=10)
    projector.add(plane(1, well="A01"))
    projector.add(plane(1, well="A02"))
    assert len(projector.take()[0].placements) == 1
    assert projector.pending_bytes == 12


def test_a_newer_plane_replaces_the_one_that_waits_and_hands_it_back() -> None:
    projector, _ = new()
    old = plane(1, well="A01")
    assert projector.add(old) == ()
    assert projector.add(plane(2, well="A01")) == (old,)
    assert projector.superseded == 1
    (update,) = projector.take()
    assert update.placements[0].payload.array[0, 0] == 2


def test_what_is_sent_twice_is_shown_once_and_not_handed_back() -> None:
    projector, _ = new()
    only = plane(1, well="A01")
    assert (projector.add(only), projector.add(only)) == ((), ())
    (update,) = projector.take()
    assert [placement.payload for placement in update.placements] == [only]


def test_layer_has_room_for_what_waits_from_its_first_batch_on() -> None:
    projector, _ = new(most_items=1)
    for well, side in (("B01", 4), ("A01", 8), ("C01", 2)):
        projector.add(plane(1, (side, side), well=well))
    updates = [projector.take() for _ in range(3)]
    assert [update.shape for (update,) in updates] == [(3, 1, 1, 1, 8, 8)] * 3
    assert all(update.resize is None for (update,) in updates)
    assert [update.placements[0].index[0] for (update,) in updates] == [1, 0, 2]


def test_late_well_moves_those_after_it_and_no_other_layer_than_it_has_to() -> None:
    projector = Projector(ComponentModes(), FakeClock(), shared_axes=False)
    projector.add(plane(1, well="B01", channel=0))
    projector.add(plane(2, well="B01", channel=1))
    viewer = StandInViewer()
    viewer.show(projector.take())
    projector.add(plane(3, well="A01", channel=0))
    (update,) = projector.take()
    assert update.resize is not None
    assert [list(place) for place in update.resize.places] == [[1], [0], [0], [0]]
    viewer.show([update])
    shown = viewer.arrays[update.key]
    assert [int(shown[at].max()) for at in range(2)] == [3, 1]


def test_empty_outlines_and_points_take_the_place_of_those_before() -> None:
    projector, viewer = new()[0], StandInViewer()
    where = Components(well="A01")
    square = Regions.from_polygons([[[0, 0], [0, 9], [9, 9], [9, 0]]])
    nothing = Regions.from_polygons([])
    for regions, points in ((square, np.ones((2, 2))), (nothing, np.ones((0, 2)))):
        for kind, data in ((Kind.REGIONS, regions), (Kind.POINTS, points)):
            projector.add(Payload(data=data, kind=kind, components=where, name="nuclei"))
        viewer.show(projector.take())
    shown = [payload for items in viewer.items.values() for payload in items.values()]
    assert [len(each.regions if each.kind is Kind.REGIONS else each.array) for each in shown] == [
        0,
        0,
    ]


def test_a_well_that_is_cleared_is_empty_and_missing_and_its_layer_stays() -> None:
    projector, clock = new()
    viewer = StandInViewer()
    for well in ("A01", "B01"):
        projector.add(plane(5, well=well, channel=0))
        projector.add(
            Payload(data="seen", kind=Kind.TEXT, components=Components(well=well), name="note")
        )
    viewer.show(projector.take())
    waiting = plane(6, well="B01", channel=0)
    projector.add(waiting)
    assert projector.clear(Components(well="B01")) == (waiting,)
    assert projector.due() == clock() + 0.05
    viewer.show(projector.take())
    image, text = viewer.last
    assert [int(viewer.arrays[image][at].max()) for at in range(2)] == [5, 0]
    assert list(viewer.items[text]) == [(0, 0, 0, 0)]
    assert [each.well for each in projector.missing(image)] == ["B01"]
    projector.add(plane(7, well="B01", channel=0))
    viewer.show(projector.take())
    assert int(viewer.arrays[image][1].max()) == 7


def test_run_that_begins_anew_is_not_mixed_with_what_still_comes_of_the_last_one() -> None:
    projector, _ = new()
    viewer = StandInViewer()

    def of_run(run: str, value: int, well: str) -> Payload:
        return dataclasses.replace(plane(value, well=well), run=run)

    for well in ("A01", "B01"):
        projector.add(of_run("one", 1, well))
    viewer.show(projector.take())
    projector.restart("two")
    late = of_run("one", 1, "A01")
    assert projector.add(late) == (late,)
    assert projector.late == 1
    projector.add(of_run("two", 2, "B01"))
    viewer.show(projector.take())
    (key,) = viewer.last
    assert [int(viewer.arrays[key][at].max()) for at in range(2)] == [0, 2]
    assert (viewer.last[key].run, viewer.last[key].earlier) == ("two", 0)


def test_next_run_takes_the_places_of_the_last_one_by_one_and_says_how_many_are_left() -> None:
    projector, _ = new()
    for run, well in (("one", "A01"), ("one", "B01"), ("two", "A01")):
        projector.add(dataclasses.replace(plane(1, well=well), run=run))
        (update,) = projector.take()
    assert (update.run, update.filled, update.earlier) == ("two", 2, 1)
    late = dataclasses.replace(plane(1, well="A01"), run="one")
    assert projector.add(late) == (late,)  # of what is newer, nothing is replaced
    assert projector.add(dataclasses.replace(late, components=Components(well="C01"))) == ()


def test_layer_is_taken_away_and_made_anew_when_something_comes() -> None:
    projector, _ = new()
    viewer = StandInViewer()
    for channel in (0, 1):
        projector.add(plane(channel + 1, well="A01", channel=channel))
    viewer.show(projector.take())
    first, second = viewer.last
    waiting = plane(9, well="B01", channel=0)
    projector.add(waiting)
    assert projector.remove(first) == (waiting,)
    viewer.show(projector.take())
    assert list(viewer.last) == [second]
    projector.add(plane(3, well="A01", channel=0))
    viewer.show(projector.take())
    assert viewer.last[first].created
    assert viewer.last[first].filled == 1


def test_layer_that_a_user_closed_is_forgotten_without_a_word() -> None:
    projector, _ = new()
    projector.add(plane(1, well="A01"))
    (update,) = projector.take()
    assert projector.forget(update.key) == ()
    assert (projector.layers, projector.due(), projector.take()) == ((), None, [])
    with pytest.raises(ProjectionError, match="no layer"):
        projector.forget(update.key)


def test_layer_that_stays_gets_its_short_name_back() -> None:
    projector, _ = new()
    viewer = StandInViewer()
    for name in ("one", "two"):
        projector.add(plane(1, plate=name, well="A01"))
        viewer.show(projector.take())
    assert [update.name for update in viewer.last.values()] == ["stitched (one)", "stitched (two)"]
    projector.remove(viewer.named("stitched (one)"))
    viewer.show(projector.take())
    assert [update.name for update in viewer.last.values()] == ["stitched"]
    with pytest.raises(ProjectionError, match="there are stitched"):
        viewer.named("stitched (one)")


def test_planes_of_other_sizes_types_and_pixels_are_split_where_nothing_may_be_padded() -> None:
    projector, _ = new(fit=Fit.SPLIT)
    projector.add(plane(1, (4, 4), well="A01"))
    projector.add(plane(1, (2, 4), well="A02"))
    projector.add(dataclasses.replace(plane(1, (4, 4), well="A03"), pixel_um=(0.5, 0.5)))
    projector.add(dataclasses.replace(plane(1, well="A04"), data=np.zeros((4, 4), ">f4")))
    projector.add(dataclasses.replace(plane(1, well="A05"), data=np.zeros((4, 4), "<f4")))
    updates = projector.take()
    assert [update.key.form for update in updates] == [
        "4 x 4 uint16",
        "2 x 4 uint16",
        "4 x 4 uint16 0.5 x 0.5 µm",
        "4 x 4 float32",
    ]
    assert [update.name for update in updates][:2] == [
        "stitched (4 x 4 uint16)",
        "stitched (2 x 4 uint16)",
    ]
    assert not any(update.notes for update in updates)
    assert [len(update.placements) for update in updates] == [1, 1, 1, 2]


def test_finest_pixel_and_uppermost_corner_hold_for_a_layer_and_others_are_named() -> None:
    projector, _ = new()
    for well, pixel_um, origin_um in (
        ("A01", (0.65, 0.65), (-10.0, 5.0)),
        ("A02", (0.325, 0.325), (-9.0, 4.0)),
        ("A03", None, None),
    ):
        projector.add(
            dataclasses.replace(plane(1, well=well), pixel_um=pixel_um, origin_um=origin_um)
        )
    (update,) = projector.take()
    assert update.pixel_um == (0.325, 0.325)
    assert update.origin_um == (-10.0, 4.0)
    assert update.notes == ("A01 has pixels of (0.65, 0.65) µm and is shown with (0.325, 0.325)",)


def test_fields_in_their_places_are_layers_with_a_corner_each() -> None:
    projector = Projector(ComponentModes(field=Mode.PLACE), FakeClock())
    for field in (0, 1):
        projector.add(
            dataclasses.replace(plane(1, well="A01", field=field), origin_um=(0.0, 100.0 * field))
        )
    updates = projector.take()
    assert [update.name for update in updates] == ["stitched f0", "stitched f1"]
    assert [update.origin_um for update in updates] == [(0.0, 0.0), (0.0, 100.0)]
    projector.add(dataclasses.replace(plane(1, well="A02", field=1), origin_um=(0.0, 103.0)))
    moved = {update.name: update.notes for update in projector.take()}
    assert moved["stitched f1"] == (
        "A02 f1 begins at (0.0, 103.0) µm and is shown at (0.0, 100.0)",
    )


def test_channel_that_is_called_otherwise_in_some_wells_is_named_once_and_noted() -> None:
    projector, _ = new()
    for well, channel_name in (("A01", "GFP"), ("A02", "FITC")):
        projector.add(
            dataclasses.replace(plane(1, well=well, channel=1), channel_name=channel_name)
        )
    (update,) = projector.take()
    assert (update.name, update.channel_name) == ("stitched FITC", "FITC")
    assert update.notes == ("A01 c1 is of channel GFP and is shown as FITC",)


def test_three_types_widen_to_one_whatever_the_order() -> None:
    found = set()
    for order in permutations([np.int16, np.uint16, np.float16]):
        projector, _ = new()
        for number, dtype in enumerate(order):
            payload = plane(1, well=f"A{number + 1:02}")
            projector.add(dataclasses.replace(payload, data=np.ones((2, 3), dtype)))
        found.add(projector.take()[0].dtype)
    assert len(found) == 1


def test_announcements_hold_for_the_windows_they_are_about() -> None:
    projector = Projector(ComponentModes.hyperstack(), FakeClock(), shared_axes=False)
    projector.expect({"well": ["A01", "A02"]}, Components(plate="one"))
    for name in ("one", "two"):
        projector.add(plane(1, plate=name, well="A02"))
    first, second = projector.take()
    assert (first.expected, second.expected) == (2, 1)
    projector.expect({"well": ["A03"]}, Components(plate="two"))
    (update,) = projector.take()
    assert (update.key, update.expected) == (second.key, 2)


def test_modes_are_read_from_a_configuration_by_name() -> None:
    modes = ComponentModes.hyperstack().changed({"well": "window", "t": "stack"})
    assert (modes.well, modes.t, modes.field) == (Mode.WINDOW, Mode.STACK, Mode.FRAME)
    with pytest.raises(ProjectionError, match="'wel'"):
        ComponentModes().changed({"wel": "axis"})
    with pytest.raises(ProjectionError, match="'slider'; it can be one of axis, "):
        ComponentModes().changed({"well": "slider"})
    with pytest.raises(ProjectionError, match="give channel the mode 'channel'"):
        ComponentModes(channel=Mode.AXIS, step=Mode.CHANNEL)


def test_windows_are_told_by_the_components_that_are_windows() -> None:
    modes = ComponentModes().changed({"plate": "window"})
    projector = Projector(modes, FakeClock())
    for channel in (0, 1):
        projector.add(plane(1, plate="one", well="A01", channel=channel))
    keys = [update.key for update in projector.take()]
    assert [key.window for key in keys] == [(("plate", "one"),)] * 2
    assert [dict(key.values)["channel"] for key in keys] == [0, 1]


def test_unknown_components_and_layers_are_refused_by_name() -> None:
    projector, _ = new()
    with pytest.raises(ProjectionError, match="wel"):
        projector.expect({"wel": ["A01"]})
    key = LayerKey(kind=Kind.IMAGE, name="x", values=(), axes=())
    with pytest.raises(ProjectionError, match="image/x"):
        projector.missing(key)


def fill(projector: Projector, payloads: list[Payload], every: int) -> int:
    """Add payloads, take a batch now and then and what is left at the end; count placements."""
    shown = 0
    for number, payload in enumerate(payloads):
        projector.add(payload)
        if number % every == 0:
            shown += sum(len(update.placements) for update in projector.take())
    return shown + sum(len(update.placements) for update in drain(projector))


def plate(count: int) -> list[Payload]:
    return [
        plane(1, (1, 1), well=f"{'ABCDEFGH'[n % 8]}{n // 8 % 12 + 1:02d}", field=n // 96)
        for n in range(count)
    ]


@pytest.mark.req("002.2")
def test_time_grows_with_the_payloads_and_not_with_their_square() -> None:
    def seconds(count: int) -> float:
        payloads, best = plate(count), float("inf")
        for _ in range(3):
            projector, _ = new()
            start = time.process_time()
            assert fill(projector, payloads, count) == count
            best = min(best, time.process_time() - start)
        return best

    assert seconds(4000) <= 64 * seconds(250)  # by the square: 256


@pytest.mark.req("002.2")
@pytest.mark.parametrize("every", [5, 10_000])
@pytest.mark.parametrize("modes", [ComponentModes(), ComponentModes.hyperstack()])
def test_steps_grow_with_the_payloads_whenever_batches_are_taken(
    every: int, modes: ComponentModes
) -> None:
    def steps(count: int) -> int:
        payloads, called = plate(count), 0
        projector = Projector(modes, FakeClock())
        projector.expect({"well": [each.components.well or "" for each in payloads[:96]]})

        def count_call(_frame: object, event: str, _arg: object) -> None:
            nonlocal called
            called += event in {"call", "c_call"}

        sys.setprofile(count_call)
        try:
            fill(projector, payloads, every)
        finally:
            sys.setprofile(None)
        return called

    assert steps(2000) <= 5 * steps(500)


@given(
    gaps=st.lists(st.floats(0, 10), min_size=1, max_size=30),
    quiet=st.floats(0.1, 5),
    longest=st.floats(0.1, 20),
)
def test_the_deadline_is_the_earlier_of_quiet_and_longest(
    gaps: list[float], quiet: float, longest: float
) -> None:
    debounce = Debounce(quiet, longest)
    now = 0.0
    times = []
    for gap in gaps:
        now += gap
        debounce.arrived(now)
        times.append(now)
    assert debounce.deadline == min(times[-1] + quiet, times[0] + longest)
    debounce.taken()
    assert debounce.deadline is None
