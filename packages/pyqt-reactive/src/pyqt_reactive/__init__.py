"""Changing models as manager windows, for PyQt6.

`pyqt_reactive.model` holds the values and needs no Qt; the widgets are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pyqt_reactive._errors import PolicyError, PyqtReactiveError, SnapshotError

if TYPE_CHECKING:
    from pyqt_reactive._status_delegate import StatusDelegate
    from pyqt_reactive._tree_model import Column, TreeModel
    from pyqt_reactive._tree_view import TreeView

__all__ = [
    "Column",
    "PolicyError",
    "PyqtReactiveError",
    "SnapshotError",
    "StatusDelegate",
    "TreeModel",
    "TreeView",
]

_WIDGETS = {
    "Column": "pyqt_reactive._tree_model",
    "StatusDelegate": "pyqt_reactive._status_delegate",
    "TreeModel": "pyqt_reactive._tree_model",
    "TreeView": "pyqt_reactive._tree_view",
}


def __getattr__(name: str) -> object:
    if name in _WIDGETS:
        return getattr(import_module(_WIDGETS[name]), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
