"""Which run came after which."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polystore._components import ComponentValue
    from polystore._payload import Payload

__all__ = ["Runs"]


class Runs:
    """Numbers runs in the order in which they began; 0 is before any.

    Attributes
    ----------
    names
        Of the runs, by their numbers.
    newest, last
        Number and name of the newest.
    """

    def __init__(self) -> None:
        self.names: list[str | None] = [None]
        self.newest = 0
        self.last: str | None = None
        self._numbers: dict[str, int] = {}
        self._floors: dict[tuple[tuple[str, ComponentValue], ...], int] = {}

    def numbers(self, payloads: Sequence[Payload]) -> list[int]:
        """Give the numbers of the runs that payloads are of."""
        if self.newest <= 1:
            return [self.newest] * len(payloads)
        return [self.number(payload.run) for payload in payloads]

    def number(self, run: str | None) -> int:
        """Give the number of a run, which begins with the first that is heard of it.

        What names no run counts as of the newest.
        """
        if run is None:
            return self.newest
        found = self._numbers.get(run)
        return self.begin(run) if found is None else found

    def begin(self, run: str) -> int:
        """Let a run be the newest."""
        self.newest += 1
        self.names.append(run)
        self.last = run
        self._numbers[run] = self.newest
        return self.newest

    def end_earlier(self, where: Mapping[str, ComponentValue]) -> None:
        """Take nothing any more of runs before the newest for these components."""
        self._floors[tuple(sorted(where.items()))] = self.newest

    def is_ended(self, number: int, components: Mapping[str, ComponentValue]) -> bool:
        """Say whether nothing of a run is taken for these components."""
        return any(
            number < floor and all(components.get(name) == value for name, value in where)
            for where, floor in self._floors.items()
        )
