"""Parameters of a function as a person or a form needs them: type, bounds, unit and help."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from openhcs.functions._quantities import NamesFile

if TYPE_CHECKING:
    import annotated_types

__all__ = ["ParameterSpec", "ParameterValue", "parameters_of", "plain"]

ParameterValue: TypeAlias = (
    "bool | int | float | str | tuple[ParameterValue, ...] | dict[str, ParameterValue] | None"
)
"""What a parameter may be: plain, immutable in practice, and with a literal form."""

_LARGEST_INTEGER = 2**63
"""What has to be read back from source is smaller, on either side of 0."""

_WORDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """One parameter of a function.

    Attributes
    ----------
    name
        The keyword.
    annotation
        Type that values have to have, with the bounds and the unit that stand in `Annotated`;
        `typing.Any` where the function states none.
    default
        Value when none is given.
    required
        Whether one has to be given; `default` is None then.
    """

    name: str
    annotation: Any
    default: Any
    required: bool

    @property
    def unit(self) -> str:
        """Unit of the value, such as ``µm``; empty without."""
        for note in _notes(self.annotation):
            unit = getattr(note, "unit", None)
            if isinstance(unit, str):
                return unit
        return ""

    @property
    def is_file(self) -> bool:
        """Whether the value names a file that the function reads."""
        return any(isinstance(note, NamesFile) for note in _notes(self.annotation))

    @property
    def type_text(self) -> str:
        """The type in words, without bounds and unit."""
        return _spelled(self.annotation)

    @property
    def allowed(self) -> str:
        """What values are allowed: the type, or the choices, with bounds and unit."""
        bounds = _bounds_text(self.annotation)
        return f"{self.type_text}{f', {bounds}' if bounds else ''}"

    @property
    def choices(self) -> tuple[ParameterValue, ...]:
        """The only values that are allowed; empty when there are more than a few."""
        return tuple(_choices(self.annotation))

    def problem(self, value: ParameterValue) -> str | None:
        """Say what is wrong with a value.

        Parameters
        ----------
        value
            In plain form, as `plain` gives it.

        Returns
        -------
        str | None
            What is allowed and what was given, to follow the parameter's name; None when the
            value fits.
        """
        if _fits(value, self.annotation):
            return None
        return f"is {self.allowed}, not {value!r}{_close_choice(value, self.choices)}"


def parameters_of(call: Callable[..., Any], bound: frozenset[str]) -> Mapping[str, ParameterSpec]:
    """Give the parameters of a function that a pipeline may set, in its own order.

    Parameters
    ----------
    call
        The function; its first parameter takes what it works on and is none of them.
    bound
        Names of parameters that are filled by the framework.

    Raises
    ------
    ValueError
        If the function tells nothing about its parameters.
    """
    first, *rest = inspect.signature(call).parameters.values()
    if first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        rest.insert(0, first)
    return {
        parameter.name: ParameterSpec(
            name=parameter.name,
            annotation=_annotation(call, parameter),
            default=None if parameter.default is parameter.empty else parameter.default,
            required=parameter.default is parameter.empty,
        )
        for parameter in rest
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in bound
    }


def plain(value: object) -> ParameterValue:
    """Turn lists to tuples.

    Raises
    ------
    TypeError
        If the value has no literal form, such as an array, or a number that is not finite, or that
        no source may hold since it is larger than 64 bits.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if type(value) is int and abs(value) < _LARGEST_INTEGER:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(
        f"a finite number, text, True, False, None, or a tuple or dict of these, not {value!r}"
    )


def _annotation(call: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Resolve one annotation; names that exist for type checkers alone leave it open."""
    if parameter.annotation is parameter.empty:
        return Any

    def holder() -> None: ...

    holder.__annotations__ = {parameter.name: parameter.annotation}
    try:
        hints = typing.get_type_hints(
            holder,
            globalns=getattr(inspect.unwrap(call), "__globals__", {}),
            include_extras=True,
        )
    except NameError:
        return Any
    return hints[parameter.name]


def _notes(annotation: Any) -> Sequence[Any]:
    """Give what stands beside the type in `Annotated`, also within a union."""
    if typing.get_origin(annotation) is Annotated:
        return [*annotation.__metadata__, *_notes(annotation.__origin__)]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [note for part in typing.get_args(annotation) for note in _notes(part)]
    return []


def _fits(value: ParameterValue, annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is Annotated:
        return _fits(value, annotation.__origin__) and all(
            _within(value, note) for note in annotation.__metadata__
        )
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
        return isinstance(value, tuple) and (
            not arguments or all(_fits(item, arguments[0]) for item in value)
        )
    if container in (dict, Mapping):
        return isinstance(value, dict) and (
            not arguments or all(_fits(item, arguments[1]) for item in value.values())
        )
    return isinstance(annotation, type) and isinstance(value, annotation)


def _within(value: Any, note: annotated_types.BaseMetadata | object) -> bool:
    """Hold a value against one bound of annotated-types; anything else beside the type is text."""
    for name, holds in _BOUNDS.items():
        bound = getattr(note, name, None)
        if bound is not None and not holds(value, bound):
            return False
    step = getattr(note, "multiple_of", None)
    if step is not None and value % step:
        return False
    least, most = getattr(note, "min_length", None), getattr(note, "max_length", None)
    if least is not None and len(value) < least:
        return False
    return most is None or len(value) <= most


_BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gt": lambda value, bound: value > bound,
    "ge": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "le": lambda value, bound: value <= bound,
}


def _bounds_text(annotation: Any) -> str:
    """Write bounds and unit: ``more than 0 and at most 5 µm``."""
    words: list[str] = []
    unit = ""
    for note in _notes(annotation):
        words.extend(
            f"{text} {bound:g}"
            for name, text in _WORDS.items()
            if (bound := getattr(note, name, None)) is not None
        )
        if getattr(note, "multiple_of", None) is not None:
            words.append(f"a multiple of {note.multiple_of:g}")
        if getattr(note, "min_length", None):
            words.append(f"{note.min_length} or more of them")
        unit = getattr(note, "unit", None) or unit
    text = " and ".join(dict.fromkeys(words))
    if not unit:
        return text
    return f"{text} {unit}" if text else f"in {unit}"


def _spelled(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return "any value"
    if origin is Annotated:
        return _spelled(annotation.__origin__)
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_spelled(choice) for choice in arguments))
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and origin is None:
        return annotation.__name__
    if origin in (tuple, list, dict) and arguments:
        inside = ", ".join("..." if part is Ellipsis else _spelled(part) for part in arguments)
        return f"{origin.__name__}[{inside}]"
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _choices(annotation: Any) -> Sequence[ParameterValue]:
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _choices(annotation.__origin__)
    if origin is typing.Literal:
        return typing.get_args(annotation)
    if annotation is bool:
        return (True, False)
    if origin in (typing.Union, types.UnionType):
        parts = [_choices(part) for part in typing.get_args(annotation)]
        return [choice for part in parts for choice in part]
    return ()


def _close_choice(value: ParameterValue, choices: Sequence[ParameterValue]) -> str:
    if not isinstance(value, str):
        return ""
    texts = [choice for choice in choices if isinstance(choice, str)]
    close = difflib.get_close_matches(value, texts, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
