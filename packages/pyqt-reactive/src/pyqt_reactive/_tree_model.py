"""A Qt item model that follows snapshots by applying the steps between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from PyQt6.QtCore import QAbstractItemModel, QModelIndex, QObject, Qt

from pyqt_reactive.model import Change, Diff, Insertion, Move, Node, Snapshot, diff

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

__all__ = ["Column", "Role", "TreeModel"]

_NOWHERE = QModelIndex()


class Role(IntEnum):
    """What a delegate or a test may ask for beside Qt's own roles."""

    NODE = Qt.ItemDataRole.UserRole
    STATE = Qt.ItemDataRole.UserRole + 1
    FRACTION = Qt.ItemDataRole.UserRole + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a tree.

    Attributes
    ----------
    title
        Its heading.
    text
        Gives the words for a node.
    tooltip
        Gives more words, shown when the pointer rests; None for the text itself.
    state
        Gives a state such as ``"failed"`` that a delegate paints; None where there is none.
    fraction
        Gives a progress from 0 to 1, painted as a bar; None where there is none.
    numeric
        Whether the words are set to the right.
    """

    title: str
    text: Callable[[Node], str]
    tooltip: Callable[[Node], str] | None = None
    state: Callable[[Node], str | None] | None = None
    fraction: Callable[[Node], float | None] | None = None
    numeric: bool = False


class TreeModel(QAbstractItemModel):
    """Rows that follow a snapshot; what stays keeps its identity.

    Because the model is never reset, views keep selection, current row and expansion on their own.

    Parameters
    ----------
    columns
        At least one; the first carries the tree.
    parent
        Qt's owner.
    """

    def __init__(self, columns: Sequence[Column], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._columns = tuple(columns)
        self._nodes: dict[Hashable, Node] = {}
        self._children: dict[Hashable | None, list[Hashable]] = {None: []}
        self._ids: dict[Hashable, int] = {}
        self._keys: dict[int, Hashable] = {}
        self._next_id = 1
        self._rows: dict[Hashable | None, dict[Hashable, int]] = {}
        self.snapshot = Snapshot()

    def show(self, snapshot: Snapshot) -> Diff:
        """Take a newer snapshot; rows leave, move, arrive and change, in that order."""
        steps = diff(self.snapshot, snapshot)
        for start, stop, parent in self._runs_to_remove(steps.removed):
            self._remove(parent, start, stop)
        for move in steps.moved:
            self._move(move)
        for run in _insertion_runs(steps.inserted):
            self._insert(run)
        self._change(steps.changed)
        self.snapshot = (
            snapshot if snapshot.complete else Snapshot(self._all_nodes(), complete=False)
        )
        return steps

    def index_of(self, key: Hashable, column: int = 0) -> QModelIndex:
        """Give the index of a node; an invalid one when it is not there."""
        if key not in self._ids:
            return QModelIndex()
        return self.createIndex(self._row(key), column, self._ids[key])

    def key_of(self, index: QModelIndex) -> Hashable | None:
        """Give the key of a row; None for an invalid index."""
        return self._keys.get(index.internalId()) if index.isValid() else None

    # What Qt asks for.

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        return 0 if parent.column() > 0 else len(self._children.get(self.key_of(parent), ()))

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:  # noqa: ARG002
        return len(self._columns)

    def index(self, row: int, column: int, parent: QModelIndex = _NOWHERE) -> QModelIndex:
        siblings = self._children.get(self.key_of(parent), [])
        if not (0 <= row < len(siblings) and 0 <= column < len(self._columns)):
            return QModelIndex()
        return self.createIndex(row, column, self._ids[siblings[row]])

    def parent(self, child: QModelIndex = _NOWHERE) -> QModelIndex:  # type: ignore[override]  # QObject.parent() takes none
        key = self.key_of(child)
        above = self._nodes[key].parent if key in self._nodes else None
        return QModelIndex() if above is None else self.index_of(above)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        key = self.key_of(index)
        if key not in self._nodes:
            return None
        node, column = self._nodes[key], self._columns[index.column()]
        match role:
            case Qt.ItemDataRole.DisplayRole | Qt.ItemDataRole.AccessibleTextRole:
                return column.text(node)
            case Qt.ItemDataRole.ToolTipRole:
                return (column.tooltip or column.text)(node)
            case Qt.ItemDataRole.TextAlignmentRole if column.numeric:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            case Role.NODE:
                return node
            case Role.STATE:
                return column.state(node) if column.state else None
            case Role.FRACTION:
                return column.fraction(node) if column.fraction else None
            case _:
                return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return self._columns[section].title
        return None

    # Carrying out the steps.

    def _runs_to_remove(self, keys: Sequence[Hashable]) -> list[tuple[int, int, Hashable | None]]:
        """Turn removed keys into runs of rows; a subtree goes with its topmost row."""
        gone = set(keys)
        tops = [key for key in keys if self._nodes[key].parent not in gone]
        rows: dict[Hashable | None, list[int]] = {}
        for key in tops:
            rows.setdefault(self._nodes[key].parent, []).append(self._row(key))
        runs: list[tuple[int, int, Hashable | None]] = []
        for parent, numbers in rows.items():
            numbers.sort(reverse=True)
            stop = start = numbers[0]
            for number in numbers[1:]:
                if number != start - 1:
                    runs.append((start, stop, parent))
                    stop = number
                start = number
            runs.append((start, stop, parent))
        return runs

    def _remove(self, parent: Hashable | None, start: int, stop: int) -> None:
        self.beginRemoveRows(self._index_or_root(parent), start, stop)
        leaving = self._children[parent][start : stop + 1]
        del self._children[parent][start : stop + 1]
        self._rows.pop(parent, None)
        while leaving:
            key = leaving.pop()
            leaving.extend(self._children.pop(key, ()))
            self._rows.pop(key, None)
            del self._nodes[key]
            del self._keys[self._ids.pop(key)]
        self.endRemoveRows()

    def _move(self, move: Move) -> None:
        parent = self._nodes[move.key].parent
        siblings = self._children[parent]
        source = self._row(move.key)
        target = len(siblings) if move.before is None else self._row(move.before)
        index = self._index_or_root(parent)
        if not self.beginMoveRows(index, source, source, index, target):
            return  # it stands there already
        siblings.insert(target if target < source else target - 1, siblings.pop(source))
        self._rows.pop(parent, None)
        self.endMoveRows()

    def _insert(self, run: Sequence[Insertion]) -> None:
        parent, start = run[0].node.parent, run[0].index
        self.beginInsertRows(self._index_or_root(parent), start, start + len(run) - 1)
        self._children[parent][start:start] = [insertion.node.key for insertion in run]
        self._rows.pop(parent, None)
        for insertion in run:
            key = insertion.node.key
            self._nodes[key] = insertion.node
            self._children[key] = []
            self._ids[key] = self._next_id
            self._keys[self._next_id] = key
            self._next_id += 1
        self.endInsertRows()

    def _change(self, changes: Sequence[Change]) -> None:
        rows: dict[Hashable | None, list[int]] = {}
        for change in changes:
            self._nodes[change.node.key] = change.node
            rows.setdefault(change.node.parent, []).append(self._row(change.node.key))
        last = len(self._columns) - 1
        for parent, numbers in rows.items():
            above = self._index_or_root(parent)
            numbers.sort()
            start = stop = numbers[0]
            for number in [*numbers[1:], -1]:
                if number == stop + 1:
                    stop = number
                    continue
                self.dataChanged.emit(self.index(start, 0, above), self.index(stop, last, above))
                start = stop = number

    def _row(self, key: Hashable) -> int:
        parent = self._nodes[key].parent
        if parent not in self._rows:
            self._rows[parent] = {item: row for row, item in enumerate(self._children[parent])}
        return self._rows[parent][key]

    def _index_or_root(self, key: Hashable | None) -> QModelIndex:
        return QModelIndex() if key is None else self.index_of(key)

    def _all_nodes(self) -> list[Node]:
        nodes: list[Node] = []
        pending = list(reversed(self._children[None]))
        while pending:
            key = pending.pop()
            nodes.append(self._nodes[key])
            pending.extend(reversed(self._children[key]))
        return nodes


def _insertion_runs(insertions: Sequence[Insertion]) -> list[list[Insertion]]:
    """Join insertions that stand next to each other below one parent."""
    runs: list[list[Insertion]] = []
    for insertion in insertions:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.node.parent == insertion.node.parent
            and last.index + 1 == insertion.index
        ):
            runs[-1].append(insertion)
        else:
            runs.append([insertion])
    return runs
