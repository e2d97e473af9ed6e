"""Python source as a file format: written by `render`, read by `evaluate`, never executed."""

from __future__ import annotations

from openhcs.codegen._evaluate import LARGEST_SOURCE_CHARACTERS, evaluate
from openhcs.codegen._names import (
    Call,
    Constructor,
    Literal,
    Name,
    Names,
    Place,
    Reference,
    SourceValue,
)
from openhcs.codegen._render import render

__all__ = [
    "LARGEST_SOURCE_CHARACTERS",
    "Call",
    "Constructor",
    "Literal",
    "Name",
    "Names",
    "Place",
    "Reference",
    "SourceValue",
    "evaluate",
    "render",
]
