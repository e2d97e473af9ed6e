"""Types of parameters, with the bounds and the units that they share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from annotated_types import Ge, Gt, Interval, Unit

__all__ = ["Counts", "Factor", "Fraction", "LengthUm", "PositivePx", "PositiveUm"]

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
