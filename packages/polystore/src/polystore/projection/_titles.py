"""Names of layers for people: short, and different for all, in whatever order they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore.projection._grouping import LayerKey

__all__ = ["Titles"]

_SHORT: Final = {"channel": "c", "field": "f", "z": "z", "t": "t"}


class _Group:
    """Layers that would have one name, and in what they differ."""

    def __init__(self) -> None:
        self.parts: dict[LayerKey, tuple[str, ...]] = {}
        self.differing: frozenset[int] = frozenset()

    def find_differing(self, keys: Iterable[LayerKey]) -> frozenset[int]:
        first = next(iter(self.parts.values()))
        return frozenset(
            number
            for key in keys
            for number, (one, other) in enumerate(zip(first, self.parts[key], strict=True))
            if one != other
        )


class Titles:
    """Gives a layer its name, and says which others get another one by that.

    What tells layers apart that would have one name is added in brackets: channel, step, plate,
    kind, axes, form. Adding a layer costs the same however many there are, but for the few times
    when all of a name get another one.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._bases: dict[LayerKey, str] = {}
        self._names: dict[LayerKey, str] = {}
        self._taken: dict[str, LayerKey] = {}

    def of(self, key: LayerKey) -> str:
        """Name of a layer."""
        return self._names[key]

    def put(self, key: LayerKey, channel_name: str | None) -> list[LayerKey]:
        """Name a layer, or name it anew; gives the others that have another name now."""
        base = _base(key, channel_name)
        if self._bases.get(key) == base:
            return []
        renamed = self.remove(key)
        group = self._groups.setdefault(base, _Group())
        group.parts[key] = _parts(key)
        self._bases[key] = base
        differing = group.differing | group.find_differing([key])
        if differing != group.differing:
            renamed += self._rename(base, differing)
        else:
            self._name(key)
        return [other for other in renamed if other != key]

    def remove(self, key: LayerKey) -> list[LayerKey]:
        """Forget a layer; gives those that have another name now."""
        base = self._bases.pop(key, None)
        if base is None:
            return []
        group = self._groups[base]
        del group.parts[key]
        self._taken.pop(self._names.pop(key), None)
        if not group.parts:
            del self._groups[base]
            return []
        differing = group.find_differing(group.parts)
        return self._rename(base, differing) if differing != group.differing else []

    def _rename(self, base: str, differing: frozenset[int]) -> list[LayerKey]:
        group = self._groups[base]
        group.differing = differing
        before = {key: self._names.get(key) for key in group.parts}
        for name in before.values():
            if name is not None:
                self._taken.pop(name, None)
        for key in group.parts:
            self._name(key)
        return [key for key, name in before.items() if name != self._names[key]]

    def _name(self, key: LayerKey) -> None:
        base = self._bases[key]
        group = self._groups[base]
        added = [group.parts[key][number] for number in sorted(group.differing)]
        name = f"{base} ({', '.join(filter(None, added))})" if any(added) else base
        if self._taken.get(name, key) != key:  # a plate that is called like a step
            name = f"{base} [{key}]"
        self._names[key] = name
        self._taken[name] = key


def _base(key: LayerKey, channel_name: str | None) -> str:
    values = dict(key.values)
    step, channel = values.pop("step", None), values.pop("channel", None)
    values.pop("plate", None)
    parts = [key.name or str(step or key.kind)]
    parts += [f"{_SHORT.get(name, '')}{value}" for name, value in values.items()]
    if channel_name is not None:
        parts.append(channel_name)
    elif channel is not None:
        parts.append(f"c{channel}")
    return " ".join(parts)


def _parts(key: LayerKey) -> tuple[str, ...]:
    """List what may tell a layer from one of the same name, what people look for first."""
    values = dict(key.values)
    channel = values.get("channel")
    return (
        "" if channel is None else f"c{channel}",
        str(values.get("step", "")),
        str(values.get("plate", "")),
        key.name,
        str(key.kind),
        f"by {' and '.join(key.axes)}" if key.axes else "",
        key.form,
    )
