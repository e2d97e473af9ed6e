"""A tree view over a `TreeModel` that keeps the user's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QAbstractItemView, QHeaderView, QTreeView, QWidget

from pyqt_reactive._status_delegate import StatusDelegate

if TYPE_CHECKING:
    from collections.abc import Hashable

    from PyQt6.QtCore import QModelIndex

    from pyqt_reactive._tree_model import TreeModel
    from pyqt_reactive.model import Snapshot

__all__ = ["TreeView"]


class TreeView(QTreeView):
    """Shows snapshots; selection, expansion and the row at the top stay where they are.

    Parameters
    ----------
    model
        What is shown.
    title
        Name for screen readers.
    parent
        Qt's owner.

    Attributes
    ----------
    chosen
        Signal with the key of a row that was activated: double click or Enter.
    """

    chosen = pyqtSignal(object)

    def __init__(self, model: TreeModel, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tree = model
        self.setModel(model)
        self.setAccessibleName(title)
        self.setUniformRowHeights(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setItemDelegate(StatusDelegate(self))
        header = self.header()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
            header.setStretchLastSection(True)
        self.activated.connect(self._activate)

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """Take a newer snapshot; new top rows are opened, and nothing that is read moves away."""
        top = self._tree.key_of(self.indexAt(self.rect().topLeft()))
        steps = self._tree.show(snapshot)
        for insertion in steps.inserted:
            if insertion.node.parent is None:
                self.expand(self._tree.index_of(insertion.node.key))
        place = self._tree.index_of(top) if top is not None else None
        if place is not None and place.isValid():
            self.scrollTo(place, QAbstractItemView.ScrollHint.PositionAtTop)

    def selected(self) -> tuple[Hashable, ...]:
        """Keys of the selected rows."""
        selection = self.selectionModel()
        if selection is None:
            return ()
        keys = (self._tree.key_of(index) for index in selection.selectedRows())
        return tuple(key for key in keys if key is not None)

    def _activate(self, index: QModelIndex) -> None:
        key = self._tree.key_of(index)
        if key is not None:
            self.chosen.emit(key)
