"""Where in an experiment a payload belongs: plate, step, well, field, channel, z and t.

The names are those of a screening plate. ``field`` is what ImageXpress calls a site; ``field``,
``channel``, ``z`` and ``t`` are dense numbers that start at 0. A component that does not apply is
None: a stitched image has no field, a projection no z.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polystore._errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMPONENTS", "ComponentValue", "Components", "sort_key"]

ComponentValue = str | int
"""Plates, steps and wells are named, the others are numbered."""

COMPONENTS = ("plate", "step", "well", "field", "channel", "z", "t")
"""Names of all components, in the order in which they are sorted and shown."""

_PREFIX = {"plate": "", "step": "", "well": "", "field": "f", "channel": "c", "z": "z", "t": "t"}
_NAMED = ("plate", "step", "well")
_NUMBERED = ("field", "channel", "z", "t")
_MOST = 2**31 - 1
_WELL = re.compile(r"([A-Za-z]+)0*([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Where a payload belongs.

    Attributes
    ----------
    plate
        What tells its plate from all others, such as the name.
    step
        Name of the pipeline step that made it.
    well
        ``"B03"``.
    field, channel, z, t
        Counted from 0.

    Raises
    ------
    PayloadError
        If a name is empty or longer than 256 characters, or a number is negative.
    """

    plate: str | None = None
    step: str | None = None
    well: str | None = None
    field: int | None = None
    channel: int | None = None
    z: int | None = None
    t: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("plate", self.plate), ("step", self.step), ("well", self.well)):
            if value is not None and not (type(value) is str and 0 < len(value) <= 256):
                raise PayloadError(f"{name} has to be a name of 1 to 256 characters: {value!r}")
        for name, number in (
            ("field", self.field),
            ("channel", self.channel),
            ("z", self.z),
            ("t", self.t),
        ):
            # numpy integers come out of every table; a bool is never a field number
            if number is None or (type(number) is int and 0 <= number <= _MOST):
                continue
            object.__setattr__(self, name, _plain_int(name, number))

    def get(self, name: str) -> ComponentValue | None:
        """Value of the component called `name`, or None where it does not apply.

        Raises
        ------
        PayloadError
            If there is no component of this name.
        """
        if name not in _PREFIX:
            raise PayloadError(
                f"no component is called {name!r}; there are {', '.join(COMPONENTS)}"
            )
        value: ComponentValue | None = getattr(self, name)
        return value

    def to_dict(self) -> dict[str, ComponentValue]:
        """Components that apply, by name, in the order of `COMPONENTS`."""
        return {name: value for name in COMPONENTS if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, ComponentValue]) -> Components:
        """Make components from names and values.

        Raises
        ------
        PayloadError
            If a name is unknown or a value does not fit it.
        """
        if unknown := values.keys() - _PREFIX.keys():
            raise PayloadError(
                f"no component is called {', '.join(sorted(unknown))}; there are "
                f"{', '.join(COMPONENTS)}"
            )
        names: dict[str, str | None] = {}
        for name in _NAMED:
            text = values.get(name)
            if isinstance(text, int):
                raise PayloadError(f"{name} is a name, not a number: {text!r}")
            names[name] = text
        numbers: dict[str, int | None] = {}
        for name in _NUMBERED:
            value = values.get(name)
            if isinstance(value, str):
                raise PayloadError(f"{name} is a number, not {value!r}")
            numbers[name] = value
        return cls(plate=names["plate"], step=names["step"], well=names["well"], **numbers)

    def label(self) -> str:
        """Short text for people, as ``"stitch B03 f1 c2"``."""
        return " ".join(f"{_PREFIX[name]}{value}" for name, value in self.to_dict().items())


def sort_key(value: ComponentValue) -> tuple[int, int, str, int, str]:
    """Key that puts values of one component in the order people expect.

    Numbers in order of size; wells row by row (``B03`` before ``AA01``, ``A2`` before ``A10``);
    other names in the order of the alphabet.
    """
    if isinstance(value, int):
        return (0, value, "", 0, "")
    if match := _WELL.fullmatch(value):
        row, column = match.groups()
        return (1, len(row), row.upper(), int(column), value)
    return (2, 0, value, 0, "")


def _plain_int(name: str, number: object) -> int:
    index = getattr(number, "__index__", None)
    if index is not None and type(number) is not bool:
        plain = index()
        if type(plain) is int and 0 <= plain <= _MOST:
            return plain
    raise PayloadError(f"{name} has to be a whole number from 0 to {_MOST}: {number!r}")
