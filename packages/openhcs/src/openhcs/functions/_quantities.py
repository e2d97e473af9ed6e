"""Types of parameters, with the bounds and the units that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt, Interval, Unit

__all__ = [
    "Counts",
    "Factor",
    "FileName",
    "Fraction",
    "LengthUm",
    "NamesFile",
    "PositivePx",
    "PositiveUm",
]


@dataclass(frozen=True, slots=True)
class NamesFile:
    """Beside the type of a parameter: its value names a file that the function reads."""


FileName: TypeAlias = Annotated[str, NamesFile()]
"""Name of a file to read. On a server it is looked for below the roots that this one allows."""

PositiveUm: TypeAlias = Annotated[float, Gt(0), Unit("µm")]
"""A length in µm above 0."""

LengthUm: TypeAlias = Annotated[float, Ge(0), Unit("µm")]
"""A length in µm; 0 switches off what it is for."""

PositivePx: TypeAlias = Annotated[float, Gt(0), Unit("px")]
"""A length in pixels above 0."""

Fraction: TypeAlias = Annotated[float, Interval(ge=0, le=1)]
"""A part of a whole, 0 to 1."""

Factor: TypeAlias = Annotated[float, Gt(0)]
"""A factor above 0."""

Counts: TypeAlias = Annotated[float, Ge(0), Unit("counts")]
"""A level of brightness in the units of the pixels."""
