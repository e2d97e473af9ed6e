"""The steps of a pipeline one after the other, with all that their surroundings say about them."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs._errors import ParameterError
from openhcs.pipeline._settings import Settings
from openhcs.pipeline._step import START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openhcs.pipeline._settings import Otherwise
    from openhcs.pipeline._step import Step

__all__ = ["PLATE", "FlatStep", "Flattener"]

PLATE = -1
"""Source of a step that takes the plate's own planes."""

_MOST_STEPS = 200
"""Steps that are named twice are counted twice: a text of a few lines can name billions."""
_DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatStep:
    """A step at its place in a pipeline.

    Attributes
    ----------
    step
        As it was given.
    name
        Its name, unlike that of any other step.
    previous
        Position of the step whose images go on behind this one where it changes none; `PLATE` for
        the plate's own planes.
    source
        Position of the step whose images it takes; `PLATE` for the plate's own planes.
    channels
        The channels that it works on; None for all but `apart`.
    apart
        Channels that other branches of a route see to; they pass as they are.
    unnamed
        What becomes of channels that the route around the step does not name; None without one.
    layers
        Name and settings of each layer around it, its own the last.
    wells
        Selections of wells, all of which have to hold, as `openhcs.plates.parse_wells` reads them.
    """

    step: Step
    name: str
    previous: int
    source: int
    channels: tuple[str, ...] | None
    apart: tuple[str, ...]
    unnamed: Otherwise | None
    layers: tuple[tuple[str, Settings], ...]
    wells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Routed:
    channels: tuple[str, ...] | None = None
    apart: tuple[str, ...] = ()
    unnamed: Otherwise | None = None


class Flattener:
    """Puts steps in order while the parts of a pipeline lay themselves into it.

    Raises
    ------
    ParameterError
        From its methods, if a step does not fit where it stands.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._steps: list[FlatStep] = []
        self._names: set[str] = set()
        self._at = PLATE
        self._layers: tuple[tuple[str, Settings], ...] = ()
        self._wells: tuple[str, ...] = ()
        self._routed: _Routed | None = None
        self.problems: list[ParameterError] = []
        """What does not fit where it stands, and does not keep the rest from being laid."""

    @property
    def steps(self) -> tuple[FlatStep, ...]:
        """The steps that were laid so far."""
        return tuple(self._steps)

    def lay_step(self, step: Step) -> None:
        """Put a step behind those that are there."""
        if len(self._steps) >= _MOST_STEPS:
            message = f"a pipeline has at most {_MOST_STEPS} steps, those of its parts included"
            raise ParameterError(message)
        name = self._unique(step.name)
        routed = self._routed or _Routed()
        if step.channel is not None and self._routed is not None:
            message = f"{name} stands in a route, which chooses its channel: leave channel= out"
            self.problems.append(ParameterError(message, "channel"))
        own = Settings(keep=step.keep, otherwise=step.otherwise, device=step.device)
        self._steps.append(
            FlatStep(
                step=step,
                name=name,
                previous=self._at,
                source=self._source(step, name),
                channels=routed.channels if step.channel is None else step.channel,
                apart=routed.apart,
                unnamed=routed.unnamed,
                layers=(*self._layers, ("step", own)),
                wells=self._wells if step.wells is None else (*self._wells, step.wells),
            )
        )
        self._at = len(self._steps) - 1

    @contextmanager
    def layer(self, origin: str, settings: Settings, wells: str | None) -> Iterator[None]:
        """Have what is laid meanwhile inherit settings, and act in some wells alone."""
        before = self._layers, self._wells
        self._layers = (*self._layers, (origin, settings))
        self._wells = self._wells if wells is None else (*self._wells, wells)
        try:
            yield
        finally:
            self._layers, self._wells = before

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Have what is laid meanwhile stand within a part."""
        if self._depth >= _DEEPEST:
            message = f"parts stand within parts more than {_DEEPEST} deep"
            raise ParameterError(message)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Have the images go on, after what is laid meanwhile, as they were before it."""
        before = self._at
        try:
            yield
        finally:
            self._at = before

    @contextmanager
    def routed(
        self, channels: tuple[str, ...] | None, apart: tuple[str, ...], unnamed: Otherwise
    ) -> Iterator[None]:
        """Have what is laid meanwhile work on some channels, as a branch of a route."""
        if self._routed is not None:
            message = "a route stands in a branch of another, whose channel is chosen already"
            raise ParameterError(message)
        self._routed = _Routed(channels, apart, unnamed)
        try:
            yield
        finally:
            self._routed = None

    def _unique(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def _source(self, step: Step, name: str) -> int:
        if step.input == START:
            return PLATE
        wanted = step.source_step
        if wanted is None:
            return self._at
        known = {flat.name: position for position, flat in enumerate(self._steps)}
        if wanted not in known:
            close = difflib.get_close_matches(wanted, known, n=1)
            advice = f"; did you mean 'step:{close[0]}'?" if close else ""
            message = (
                f"{name} takes its images from {step.input!r}, but no step before it has that "
                f"name{advice}"
            )
            self.problems.append(ParameterError(message, "input"))
            return self._at
        return known[wanted]
