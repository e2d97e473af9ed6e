"""The values of components along the axes of a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from polystore._components import sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polystore._components import ComponentValue

__all__ = ["Axis", "AxisValues"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A leading axis of a layer.

    Attributes
    ----------
    name
        Of the component; of an axis that components may share, the mode: ``"frame"``.
    values
        Value at each position, in order; empty where the layer has no such component, which is
        one position then. Empty also for an axis that components may share: `parts` has them.
    parts
        Of such an axis, one for each of its components that the layer has, the slowest first.
    """

    name: str
    values: tuple[ComponentValue, ...]
    parts: tuple[Axis, ...] = ()

    @property
    def length(self) -> int:
        """Number of positions, at least 1."""
        if self.parts:
            return math.prod(part.length for part in self.parts)
        return max(1, len(self.values))

    def at(self, position: int) -> dict[str, ComponentValue]:
        """Components at a position, by name; none where the layer has no such component.

        Raises
        ------
        IndexError
            If there is no such position.
        """
        if not 0 <= position < self.length:
            raise IndexError(f"{self.name} has positions 0 to {self.length - 1}, not {position}")
        found: dict[str, ComponentValue] = {}
        rest = self.length
        for part in self.parts or (self,):
            rest //= part.length
            at, position = divmod(position, rest)
            if part.values:
                found[part.name] = part.values[at]
        return found

    def places_in(self, newer: Axis) -> Sequence[int]:
        """Position in a newer, longer axis of each position in this one."""
        if not self.parts:
            before, after = self.values, newer.values
            if before == after[: len(before)]:
                return range(self.length)  # nothing came in between
            positions = {value: at for at, value in enumerate(after)}
            return tuple(positions[value] for value in before)
        radix = math.prod(part.length for part in newer.parts)
        steps: list[list[int]] = []
        for part, longer in zip(self.parts, newer.parts, strict=True):
            radix //= longer.length
            steps.append([at * radix for at in part.places_in(longer)])
        return tuple(sum(places) for places in product(*steps))


class AxisValues:
    """Values of one component that are known so far, in order."""

    __slots__ = ("_keys", "positions", "values")

    def __init__(self) -> None:
        self.values: tuple[ComponentValue, ...] = ()
        self.positions: dict[ComponentValue, int] = {}
        self._keys: dict[ComponentValue, tuple[int, int, str, int, str]] = {}

    def __len__(self) -> int:
        return len(self.values)

    def update(self, values: Iterable[ComponentValue]) -> bool:
        """Take in values; True if any of them is new."""
        new: list[ComponentValue] = list(set(values).difference(self.positions))
        if not new:
            return False
        keys = self._keys
        for value in new:
            keys[value] = sort_key(value)
        new.sort(key=keys.__getitem__)
        count = len(self.values)
        if not count or keys[self.values[-1]] < keys[new[0]]:  # as time does: the rest stays
            self.values += tuple(new)
            self.positions.update(zip(new, range(count, count + len(new)), strict=True))
        else:
            self.values = tuple(sorted((*self.values, *new), key=keys.__getitem__))
            self.positions = {value: at for at, value in enumerate(self.values)}
        return True
