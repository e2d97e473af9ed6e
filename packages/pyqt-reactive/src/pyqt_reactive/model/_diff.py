"""What has to happen to one snapshot to make it another.

The steps are in the order in which a view carries them out: rows leave, rows that stay change
places, rows arrive, values change. Everything that stays keeps its identity.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING

from pyqt_reactive.model._snapshot import Node, Snapshot

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["Change", "Diff", "Insertion", "Move", "apply", "diff"]


@dataclass(frozen=True, slots=True)
class Move:
    """A node that changes its place among its siblings.

    Attributes
    ----------
    key
        The node that moves.
    before
        The sibling that it then stands before; None when it becomes the last.
    """

    key: Hashable
    before: Hashable | None


@dataclass(frozen=True, slots=True)
class Insertion:
    """A node that arrives, and its final place among its siblings."""

    node: Node
    index: int


@dataclass(frozen=True, slots=True)
class Change:
    """A node whose kind or fields differ, and the names of the fields that do."""

    node: Node
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """Steps from one snapshot to the next, in order.

    Attributes
    ----------
    removed
        Keys that leave, children before their parents.
    moved
        The fewest moves that put the remaining siblings in order.
    inserted
        Nodes that arrive, parents first and siblings by rising place. A node that changes its
        parent leaves and arrives with everything below it.
    changed
        Nodes that stay and look different.
    complete
        Whether the newer snapshot was.
    """

    removed: tuple[Hashable, ...]
    moved: tuple[Move, ...]
    inserted: tuple[Insertion, ...]
    changed: tuple[Change, ...]
    complete: bool

    def __bool__(self) -> bool:
        return bool(self.removed or self.moved or self.inserted or self.changed)


def diff(old: Snapshot, new: Snapshot) -> Diff:
    """Find the steps from one snapshot to another.

    What an incomplete newer snapshot does not mention is kept where it was: it may only be out of
    sight.
    """
    if not new.complete:
        new = _with_unseen(old, new)
    staying = _staying(old, new)
    removed = tuple(node.key for node in old.walk() if node.key not in staying)[::-1]
    moved: list[Move] = []
    for parent in [None, *(key for key in old if key in staying)]:
        before = [key for key in old.children(parent) if key in staying]
        after = [key for key in new.children(parent) if key in staying]
        if before != after:
            moved.extend(_moves(before, after))
    inserted = tuple(
        Insertion(new[key], index)
        for parent in [None, *(node.key for node in new.walk())]
        for index, key in enumerate(new.children(parent))
        if key not in staying
    )
    changed = tuple(
        Change(new[key], _names(old[key], new[key]))
        for key in staying
        if old[key] is not new[key] and old[key] != new[key]
    )
    return Diff(removed, tuple(moved), inserted, changed, new.complete)


def apply(old: Snapshot, steps: Diff) -> Snapshot:
    """Carry out the steps; ``apply(old, diff(old, new)) == new`` for every complete ``new``."""
    nodes = {key: old[key] for key in old}
    children = {key: list(old.children(key)) for key in [None, *old]}
    for key in steps.removed:
        children[nodes[key].parent].remove(key)
        del nodes[key], children[key]
    for move in steps.moved:
        siblings = children[nodes[move.key].parent]
        siblings.remove(move.key)
        siblings.insert(
            len(siblings) if move.before is None else siblings.index(move.before), move.key
        )
    for insertion in steps.inserted:
        nodes[insertion.node.key] = insertion.node
        children.setdefault(insertion.node.key, [])
        children[insertion.node.parent].insert(insertion.index, insertion.node.key)
    for change in steps.changed:
        nodes[change.node.key] = change.node
    order: list[Node] = []
    pending = list(reversed(children[None]))
    while pending:
        key = pending.pop()
        order.append(nodes[key])
        pending.extend(reversed(children[key]))
    return Snapshot(order, complete=steps.complete)


def _with_unseen(old: Snapshot, new: Snapshot) -> Snapshot:
    """Add what an incomplete snapshot left out, after what it did mention."""
    unseen = [node for node in old.walk() if node.key not in new]
    return Snapshot([*new.walk(), *unseen], complete=False)


def _staying(old: Snapshot, new: Snapshot) -> dict[Hashable, None]:
    """Keys under the same parents in both, in the order of the newer."""
    staying: dict[Hashable, None] = {}
    for node in new.walk():
        was = old.get(node.key)
        if (
            was is not None
            and was.parent == node.parent
            and (node.parent is None or node.parent in staying)
        ):
            staying[node.key] = None
    return staying


def _moves(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[Move]:
    """Order siblings by moving all but a longest run that is in order already."""
    place = {key: index for index, key in enumerate(before)}
    still = _longest_rising([place[key] for key in after])
    moves: list[Move] = []
    following: Hashable | None = None
    for index in range(len(after) - 1, -1, -1):
        if index not in still:
            moves.append(Move(after[index], following))
        following = after[index]
    return moves


def _longest_rising(values: Sequence[int]) -> set[int]:
    """Give the indices of a longest rising subsequence, by patience sorting in O(n log n)."""
    tails: list[int] = []
    ends: list[int] = []
    previous: list[int] = [-1] * len(values)
    for index, value in enumerate(values):
        place = bisect_left(tails, value)
        previous[index] = ends[place - 1] if place else -1
        tails[place : place + 1] = [value]
        ends[place : place + 1] = [index]
    run: set[int] = set()
    current = ends[-1] if ends else -1
    while current >= 0:
        run.add(current)
        current = previous[current]
    return run


def _names(old: Node, new: Node) -> tuple[str, ...]:
    if old.kind != new.kind or type(old.fields) is not type(new.fields):
        return ("kind",)
    if not is_dataclass(new.fields):
        return ("fields",)
    return tuple(
        item.name
        for item in fields(new.fields)
        if getattr(old.fields, item.name) != getattr(new.fields, item.name)
    )
