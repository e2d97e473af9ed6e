"""Errors of pyqt_reactive; each leaf is also the builtin exception that it stands for.

::

    PyqtReactiveError
    ├── SnapshotError   ValueError    nodes that form no tree
    └── PolicyError     ValueError    an aggregation that cannot be carried out
"""

from __future__ import annotations

__all__ = ["PolicyError", "PyqtReactiveError", "SnapshotError"]


class PyqtReactiveError(Exception):
    """Root of all errors that pyqt_reactive raises on purpose."""


class SnapshotError(PyqtReactiveError, ValueError):
    """Nodes that form no tree; the message names the key."""


class PolicyError(PyqtReactiveError, ValueError):
    """An aggregation policy that does not fit; the message names kind and field."""
