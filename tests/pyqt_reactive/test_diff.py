"""Snapshots, the steps between them, and folded values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqt_reactive import PolicyError, SnapshotError
from pyqt_reactive.model import (
    Aggregator,
    Diff,
    Node,
    Progress,
    Snapshot,
    apply,
    diff,
    progress,
    total,
    worst,
)


@dataclass(frozen=True)
class Item:
    state: str = "ok"
    count: int = 0


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    keys = draw(st.lists(st.integers(0, 12), unique=True))
    nodes: list[Node] = []
    for index, key in enumerate(keys):
        parent = draw(st.sampled_from([None, *keys[:index]]))
        fields = Item(draw(st.sampled_from(["ok", "failed", "running"])), draw(st.integers(0, 3)))
        nodes.append(Node(key=key, parent=parent, kind="item", fields=fields))
    return Snapshot(nodes)


def flat(*keys: str) -> Snapshot:
    return Snapshot(Node(key=key, kind="item", fields=Item()) for key in keys)


@given(snapshots(), snapshots())
def test_applying_the_steps_gives_the_newer_snapshot(old: Snapshot, new: Snapshot) -> None:
    assert apply(old, diff(old, new)) == new


@given(snapshots())
def test_nothing_to_do_between_equal_snapshots(snapshot: Snapshot) -> None:
    assert not diff(snapshot, Snapshot(snapshot.walk()))


def test_one_row_to_the_front_is_one_move() -> None:
    steps = diff(flat("a", "b", "c", "d"), flat("d", "a", "b", "c"))
    assert len(steps.moved) == 1
    assert steps.moved[0].key == "d"
    assert steps.moved[0].before == "a"


def test_change_names_the_fields_that_differ() -> None:
    old = Snapshot([Node(key=1, kind="item", fields=Item("running", 2))])
    new = Snapshot([Node(key=1, kind="item", fields=Item("ok", 2))])
    assert diff(old, new).changed[0].names == ("state",)


def test_incomplete_snapshot_removes_nothing() -> None:
    new = Snapshot([Node(key="b", kind="item", fields=Item(count=1))], complete=False)
    steps = diff(flat("a", "b"), new)
    assert steps.removed == ()
    assert [change.node.key for change in steps.changed] == ["b"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([Node(key=1, kind="x", fields=0), Node(key=1, kind="x", fields=1)], "two nodes"),
        ([Node(key=1, parent=7, kind="x", fields=0)], "parent 7, which is missing"),
        (
            [Node(key=1, parent=2, kind="x", fields=0), Node(key=2, parent=1, kind="x", fields=0)],
            "own ancestor",
        ),
    ],
)
def test_nodes_that_form_no_tree_are_refused_by_name(nodes: list[Node], said: str) -> None:
    with pytest.raises(SnapshotError, match=said):
        Snapshot(nodes)


POLICIES = {("item", "state"): worst(("failed", "running", "ok")), ("item", "count"): total}


@given(snapshots(), snapshots())
def test_folding_what_changed_equals_folding_everything(old: Snapshot, new: Snapshot) -> None:
    incremental, full = Aggregator(POLICIES), Aggregator(POLICIES)
    incremental.reset(old)
    incremental.update(new, diff(old, new))
    full.reset(new)
    assert {key: incremental[key] for key in new} == {key: full[key] for key in new}


def test_worst_state_of_the_children_shows_at_the_top() -> None:
    snapshot = Snapshot(
        [
            Node(key="run", kind="item", fields=Item("ok")),
            Node(key="A01", parent="run", kind="item", fields=Item("ok", 2)),
            Node(key="A02", parent="run", kind="item", fields=Item("failed", 3)),
        ]
    )
    values = Aggregator(POLICIES)
    values.reset(snapshot)
    assert values["run"] == {"state": "failed", "count": 5}


def test_unknown_state_is_refused() -> None:
    with pytest.raises(PolicyError, match="'lots'"):
        worst()("lots", [])


def test_unknown_total_of_a_child_makes_progress_indeterminate() -> None:
    parts = [Progress(done=2, total=4), Progress(done=1, failed=1, total=None)]
    summed = progress(Progress(), parts)
    assert (summed.done, summed.failed, summed.total, summed.fraction) == (3, 1, None, None)


def test_diff_of_a_large_plate_takes_few_steps() -> None:
    wells = [Node(key=i, kind="item", fields=Item()) for i in range(5000)]
    new = [*wells]
    new[17] = Node(key=17, kind="item", fields=Item("failed"))
    steps = diff(Snapshot(wells), Snapshot(new))
    assert steps == Diff((), (), (), steps.changed, complete=True)
    assert [change.node.key for change in steps.changed] == [17]
