"""Parameters of a step, held against the annotations of its function."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs._errors import ParameterError

if TYPE_CHECKING:
    from openhcs.functions import FunctionSpec

__all__ = ["Parameter", "checked_parameters", "resolved_parameters"]

Parameter: TypeAlias = (
    "bool | int | float | str | tuple[Parameter, ...] | dict[str, Parameter] | None"
)
"""What a parameter may be: plain, immutable in practice, and with a literal form."""


def checked_parameters(
    spec: FunctionSpec, parameters: Mapping[str, object]
) -> dict[str, Parameter]:
    """Give the parameters in plain form, once they fit the function.

    Raises
    ------
    ParameterError
        If the function has no such parameter, or the value is not of the annotated type.
    """
    known = spec.parameters
    result: dict[str, Parameter] = {}
    for name, value in parameters.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"it takes {_listed(known)}"
            message = f"{spec.name} has no parameter {name!r}; {advice}"
            raise ParameterError(message, name)
        plain = _plain(spec, name, value)
        annotation = _annotation(spec.call, name)
        if not _fits(plain, annotation):
            message = (
                f"{name} of {spec.name} is {_spelled(annotation)}, not {value!r}"
                f"{_close_choice(plain, annotation)}"
            )
            raise ParameterError(message, name)
        result[name] = plain
    return result


def resolved_parameters(
    spec: FunctionSpec, parameters: Mapping[str, Parameter]
) -> dict[str, Parameter]:
    """Give all parameters of a function in order, defaults filled in.

    Raises
    ------
    ParameterError
        If a parameter without a default is not given.
    """
    result: dict[str, Parameter] = {}
    for name, parameter in spec.parameters.items():
        if name in parameters:
            result[name] = parameters[name]
        elif parameter.default is not parameter.empty:
            result[name] = _plain(spec, name, parameter.default)
        else:
            message = f"{spec.name} needs {name}: give {name}=..."
            raise ParameterError(message)
    return result


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) if names else "none"


def _plain(spec: FunctionSpec, name: str, value: object) -> Parameter:
    """Turn lists to tuples, and refuse what has no literal form."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if type(value) is int:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return tuple(_plain(spec, name, item) for item in value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(spec, name, item) for key, item in value.items()}
    message = (
        f"{name} of {spec.name} has to be a finite number, text, True, False, None, or a tuple or "
        f"dict of these, not {value!r}"
    )
    raise ParameterError(message, name)


def _annotation(call: Callable[..., Any], name: str) -> Any:
    """Resolve one annotation; names that exist for type checkers alone leave it open."""

    def holder() -> None: ...

    annotation = call.__annotations__.get(name, Any)
    holder.__annotations__ = {name: annotation}
    try:
        return typing.get_type_hints(holder, globalns=getattr(call, "__globals__", {}))[name]
    except NameError:
        return Any


def _fits(value: Parameter, annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return (
            isinstance(value, tuple)
            and len(value) == len(arguments)
            and all(_fits(item, choice) for item, choice in zip(value, arguments, strict=True))
        )
    container = origin or annotation
    if container in (tuple, list, Sequence):
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if container in (dict, Mapping):
        return isinstance(value, dict) and (
            not arguments or all(_fits(item, arguments[1]) for item in value.values())
        )
    return isinstance(annotation, type) and isinstance(value, annotation)


def _spelled(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spelled(choice) for choice in arguments)
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and origin is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _close_choice(value: Parameter, annotation: Any) -> str:
    choices = [choice for choice in typing.get_args(annotation) if isinstance(choice, str)]
    if not isinstance(value, str):
        return ""
    close = difflib.get_close_matches(value, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
