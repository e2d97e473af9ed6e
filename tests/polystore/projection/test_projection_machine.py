"""Projection against a model that is dictionaries and nothing else."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polystore import Components, Kind, Payload, Regions
from polystore.projection import ComponentModes, Fit, LayerKey, LayerUpdate, Mode, Projector
from polystore.testing import FakeClock, StandInViewer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polystore import ComponentValue

NAPARI = ComponentModes()
MODES = {
    "napari": (NAPARI, Fit.PAD, True),
    "hyperstack": (ComponentModes.hyperstack(), Fit.SPLIT, False),
    "hyperstack, padded": (ComponentModes.hyperstack(), Fit.PAD, False),
    "one stack": (NAPARI.changed(dict.fromkeys(("well", "field", "t"), "stack")), Fit.PAD, True),
    "a window per well": (
        ComponentModes.hyperstack().changed({"well": "window", "z": "axis"}),
        Fit.SPLIT,
        True,
    ),
    "fields in their places": (NAPARI.changed({"field": "place"}), Fit.PAD, True),
}
ORDER = ("plate", "step", "channel", "well", "field", "t", "z")
ARRAYS = (Kind.IMAGE, Kind.LABELS)
RUNS = (None, "one", "two", "three")


def data(kind: Kind, value: int, shape: tuple[int, int], dtype: str) -> Any:
    if kind in ARRAYS:
        return np.full(shape, value, dtype)
    if kind is Kind.POINTS:
        return np.full((value % 3, 2), value, np.float32)
    if kind is Kind.REGIONS:
        return Regions.from_polygons([[[0, 0], [0, 1], [value, 1]]] * (value % 3))
    if kind is Kind.TABLE:
        return {"area": np.full(2, value)}
    return str(value)


@st.composite
def planes(draw: st.DrawFn, runs: tuple[str | None, ...] = RUNS) -> Payload:
    kind = draw(st.sampled_from([Kind.IMAGE, Kind.IMAGE, *Kind]))
    dtype = draw(st.sampled_from(("u1", ">u2", "i2") if kind is Kind.LABELS else ("u1", "<u2")))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    limits = st.sampled_from([None, (0.0, 9.0), (2.0, 20.0)])
    channel = draw(st.sampled_from([None, 0, 1]))
    few = st.sampled_from([None, 0, 1])
    return Payload(
        data=data(kind, draw(st.integers(1, 99)), shape, dtype),
        components=Components(
            plate=draw(st.sampled_from([None, "P1", "P2"])),
            step=draw(st.sampled_from([None, "stitch"])),
            well=draw(st.sampled_from([None, "B10", "A2", "A10", "AA1"])),
            field=draw(few),
            channel=channel,
            z=draw(few),
            t=draw(st.sampled_from([None, 0, 7])),
        ),
        kind=kind,
        name=draw(st.sampled_from(["", "cells"])),
        pixel_um=draw(st.sampled_from([None, (0.5, 0.5), (0.25, 1.0)])),
        origin_um=draw(st.sampled_from([None, (0.0, -3.0), (-9.0, 5.0)])),
        channel_name=None if channel is None else draw(st.sampled_from([None, "DAPI", "GFP"])),
        contrast_limits=draw(limits) if kind in ARRAYS else None,
        run=draw(st.sampled_from(runs)),
    )


def key_of(plane: Payload, modes: ComponentModes, fit: Fit) -> LayerKey:
    there = plane.components.to_dict()
    values = [(name, there[name]) for name in ORDER if name in there]
    own = [(name, value) for name, value in values if getattr(modes, name) in LAYERED]
    axes = tuple(name for name in on_axes(modes) if name in there)
    form = ""
    if fit is Fit.SPLIT and plane.kind in ARRAYS:
        height, width = plane.array.shape
        form = f"{height} x {width} {plane.array.dtype.newbyteorder('=')}"
        if plane.pixel_um is not None:
            form += f" {plane.pixel_um[0]:g} x {plane.pixel_um[1]:g} µm"
    return LayerKey(
        kind=plane.kind,
        name=plane.name,
        values=tuple(own),
        axes=axes,
        window=tuple(pair for pair in own if getattr(modes, pair[0]) is Mode.WINDOW),
        form=form,
    )


LAYERED = (Mode.LAYER, Mode.WINDOW, Mode.PLACE)
SHARED = (Mode.STACK, Mode.FRAME, Mode.SLICE, Mode.CHANNEL)


def on_axes(modes: ComponentModes) -> list[str]:
    """Components on axes, in the order of the axes."""
    return [name for mode in (Mode.AXIS, *SHARED) for name in ORDER if getattr(modes, name) is mode]


def agrees(plane: Payload, where: Mapping[str, ComponentValue]) -> bool:
    there = plane.components.to_dict()
    return all(there.get(name) == value for name, value in where.items())


Place = tuple[LayerKey, tuple[tuple[str, "ComponentValue"], ...]]


class Model:
    """What waits and what is shown, place by place; a place is a layer and all components."""

    def __init__(self, modes: ComponentModes, fit: Fit, *, shared: bool) -> None:
        self.modes, self.fit, self.shared = modes, fit, shared
        self.waiting: dict[Place, Payload] = {}
        self.shown: dict[LayerKey, dict[Place, Payload]] = {}
        self.values: dict[tuple[LayerKey | None, str], set[ComponentValue]] = {}
        self.runs: dict[str, int] = {}
        self.newest = 0
        self.ended: list[tuple[dict[str, ComponentValue], int]] = []
        self.shown_by: dict[Place, int] = {}
        self.newest_of: dict[LayerKey, int] = {}
        self.names: list[str | None] = [None]

    def number(self, run: str | None) -> int:
        if run is None:
            return self.newest
        if run not in self.runs:
            self.begin(run)
        return self.runs[run]

    def begin(self, run: str) -> None:
        self.newest += 1
        self.runs[run] = self.newest
        self.names.append(run)

    def place(self, plane: Payload) -> Place:
        return key_of(plane, self.modes, self.fit), tuple(plane.components.to_dict().items())

    def add(self, plane: Payload) -> Payload | None:
        place, number = self.place(plane), self.number(plane.run)
        waiting = self.waiting.get(place)
        if (
            any(number < floor and agrees(plane, where) for where, floor in self.ended)
            or number < self.shown_by.get(place, 0)
            or (waiting is not None and number < self.number(waiting.run))
        ):
            return plane
        self.waiting[place] = plane
        for name in place[0].axes:
            axis = (None if self.shared else place[0], name)
            value = plane.components.get(name)
            assert value is not None
            self.values.setdefault(axis, set()).add(value)
        return None if waiting is plane else waiting  # sent twice, and it will be shown

    def take(self, most: int) -> list[Payload]:
        taken = list(self.waiting.items())[:most]
        for place, plane in taken:
            del self.waiting[place]
            self.shown.setdefault(place[0], {})[place] = plane
            number = self.shown_by[place] = self.number(plane.run)
            self.newest_of[place[0]] = max(number, self.newest_of.get(place[0], 0))
        return [plane for _, plane in taken]

    def clear(self, where: dict[str, ComponentValue]) -> int:
        for there in self.shown.values():
            for place in [place for place, plane in there.items() if agrees(plane, where)]:
                del there[place], self.shown_by[place]
        return self.drop([p for p, plane in self.waiting.items() if agrees(plane, where)])

    def forget(self, key: LayerKey) -> int:
        for place in self.shown.pop(key):
            del self.shown_by[place]
        del self.newest_of[key]
        for axis in [axis for axis in self.values if axis[0] == key]:
            del self.values[axis]
        return self.drop([place for place in self.waiting if place[0] == key])

    def drop(self, places: list[Place]) -> int:
        return len([self.waiting.pop(place) for place in places])


class ProjectionMachine(RuleBasedStateMachine):
    """A projector, a viewer that obeys it, and the model."""

    @initialize(
        name=st.sampled_from(sorted(MODES)), most=st.integers(1, 9), quiet=st.sampled_from([1, 2])
    )
    def start(self, name: str, most: int, quiet: int) -> None:
        modes, fit, shared = MODES[name]
        self.clock = FakeClock()
        self.quiet, self.longest, self.most = float(quiet), 5.0, most
        self.projector = Projector(
            modes,
            self.clock,
            fit=fit,
            shared_axes=shared,
            quiet_s=self.quiet,
            longest_s=self.longest,
            most_items=most,
        )
        self.viewer = StandInViewer()
        self.model = Model(modes, fit, shared=shared)
        self.came: dict[Place, float] = {}  # when what waits there came first
        self.sent: list[Payload] = []
        self.late = self.superseded = 0

    @rule(plane=planes())
    def add(self, plane: Payload) -> None:
        self.sent.append(plane)
        gone = self.model.add(plane)
        self.late += gone is plane
        self.superseded += gone is not None and gone is not plane
        assert [id(each) for each in self.projector.add(plane)] == [id(gone)] * (gone is not None)

    @rule(number=st.integers(0, 99))
    def send_again(self, number: int) -> None:
        if self.sent:
            self.add(self.sent[number % len(self.sent)])

    @rule(plane=planes(runs=(None,)), count=st.integers(1, 3))
    def add_stack(self, plane: Payload, count: int) -> None:
        if plane.kind not in ARRAYS or plane.components.z is not None:
            return
        stack = dataclasses.replace(
            plane, data=np.stack([plane.array + at for at in range(count)]), axes=("z", "y", "x")
        )
        gone = [
            self.model.add(
                dataclasses.replace(
                    plane,
                    data=stack.array[at],
                    components=dataclasses.replace(plane.components, z=at),
                )
            )
            for at in range(count)
        ]
        expected = sum(each is not None for each in gone)
        self.superseded += expected
        assert len(self.projector.add(stack)) == expected

    @rule(wells=st.lists(st.sampled_from(["A2", "C3", "B10"]), max_size=2), channel=st.booleans())
    def expect(self, wells: list[str], channel: bool) -> None:  # a rule
        extents: dict[str, list[Any]] = {"well": wells, **({"channel": [1]} if channel else {})}
        self.projector.expect(extents)

    @rule(seconds=st.sampled_from([0.1, 0.9, 1.5, 4.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def take(self) -> None:
        updates = self.projector.take()
        taken = self.model.take(self.most)
        shown = [each for update in updates for each in update.placements]
        assert len(shown) == len(taken) <= self.most
        assert len({str(update.key) for update in updates if not update.removed}) == sum(
            not update.removed for update in updates
        )
        self.viewer.show(updates)
        assert self.model.waiting or self.projector.due() is None
        self.compare(updates)

    @rule(where=st.sampled_from([{}, {"well": "A10"}, {"plate": "P1"}, {"step": "none"}]))
    def clear(self, where: dict[str, ComponentValue]) -> None:
        gone = self.projector.clear(Components.from_dict(where))
        assert len(gone) == self.model.clear(where)

    @rule(run=st.sampled_from(RUNS[1:]), where=st.sampled_from([{}, {"plate": "P1"}]))
    def restart(self, run: str, where: dict[str, ComponentValue]) -> None:
        self.model.begin(run)
        self.model.ended.append((where, self.model.newest))
        gone = self.projector.restart(run, Components.from_dict(where))
        assert len(gone) == self.model.clear(where)

    @rule(number=st.integers(0, 99), tell=st.booleans())
    def close(self, number: int, tell: bool) -> None:  # a rule
        if not self.model.shown:
            return
        key = list(self.model.shown)[number % len(self.model.shown)]
        if tell:
            gone = self.projector.remove(key)
        else:
            gone = self.projector.forget(key)
            self.viewer.forget(key)
        assert len(gone) == self.model.forget(key)

    @invariant()
    def nothing_is_lost_between_arrival_and_view(self) -> None:
        if not hasattr(self, "model"):
            return
        projector, waiting = self.projector, self.model.waiting
        self.came = {place: self.came.get(place, self.clock()) for place in waiting}
        assert projector.pending_items == len(waiting)
        assert projector.pending_bytes == sum(plane.nbytes for plane in waiting.values())
        assert (projector.late, projector.superseded) == (self.late, self.superseded)
        assert set(projector.layers) == set(self.model.shown)
        due = projector.due()
        if len(waiting) >= self.most:
            assert due == self.clock()
        elif waiting:
            first = min(self.came[place] for place in waiting)
            assert due is not None
            assert due <= min(self.clock() + self.quiet, first + self.longest)

    def compare(self, updates: list[LayerUpdate]) -> None:
        """Everything that was taken is where it belongs, and nothing else is."""
        model, viewer = self.model, self.viewer
        assert set(viewer.last) == set(model.shown)
        names = [update.name for update in viewer.last.values()]
        assert len(set(names)) == len(names)
        for update in updates:
            if update.removed:
                continue
            there = model.shown[update.key]
            assert update.filled == len(there)
            numbers = [model.shown_by[place] for place in there]
            newest = model.newest_of[update.key]
            assert update.earlier == sum(number != newest for number in numbers)
            assert update.run == model.names[newest]
        for key, update in viewer.last.items():
            compare_layer(model.shown[key], update, viewer)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            while self.model.waiting:
                self.take()
            self.take()


def compare_layer(
    there: Mapping[Place, Payload], update: LayerUpdate, viewer: StandInViewer
) -> None:
    fixed = dict(update.key.values)
    by_components = {frozenset(place[1]): plane for place, plane in there.items()}
    found = 0
    for index in product(*(range(axis.length) for axis in update.axes)):
        components: dict[str, ComponentValue] = dict(fixed)
        for axis, at in zip(update.axes, index, strict=True):
            components |= axis.at(at)
        plane = by_components.get(frozenset(components.items()))
        found += plane is not None
        if update.dtype is None:
            shown = viewer.items[update.key].get(index)
            assert (shown is None) == (plane is None)
            assert plane is None or (shown is not None and shown.data is plane.data)
            continue
        wanted = np.zeros(update.shape[-2:], update.dtype)
        if plane is not None:
            height, width = plane.array.shape
            wanted[:height, :width] = plane.array
        np.testing.assert_array_equal(viewer.arrays[update.key][index], wanted)
    assert found == len(there)


ProjectionMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_any_course_of_events_leaves_what_the_model_has = pytest.mark.req("002.2")(
    ProjectionMachine.TestCase
)


@settings(max_examples=60, deadline=None)
@given(
    sent=st.lists(planes(runs=("run",)), max_size=14),
    name=st.sampled_from(sorted(MODES)),
    order=st.randoms(use_true_random=False),
    most=st.integers(1, 5),
    pauses=st.lists(st.booleans(), min_size=14, max_size=14),
)
@pytest.mark.req("002.2")
def test_any_order_of_arrival_and_any_pauses_give_the_same_layers(
    sent: list[Payload], name: str, order: Any, most: int, pauses: list[bool]
) -> None:
    modes, fit, shared = MODES[name]
    places = {
        (key_of(plane, modes, fit), plane.components): plane for plane in sent
    }  # what comes twice for one place has an order
    one = list(places.values())
    other = one.copy()
    order.shuffle(other)
    ends = []
    for planes_, stops in ((one, [False] * 14), (other, pauses)):
        projector = Projector(modes, FakeClock(), fit=fit, shared_axes=shared, most_items=most)
        viewer = StandInViewer()
        for plane, stop in zip(planes_, stops, strict=False):
            projector.add(plane)
            if stop:
                viewer.show(projector.take())
        while projector.pending_items:
            viewer.show(projector.take())
        ends.append(viewer)
    first, second = ends
    assert first.last.keys() == second.last.keys()
    for key, update in first.last.items():
        again = second.last[key]
        for field in dataclasses.fields(update):
            if field.name not in {"created", "resize", "placements", "cleared", "notes"}:
                assert getattr(update, field.name) == getattr(again, field.name), field.name
        if update.dtype is not None:
            np.testing.assert_array_equal(first.arrays[key], second.arrays[key])
        else:
            assert {at: plane.data for at, plane in first.items[key].items()} == {
                at: plane.data for at, plane in second.items[key].items()
            } or update.key.kind in {Kind.POINTS, Kind.TABLE}
