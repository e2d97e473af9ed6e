from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import Components, Kind, Payload, ProjectionError, Regions
from polystore.projection import (
    ComponentModes,
    Debounce,
    LayerKey,
    LayerUpdate,
    Mode,
    Projector,
)
from polystore.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass
class Canvas:
    """A viewer reduced to arrays: it obeys updates and nothing else."""

    arrays: dict[LayerKey, NDArray[Any]] = field(default_factory=dict)
    last: dict[LayerKey, LayerUpdate] = field(default_factory=dict)

    def show(self, updates: Iterable[LayerUpdate]) -> None:
        for update in updates:
            self.last[update.key] = update
            if update.created:
                assert update.key not in self.arrays
                self.arrays[update.key] = np.zeros(update.shape, update.dtype)
            elif update.resize is not None:
                old = self.arrays[update.key]
                assert old.shape == update.resize.shape
                new = np.zeros(update.shape, update.dtype)
                corner = (slice(old.shape[-2]), slice(old.shape[-1]))
                view = new[(..., *corner)]
                view[np.ix_(*update.resize.places)] = old
                self.arrays[update.key] = new
            array = self.arrays[update.key]
            assert array.shape == update.shape
            for placement in update.placements:
                height, width = placement.payload.array.shape
                assert placement.padded == ((height, width) != update.shape[-2:])
                if placement.padded:
                    array[placement.index] = 0
                array[placement.index][:height, :width] = placement.payload.array


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


@settings(max_examples=150, deadline=None)
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
    canvas = Canvas()
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
    assert [update.name for update in projector.take()] == ["stitched DAPI", "stitched DAPI (two)"]


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


def test_unknown_components_and_layers_are_refused_by_name() -> None:
    projector, _ = new()
    with pytest.raises(ProjectionError, match="wel"):
        projector.expect({"wel": ["A01"]})
    key = LayerKey(kind=Kind.IMAGE, name="x", values=(), axes=())
    with pytest.raises(ProjectionError, match="image/x"):
        projector.missing(key)


@pytest.mark.req("002.2")
def test_time_grows_with_the_payloads_and_not_with_their_square() -> None:
    def seconds(count: int) -> float:
        payloads = [
            plane(1, (1, 1), well=f"{'ABCDEFGH'[n % 8]}{n // 8 % 12 + 1:02d}", field=n // 96)
            for n in range(count)
        ]
        best = float("inf")
        for _ in range(5):
            projector, _ = new()
            start = time.process_time()
            for payload in payloads:
                projector.add(payload)
            assert sum(len(update.placements) for update in drain(projector)) == count
            best = min(best, time.process_time() - start)
        return best

    assert seconds(8000) <= 64 * seconds(500)  # by the square: 256


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
