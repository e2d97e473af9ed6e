"""What source text may say: the names it may use, and the calls it may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = [
    "Call",
    "Constructor",
    "Literal",
    "Name",
    "Names",
    "Place",
    "Reference",
    "SourceValue",
]

Literal: TypeAlias = (
    "bool | int | float | str | tuple[Literal, ...] | list[Literal] | Mapping[str, Literal] | None"
)
"""A value that source text can spell out."""


@dataclass(frozen=True, slots=True)
class Constructor:
    """A name that may be called.

    Attributes
    ----------
    build
        Called with the evaluated arguments. It may raise `openhcs._errors.ParameterError`, which
        is reported at the argument that the error names.
    placed
        Whether `build` is told where the call stands: a `Place` before the other arguments.
    """

    build: Callable[..., object]
    placed: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a text.

    Attributes
    ----------
    filename
        How messages call the text.
    line
        Counted from 1.
    """

    filename: str
    line: int

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that stands for a value and may not be called."""

    value: object


Names: TypeAlias = Mapping[str, Mapping[str, Constructor | Reference]]
"""The allow-list: by module, then by name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name from the allow-list, to be written as it is and imported from its module."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be written: its function, its arguments in order, its keywords.

    Attributes
    ----------
    spread
        Whether each argument gets a line of its own even when all would fit on one.
    """

    function: Name
    arguments: tuple[SourceValue, ...] = ()
    keywords: Mapping[str, SourceValue] = field(default_factory=dict)
    spread: bool = False


SourceValue: TypeAlias = (
    "Call | Name | Literal | tuple[SourceValue, ...] | list[SourceValue] | "
    "Mapping[str, SourceValue]"
)
"""Anything that can be written."""
