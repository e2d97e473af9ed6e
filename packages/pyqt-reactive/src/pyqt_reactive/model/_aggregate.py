"""Values of parents, folded from those of their children."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pyqt_reactive._errors import PolicyError

if TYPE_CHECKING:
    from pyqt_reactive.model._diff import Diff
    from pyqt_reactive.model._snapshot import Snapshot

__all__ = [
    "SEVERITY",
    "Aggregator",
    "Fold",
    "Progress",
    "latest",
    "maximum",
    "minimum",
    "own",
    "progress",
    "total",
    "worst",
]

Fold: TypeAlias = Callable[[Any, Sequence[Any]], Any]
"""``fold(own, children)`` gives a node's value from its own and those of its children."""

SEVERITY = ("failed", "lost", "cancelled", "running", "queued", "reused", "ok")
"""States from the one that matters most to the one that matters least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of something is done, as counts: never a percentage of percentages.

    Attributes
    ----------
    done, failed
        Units that ended well and badly.
    total
        Units in all; None while that is not known.
    """

    done: int = 0
    failed: int = 0
    total: int | None = None

    @property
    def fraction(self) -> float | None:
        """Share of units that ended, 0 to 1; None while the total is unknown or zero."""
        return (self.done + self.failed) / self.total if self.total else None


def own(value: Any, children: Sequence[Any]) -> Any:  # noqa: ARG001  # the shape of a fold
    """Keep the node's own value."""
    return value


def total(value: Any, children: Sequence[Any]) -> Any:
    """Add up the children; a leaf keeps its own."""
    return sum(children) if children else value


def minimum(value: Any, children: Sequence[Any]) -> Any:
    """Take the smallest of the children; a leaf keeps its own."""
    return min(children) if children else value


def maximum(value: Any, children: Sequence[Any]) -> Any:
    """Take the largest of the children; a leaf keeps its own."""
    return max(children) if children else value


def latest(value: Any, children: Sequence[Any]) -> Any:
    """Take the largest of the node's own value and its children's, None left out."""
    return max((item for item in (value, *children) if item is not None), default=None)


def progress(value: Progress, children: Sequence[Progress]) -> Progress:
    """Add up the children's counts; one unknown total makes the sum's unknown."""
    if not children:
        return value
    totals = [child.total for child in children]
    return Progress(
        done=sum(child.done for child in children),
        failed=sum(child.failed for child in children),
        total=None if None in totals else sum(item for item in totals if item is not None),
    )


def worst(order: Sequence[str] = SEVERITY) -> Fold:
    """Make a fold that takes the state that matters most.

    Parameters
    ----------
    order
        States, the one that matters most first.
    """
    rank = {state: index for index, state in enumerate(order)}

    def fold(value: str, children: Sequence[str]) -> str:
        for state in (value, *children):
            if state not in rank:
                message = f"state {state!r} is none of {', '.join(order)}"
                raise PolicyError(message)
        return min(children or (value,), key=rank.__getitem__)

    return fold


class Aggregator:
    """Folded values of every node, kept up to date by recomputing only what a change touches.

    Parameters
    ----------
    policies
        Fold for each (kind, field): the kind of the parent, the name of the field.

    Raises
    ------
    PolicyError
        If a policy is not callable.
    """

    def __init__(self, policies: Mapping[tuple[str, str], Fold]) -> None:
        for (kind, name), fold in policies.items():
            if not callable(fold):
                message = f"the policy for {name} of {kind} is not a fold: {fold!r}"
                raise PolicyError(message)
        self._policies = dict(policies)
        self._fields = tuple(dict.fromkeys(name for _, name in policies))
        self._values: dict[Hashable, dict[str, Any]] = {}
        self._parents: dict[Hashable, Hashable | None] = {}

    def __getitem__(self, key: Hashable) -> Mapping[str, Any]:
        """Folded values of a node by field."""
        return self._values[key]

    def reset(self, snapshot: Snapshot) -> None:
        """Fold everything anew."""
        self._values, self._parents = {}, {}
        for node in reversed(list(snapshot.walk())):
            self._fold(snapshot, node.key)

    def update(self, snapshot: Snapshot, steps: Diff) -> frozenset[Hashable]:
        """Fold what the steps that led to a snapshot touched.

        Returns
        -------
        frozenset
            Keys whose values are different now, or new.
        """
        touched: list[Hashable | None] = [
            *(insertion.node.key for insertion in steps.inserted),
            *(change.node.key for change in steps.changed),
        ]
        for key in steps.removed:
            self._values.pop(key, None)
            touched.append(self._parents.pop(key, None))
        dirty: set[Hashable] = set()
        for key in touched:
            current = key
            while current is not None and current in snapshot and current not in dirty:
                dirty.add(current)
                current = snapshot[current].parent
        different: set[Hashable] = set()
        for node in reversed([node for node in snapshot.walk() if node.key in dirty]):
            before = self._values.get(node.key)
            if self._fold(snapshot, node.key) != before:
                different.add(node.key)
        return frozenset(different)

    def _fold(self, snapshot: Snapshot, key: Hashable) -> dict[str, Any]:
        node = snapshot[key]
        values: dict[str, Any] = {}
        for name in self._fields:
            fold = self._policies.get((node.kind, name), own)
            below = [self._values[child][name] for child in snapshot.children(key)]
            values[name] = fold(getattr(node.fields, name, None), below)
        self._values[key] = values
        self._parents[key] = node.parent
        return values
