"""A pipeline: steps in order, with branches, routes by channel, and pipelines within."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from openhcs._errors import ParameterError
from openhcs.pipeline._checks import ParameterChecks
from openhcs.pipeline._flat import Flattener
from openhcs.pipeline._settings import Settings
from openhcs.pipeline._step import Step, checked_wells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openhcs.functions import Device
    from openhcs.pipeline._flat import FlatStep
    from openhcs.pipeline._settings import MissingPlanes, Otherwise

__all__ = ["Branch", "Part", "Pipeline", "Route"]

_WHOLE = ("missing", "pixel_um")


@dataclass(frozen=True, slots=True, init=False)
class Pipeline:
    """Steps in order; each takes the images that the one before it gave, unless it says otherwise.

    Parameters
    ----------
    *parts
        At least one step, branch, route or pipeline. Steps of one name get ``_2``, ``_3`` and so
        on behind it.
    keep, otherwise, missing, pixel_um, device
        Settings that all its steps inherit; see `Settings`.
    wells
        Wells that its steps act in, such as ``"A01,B02-B05,C*"``; all by default. In the others
        images pass as they are.
    name
        What messages and plans call it, where it is a part of another; a letter, then letters,
        digits and underscores.

    Raises
    ------
    ParameterError
        If there is no part, something is none, or a step takes its images from one that does not
        stand before it.

    Examples
    --------
    >>> from openhcs.functions import gaussian, project_max, segment_nuclei
    >>> clean = Pipeline(Step(gaussian, sigma_um=0.5), name="clean")
    >>> Pipeline(Step(project_max), clean, Step(segment_nuclei, channel="DAPI")).names
    ('project_max', 'gaussian', 'segment_nuclei')
    """

    parts: tuple[Part, ...]
    settings: Settings
    wells: str | None
    name: str | None
    flat: tuple[FlatStep, ...] = field(compare=False, repr=False)
    """Its steps one after the other, with all that surrounds them."""

    def __init__(
        self,
        *parts: Part,
        keep: bool | None = None,
        otherwise: Otherwise | None = None,
        missing: MissingPlanes | None = None,
        pixel_um: tuple[float, float] | None = None,
        device: Device | None = None,
        wells: str | None = None,
        name: str | None = None,
    ) -> None:
        _check_parts("a pipeline", parts)
        settings = Settings(
            keep=keep, otherwise=otherwise, missing=missing, pixel_um=pixel_um, device=device
        )
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "settings", settings)
        object.__setattr__(self, "wells", checked_wells(wells))
        object.__setattr__(self, "name", _checked_name(name))
        checks = ParameterChecks()
        whole = Flattener()
        with whole.layer("pipeline", settings, self.wells):
            _lay(parts, whole)
        for problem in whole.problems:
            checks.note(problem)
        checks.over()
        object.__setattr__(self, "flat", whole.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.flat)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All its steps, in the order in which they act."""
        return tuple(flat.step for flat in self.flat)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each step, no two alike."""
        return tuple(flat.name for flat in self.flat)

    def lay(self, into: Flattener) -> None:
        """Put its steps into those of the pipeline that it is a part of."""
        for name in _WHOLE:
            if name in self.settings.made:
                message = f"{name} holds for the whole: give it to the outermost pipeline"
                raise ParameterError(message, name)
        origin = f"pipeline {self.name}" if self.name else "inner pipeline"
        with into.layer(origin, self.settings, self.wells):
            _lay(self.parts, into)


@dataclass(frozen=True, slots=True, init=False)
class Branch:
    """Steps beside the others: what they do to images does not reach the steps behind it.

    Their tables and labels can be used by later steps, and their images by
    ``input="step:NAME"``.

    Parameters
    ----------
    *parts
        At least one step, branch, route or pipeline.

    Raises
    ------
    ParameterError
        If there is no part, or something is none.
    """

    parts: tuple[Part, ...]

    def __init__(self, *parts: Part) -> None:
        _check_parts("a branch", parts)
        object.__setattr__(self, "parts", parts)

    def lay(self, into: Flattener) -> None:
        """Put its steps into those of the pipeline that it is a part of."""
        with into.aside():
            _lay(self.parts, into)


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """Steps by channel.

    Parameters
    ----------
    branches
        Channel name to the step, branch or pipeline that works on it.
    otherwise
        What is done with channels that are not named: ``"pass"``, ``"drop"``, ``"error"``, or a
        part of its own. There is no default.

    Raises
    ------
    ParameterError
        If there is no branch, or something is none.

    Examples
    --------
    >>> from openhcs.functions import gaussian, subtract_background
    >>> Route({"DAPI": Step(gaussian)}, otherwise=Step(subtract_background)).channels
    ('DAPI',)
    """

    branches: tuple[tuple[str, Part], ...]
    otherwise: Otherwise | Part

    def __init__(self, branches: Mapping[str, Part], *, otherwise: Otherwise | Part) -> None:
        if not isinstance(branches, dict) or not branches:
            message = f"a route is a dict of parts by channel name, not {_described(branches)}"
            raise ParameterError(message, 0)
        for channel, part in branches.items():
            if not isinstance(channel, str) or not channel:
                message = f"a route is by channel name, not {channel!r}"
                raise ParameterError(message, 0)
            _check_parts("a route", (part,))
        if isinstance(otherwise, str):
            Settings(otherwise=otherwise)  # it checks the word
        elif not isinstance(otherwise, Step | Pipeline | Branch):
            message = (
                "otherwise of a route is 'pass', 'drop', 'error', or a step, branch or pipeline, "
                f"not {_described(otherwise)}"
            )
            raise ParameterError(message, "otherwise")
        object.__setattr__(self, "branches", tuple(branches.items()))
        object.__setattr__(self, "otherwise", otherwise)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that have a branch."""
        return tuple(channel for channel, _ in self.branches)

    def lay(self, into: Flattener) -> None:
        """Put its steps into those of the pipeline that it is a part of."""
        rest = self.otherwise
        unnamed: Otherwise = rest if isinstance(rest, str) else "pass"
        for channel, part in self.branches:
            apart = tuple(other for other in self.channels if other != channel)
            with into.routed((channel,), apart, unnamed):
                _lay((part,), into)
        if not isinstance(rest, str):
            with into.routed(None, self.channels, "pass"):
                _lay((rest,), into)


Part: TypeAlias = Step | Pipeline | Branch | Route
"""What a pipeline is made of."""


def _lay(parts: tuple[Part, ...], into: Flattener) -> None:
    for position, part in enumerate(parts):
        before = len(into.problems)
        try:
            if isinstance(part, Step):
                into.lay_step(part)
            else:
                with into.deeper():
                    part.lay(into)
        except ParameterError as error:
            # Whichever argument of an inner part it was: of this call it is the part.
            raise ParameterError(str(error), position) from error
        found = into.problems[before:]
        into.problems[before:] = [ParameterError(str(error), position) for error in found]


def _check_parts(what: str, parts: tuple[object, ...]) -> None:
    if not parts:
        message = f"{what} has at least one step"
        raise ParameterError(message)
    for position, part in enumerate(parts):
        if not isinstance(part, Step | Pipeline | Branch | Route):
            message = f"{what} is made of steps, not {_described(part)}: write Step(...)"
            raise ParameterError(message, position)


def _checked_name(name: object) -> str | None:
    if name is None or (isinstance(name, str) and name.isidentifier() and len(name) <= 64):
        return name
    message = f"a pipeline's name is a letter, then letters, digits and underscores, not {name!r}"
    raise ParameterError(message, "name")


def _described(value: object) -> str:
    if isinstance(value, type(None) | bool | int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"
