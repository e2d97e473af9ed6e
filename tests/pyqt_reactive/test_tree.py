"""The tree model and its view, against Qt's own checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "PyQt6.QtWidgets",
    reason="needs Qt's system libraries (libegl1, libgl1, libxkbcommon0 and others)",
    exc_type=ImportError,
)
from PyQt6.QtCore import QEvent, QItemSelectionModel, QModelIndex, Qt
from PyQt6.QtGui import QKeyEvent
from PyQt6.QtTest import QAbstractItemModelTester
from PyQt6.QtWidgets import QApplication

from pyqt_reactive import Column, TreeModel, TreeView
from pyqt_reactive._tree_model import Role
from pyqt_reactive.model import Node, Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytestqt.qtbot import QtBot


@dataclass(frozen=True)
class Well:
    state: str
    done: float = 0.0


COLUMNS = (
    Column(title="Well", text=lambda node: str(node.key)),
    Column(
        title="State",
        text=lambda node: node.fields.state,
        state=lambda node: node.fields.state,
        fraction=lambda node: node.fields.done,
    ),
)


def plate(wells: Sequence[tuple[str, str]]) -> Snapshot:
    run = Node(key="run", kind="run", fields=Well("running"))
    return Snapshot(
        [run, *(Node(key=w, parent="run", kind="well", fields=Well(s)) for w, s in wells)]
    )


def rows(model: TreeModel, parent: QModelIndex | None = None) -> list[object]:
    parent = parent or QModelIndex()
    shown: list[object] = []
    for row in range(model.rowCount(parent)):
        index = model.index(row, 0, parent)
        shown.append((model.key_of(index), rows(model, index)))
    return shown


def expected(snapshot: Snapshot, key: object = None) -> list[object]:
    return [(child, expected(snapshot, child)) for child in snapshot.children(key)]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    keys = draw(st.lists(st.integers(0, 9), unique=True))
    return Snapshot(
        Node(
            key=key,
            parent=draw(st.sampled_from([None, *keys[:index]])),
            kind="well",
            fields=Well(draw(st.sampled_from(["ok", "failed"]))),
        )
        for index, key in enumerate(keys)
    )


@given(sequence=st.lists(snapshots(), max_size=4))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_model_follows_any_snapshots_under_qts_own_checks(
    qapp: object, sequence: list[Snapshot]
) -> None:
    assert qapp is not None
    model = TreeModel(COLUMNS)
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal)
    for snapshot in sequence:
        model.show(snapshot)
        assert rows(model) == expected(snapshot)
    assert tester.model() is model


def test_selection_and_expansion_stay_with_what_they_name(qtbot: QtBot) -> None:
    model = TreeModel(COLUMNS)
    view = TreeView(model, "Wells")
    qtbot.addWidget(view)
    view.show_snapshot(plate([("A01", "queued"), ("B02", "queued")]))
    assert view.isExpanded(model.index_of("run"))
    selection = view.selectionModel()
    assert selection is not None
    flags = QItemSelectionModel.SelectionFlag
    selection.select(model.index_of("B02"), flags.Select | flags.Rows)

    view.show_snapshot(plate([("B02", "running"), ("A01", "ok"), ("C03", "queued")]))

    assert view.selected() == ("B02",)
    assert view.isExpanded(model.index_of("run"))
    assert model.index_of("B02", 1).data() == "running"


@pytest.mark.parametrize("incomplete", [True, False])
def test_rows_leave_only_on_complete_evidence(qtbot: QtBot, incomplete: bool) -> None:
    model = TreeModel(COLUMNS)
    view = TreeView(model, "Wells")
    qtbot.addWidget(view)
    view.show_snapshot(plate([("A01", "ok"), ("B02", "ok")]))
    some = plate([("A01", "failed")])
    view.show_snapshot(Snapshot(some.walk(), complete=not incomplete))
    assert model.index_of("B02").isValid() is incomplete
    assert model.index_of("A01", 1).data() == "failed"


def test_state_and_progress_are_painted(qtbot: QtBot) -> None:
    model = TreeModel(COLUMNS)
    view = TreeView(model, "Wells")
    qtbot.addWidget(view)
    view.resize(400, 200)
    view.show_snapshot(plate([("A01", "failed")]))
    view.show()
    assert model.index_of("A01", 1).data(Role.STATE) == "failed"
    image = view.grab().toImage()
    colours = {image.pixelColor(x, y).name() for x in range(400) for y in range(0, 200, 2)}
    assert "#d55e00" in colours


def test_activated_row_is_announced_by_its_key(qtbot: QtBot) -> None:
    model = TreeModel(COLUMNS)
    view = TreeView(model, "Wells")
    qtbot.addWidget(view)
    view.show_snapshot(plate([("A01", "ok")]))
    view.show()
    view.setCurrentIndex(model.index_of("A01"))
    with qtbot.waitSignal(view.chosen) as caught:
        enter = (Qt.Key.Key_Return, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(view, QKeyEvent(QEvent.Type.KeyPress, *enter))
    assert caught.args == ["A01"]
