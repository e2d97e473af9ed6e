"""Parameters of a step, held against what its function declares."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from openhcs._errors import ParameterError
from openhcs.functions import ParameterValue, plain
from openhcs.pipeline._checks import ParameterChecks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openhcs.functions import FunctionSpec

__all__ = ["checked_parameters", "resolved_parameters"]

_OF_STEPS = ("channel", "device", "input", "keep", "name", "otherwise", "wells")
"""What a step takes for itself, whichever its function."""


def checked_parameters(
    spec: FunctionSpec, parameters: Mapping[str, object]
) -> dict[str, ParameterValue]:
    """Give the parameters in plain form, once they fit the function.

    Raises
    ------
    ParameterError
        If the function has no such parameter, or the value is not of the annotated type or out of
        its bounds.
    """
    known = spec.parameters
    result: dict[str, ParameterValue] = {}
    checks = ParameterChecks()
    for name, value in parameters.items():
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *_OF_STEPS], n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it takes {_listed(known)}"
            message = f"{spec.name} has no parameter {name!r}; {advice}"
            checks.note(ParameterError(message, name))
        else:
            result[name] = checks.of(_fitting, spec, name, value)
    checks.over()
    return result


def resolved_parameters(
    spec: FunctionSpec, parameters: Mapping[str, ParameterValue]
) -> dict[str, ParameterValue]:
    """Give all parameters of a function in order, defaults filled in.

    Raises
    ------
    ParameterError
        If a parameter without a default is not given.
    """
    result: dict[str, ParameterValue] = {}
    for name, parameter in spec.parameters.items():
        if name in parameters:
            result[name] = parameters[name]
        elif spec.library is not None and not parameter.required:
            continue  # a library's own default may have no literal form, and is its own affair
        elif not parameter.required:
            result[name] = _plain(spec, name, parameter.default)
        else:
            message = f"{spec.name} needs {name}: give {name}=..."
            raise ParameterError(message)
    return result


def _fitting(spec: FunctionSpec, name: str, value: object) -> ParameterValue:
    fitting = _plain(spec, name, value)
    problem = spec.parameters[name].problem(fitting)
    if problem is not None:
        message = f"{name} of {spec.name} {problem}"
        raise ParameterError(message, name)
    return fitting


def _plain(spec: FunctionSpec, name: str, value: object) -> ParameterValue:
    try:
        return plain(value)
    except TypeError as error:
        message = f"{name} of {spec.name} has to be {error}"
        raise ParameterError(message, name) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no parameters"
