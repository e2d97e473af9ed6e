"""A tree of things as they were last seen, as an immutable value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyqt_reactive._errors import SnapshotError

__all__ = ["Node", "Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing in a tree.

    Attributes
    ----------
    key
        Stays the same for as long as the thing lives: an identity, never an index or a label.
    parent
        Key of the thing that it belongs to; None at the top.
    kind
        What it is, such as ``"run"`` or ``"well"``; policies and columns are chosen by it.
    fields
        A frozen value with what is known of it, compared by identity first.
    """

    key: Hashable
    parent: Hashable | None = None
    kind: str
    fields: Any


class Snapshot(Mapping[Hashable, Node]):
    """Nodes by key, in the order in which siblings are shown.

    Producers hand over the same `Node` object for what did not change: comparing is then cheap.

    Parameters
    ----------
    nodes
        Parents and children in any order.
    complete
        False when a source could tell only a part: nothing is taken for gone on its evidence.

    Raises
    ------
    SnapshotError
        If two nodes share a key, a parent is missing, or parents form a circle.
    """

    __slots__ = ("_children", "_nodes", "complete")

    def __init__(self, nodes: Iterable[Node] = (), *, complete: bool = True) -> None:
        self._nodes: dict[Hashable, Node] = {}
        self._children: dict[Hashable | None, list[Hashable]] = {None: []}
        self.complete = complete
        for node in nodes:
            if node.key is None or node.key in self._nodes:
                message = f"two nodes have the key {node.key!r}; keys must be unique and not None"
                raise SnapshotError(message)
            self._nodes[node.key] = node
            self._children.setdefault(node.parent, []).append(node.key)
        self._refuse_orphans()

    def __getitem__(self, key: Hashable) -> Node:
        return self._nodes[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return list(self.walk()) == list(other.walk()) and self.complete == other.complete

    __hash__ = None  # type: ignore[assignment]  # compared by value, and large

    def __repr__(self) -> str:
        return f"Snapshot({len(self)} nodes, complete={self.complete})"

    def children(self, key: Hashable | None = None) -> tuple[Hashable, ...]:
        """Keys of a node's children, or of the top nodes, in order."""
        return tuple(self._children.get(key, ()))

    def walk(self, key: Hashable | None = None) -> Iterator[Node]:
        """Go through the nodes below a node, parents first, in order."""
        pending = list(reversed(self._children.get(key, ())))
        while pending:
            current = pending.pop()
            yield self._nodes[current]
            pending.extend(reversed(self._children.get(current, ())))

    def _refuse_orphans(self) -> None:
        for node in self._nodes.values():
            if node.parent is not None and node.parent not in self._nodes:
                message = f"node {node.key!r} names the parent {node.parent!r}, which is missing"
                raise SnapshotError(message)
        reached = sum(1 for _ in self.walk())
        if reached != len(self._nodes):
            seen = {node.key for node in self.walk()}
            lost = next(key for key in self._nodes if key not in seen)
            message = f"node {lost!r} is its own ancestor"
            raise SnapshotError(message)
