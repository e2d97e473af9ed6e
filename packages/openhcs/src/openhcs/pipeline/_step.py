"""A step: one function, its parameters, and which images it works on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from openhcs._errors import ParameterError
from openhcs.functions import FunctionSpec, spec_of
from openhcs.pipeline._checks import ParameterChecks
from openhcs.pipeline._parameters import checked_parameters
from openhcs.pipeline._settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from openhcs.codegen import Place
    from openhcs.functions import Device, ParameterValue
    from openhcs.pipeline._settings import Otherwise

__all__ = ["PREVIOUS", "START", "Step", "checked_wells"]

PREVIOUS = "previous"
START = "start"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_GIVER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}(\.[A-Za-z][A-Za-z0-9_]{0,63})?")
_INPUT = re.compile(r"step:([A-Za-z][A-Za-z0-9_]{0,63})")


@dataclass(frozen=True, slots=True, init=False)
class Step:
    """One function, to be called for each group of planes that it asks for.

    Parameters
    ----------
    function
        A function declared with `openhcs.functions.function`, or its declaration.
    name
        Name in events, tables and the run record; the function's name by default. A letter, then
        letters, digits and underscores.
    channel
        Name of the only channel, or names of the channels, that the step works on; all by default.
    otherwise
        What becomes of the other channels when the step changes images: ``"pass"`` hands them on
        as they are, ``"drop"`` leaves them out from here on, ``"error"`` says that there must be
        none. None inherits it from the pipeline or the run.
    input
        ``"previous"`` (the default), ``"start"`` for the plate's own planes, or ``"step:NAME"`` for
        the images that an earlier step gave.
    keep
        Whether the step's images are stored in the result even when later steps go on from them;
        None inherits it.
    device
        ``"cpu"``, or ``"gpu"`` where its function can; None inherits it.
    wells
        Wells that the step acts in, such as ``"A01,B02-B05,C*"``; all by default. In the others
        images pass as they are.
    **parameters
        Handed to the function. For one that is filled with an earlier step's output, give the
        step's name, or ``"STEP.OUTPUT"``; the latest output of its kind is taken by default.

    Raises
    ------
    ParameterError
        If the function is not declared or an argument does not fit it.

    Examples
    --------
    >>> from openhcs.functions import project_max
    >>> Step(project_max, keep=True).name
    'project_max'
    """

    spec: FunctionSpec
    name: str
    channel: tuple[str, ...] | None
    otherwise: Otherwise | None
    input: str
    keep: bool | None
    device: Device | None
    wells: str | None
    inputs: dict[str, str]
    parameters: dict[str, ParameterValue]
    place: Place | None = field(compare=False, repr=False)
    """Where the step stands in the text that it was read from; None without a text."""

    def __init__(
        self,
        function: Callable[..., Any] | FunctionSpec,
        /,
        *,
        name: str | None = None,
        channel: str | tuple[str, ...] | None = None,
        otherwise: Otherwise | None = None,
        input: str | None = None,  # noqa: A002  # the word that pipelines read best with
        keep: bool | None = None,
        device: Device | None = None,
        wells: str | None = None,
        **parameters: object,
    ) -> None:
        spec = _declared(function)
        checks = ParameterChecks()
        given = {key: value for key, value in parameters.items() if key in spec.inputs}
        rest = {key: value for key, value in parameters.items() if key not in spec.inputs}
        values = {
            "spec": spec,
            "name": checks.of(_checked_name, spec.name if name is None else name),
            "channel": checks.of(_checked_channel, channel),
            "otherwise": otherwise,
            "input": checks.of(_checked_input, PREVIOUS if input is None else input),
            "keep": keep,
            "device": device,
            "wells": checks.of(checked_wells, wells),
            "inputs": {
                key: checks.of(_checked_giver, spec, key, value) for key, value in given.items()
            },
            "parameters": checks.of(checked_parameters, spec, rest),
            "place": None,
        }
        checks.of(partial(Settings, keep=keep, otherwise=otherwise, device=device))
        checks.of(_check_others, spec, channel, otherwise)
        checks.over()
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def placed(self, place: Place) -> Step:
        """Give the same step, with the place in a text that messages about it name."""
        return self._with("place", place)

    def with_files(self, rename: Callable[[str], str]) -> Step:
        """Give the same step with other names of the files that it reads.

        Parameters
        ----------
        rename
            Given each value of a parameter that is declared as `openhcs.functions.FileName`; gives
            the name to put in its place.
        """
        files = {
            name: rename(value)
            for name, value in self.parameters.items()
            if isinstance(value, str) and self.spec.parameters[name].is_file
        }
        return self._with("parameters", {**self.parameters, **files}) if files else self

    def _with(self, attribute: str, value: object) -> Step:
        step = object.__new__(Step)
        for part in fields(self):
            object.__setattr__(step, part.name, getattr(self, part.name))
        object.__setattr__(step, attribute, value)
        return step

    @property
    def source_step(self) -> str | None:
        """Name of the earlier step whose images are taken; None for previous and start."""
        match = _INPUT.fullmatch(self.input)
        return match[1] if match else None


def _check_others(spec: FunctionSpec, channel: object, otherwise: object) -> None:
    if otherwise is not None and channel is None:
        message = f"{spec.name} works on all channels: otherwise={otherwise!r} needs channel="
        raise ParameterError(message, "otherwise")


def _declared(function: object) -> FunctionSpec:
    if isinstance(function, FunctionSpec):
        return function
    if not callable(function):
        message = f"a step begins with a function, not {function!r}"
        raise ParameterError(message, 0)
    try:
        return spec_of(function)
    except TypeError as error:
        raise ParameterError(str(error), 0) from error


def _checked_name(name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    message = f"a step's name is a letter, then letters, digits and underscores, not {name!r}"
    raise ParameterError(message, "name")


def _checked_channel(channel: object) -> tuple[str, ...] | None:
    if channel is None:
        return None
    names = (channel,) if isinstance(channel, str) else channel
    if (
        isinstance(names, tuple | list)
        and names
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
    ):
        return tuple(names)
    message = f"channel is the name of a channel or a tuple of different names, not {channel!r}"
    raise ParameterError(message, "channel")


def _checked_input(value: object) -> str:
    if isinstance(value, str) and (value in (PREVIOUS, START) or _INPUT.fullmatch(value)):
        return value
    message = f"input is 'previous', 'start' or 'step:NAME', not {value!r}"
    raise ParameterError(message, "input")


def checked_wells(wells: object) -> str | None:
    """Give a selection of wells, which is read once it is known what wells there are.

    Raises
    ------
    ParameterError
        If it is no text.
    """
    if wells is None or (isinstance(wells, str) and wells.strip()):
        return wells
    message = f"wells is a text such as 'A01,B02-B05,C*', not {wells!r}"
    raise ParameterError(message, "wells")


def _checked_giver(spec: FunctionSpec, parameter: str, value: object) -> str:
    if isinstance(value, str) and _GIVER.fullmatch(value):
        return value
    message = (
        f"{parameter} of {spec.name} is taken from an earlier step: give its name, or its name, a "
        f"dot and the output's, not {value!r}"
    )
    raise ParameterError(message, parameter)
