"""Keys by their folders, so that one folder is listed without looking at the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polystore._errors import KeyNameError
from polystore._keys import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KeyTree"]


@dataclass(slots=True)
class _Node:
    folders: dict[str, _Node] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)


class KeyTree:
    """A set of keys.

    Adding and removing one takes as long as the key has parts, listing a folder as long as it has
    entries. No two calls at once: whoever has it holds a lock.
    """

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, key: str) -> None:
        """Add a key that was checked; one that is there already stays.

        Raises
        ------
        KeyNameError
            If it is a folder of other keys, or lies below a key.
        """
        *parents, last = key.split("/")
        nodes = [self._root]
        for part in parents:
            if part in nodes[-1].items:
                above = "/".join(parents[: len(nodes)])
                raise KeyNameError(f"{key!r} cannot be kept below {above!r}, which is a key itself")
            found = nodes[-1].folders.get(part)
            nodes.append(_Node() if found is None else found)
        if last in nodes[-1].folders:
            raise KeyNameError(f"{key!r} cannot be a key: it is the folder of others")
        # only now, so that a key that is refused leaves no empty folder
        for part, node, below in zip(parents, nodes, nodes[1:], strict=False):
            node.folders[part] = below
        nodes[-1].items.add(last)

    def discard(self, key: str) -> None:
        """Take a key away, and the folders that are empty without it."""
        *parents, last = key.split("/")
        nodes = [self._root]
        for part in parents:
            found = nodes[-1].folders.get(part)
            if found is None:
                return
            nodes.append(found)
        nodes[-1].items.discard(last)
        for part, node, below in zip(
            reversed(parents), reversed(nodes[:-1]), reversed(nodes), strict=False
        ):
            if below.items or below.folders:
                break
            del node.folders[part]

    def folder(self, name: str) -> Folder:
        """List what lies directly in a folder."""
        node = self._find(name)
        if node is None:
            return Folder(name=name, folders=(), keys=())
        start = f"{name}/" if name else ""
        return Folder(
            name=name,
            folders=tuple(start + part for part in sorted(node.folders)),
            keys=tuple(start + part for part in sorted(node.items)),
        )

    def keys(self, prefix: str) -> list[str]:
        """List the keys that start with `prefix`, sorted."""
        folder, _, rest = prefix.rpartition("/")
        node = None if prefix.startswith("/") else self._find(folder)
        if node is None:
            return []
        start = f"{folder}/" if folder else ""
        found = [start + part for part in node.items if part.startswith(rest)]
        for part, below in node.folders.items():
            if part.startswith(rest):
                found.extend(_walk(below, f"{start}{part}/"))
        return sorted(found)

    def _find(self, name: str) -> _Node | None:
        node: _Node | None = self._root
        for part in name.split("/") if name else ():
            node = node.folders.get(part) if node else None
        return node


def _walk(node: _Node, start: str) -> Iterator[str]:
    for part in node.items:
        yield start + part
    for part, below in node.folders.items():
        yield from _walk(below, f"{start}{part}/")
