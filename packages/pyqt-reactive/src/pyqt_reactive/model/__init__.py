"""Trees as values: snapshots, the steps between them, and what parents show of their children.

Nothing here needs Qt.
"""

from pyqt_reactive.model._aggregate import (
    SEVERITY,
    Aggregator,
    Fold,
    Progress,
    latest,
    maximum,
    minimum,
    own,
    progress,
    total,
    worst,
)
from pyqt_reactive.model._diff import Change, Diff, Insertion, Move, apply, diff
from pyqt_reactive.model._snapshot import Node, Snapshot

__all__ = [
    "SEVERITY",
    "Aggregator",
    "Change",
    "Diff",
    "Fold",
    "Insertion",
    "Move",
    "Node",
    "Progress",
    "Snapshot",
    "apply",
    "diff",
    "latest",
    "maximum",
    "minimum",
    "own",
    "progress",
    "total",
    "worst",
]
