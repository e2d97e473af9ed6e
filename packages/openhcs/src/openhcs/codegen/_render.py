"""Values written as Python source that reads well and evaluates back to the same values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from openhcs.codegen._names import Call, Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from openhcs.codegen._names import SourceValue

__all__ = ["render"]

_WIDTH = 100
_INDENT = "    "


def render(target: str, value: SourceValue) -> str:
    """Write an assignment as Python source, with the imports that it needs.

    Parameters
    ----------
    target
        Name that is assigned to.
    value
        Calls, names and literals. Keywords keep their order.

    Returns
    -------
    str
        Source text that ends with a line end; lines are at most 100 characters where the text
        can be broken.

    Raises
    ------
    TypeError
        If a value has no literal form, such as an array.
    ValueError
        If a number is not finite: Python has no literal for it. If two names are alike and of
        different modules.

    Examples
    --------
    >>> from openhcs.codegen import Call, Name, render
    >>> step = Call(Name("openhcs", "Step"), (Name("openhcs.functions", "stitch"),))
    >>> print(render("pipeline", Call(Name("openhcs", "Pipeline"), (step,), spread=True)), end="")
    from openhcs import Pipeline, Step
    from openhcs.functions import stitch
    <BLANKLINE>
    pipeline = Pipeline(
        Step(stitch),
    )
    """
    modules: dict[str, set[str]] = {}
    givers: dict[str, str] = {}
    for name in _names(value):
        if givers.setdefault(name.name, name.module) != name.module:
            message = (
                f"{name.name!r} of {givers[name.name]!r} and of {name.module!r} cannot stand in "
                "one text: rename one of them"
            )
            raise ValueError(message)
        modules.setdefault(name.module, set()).add(name.name)
    imports = [_import(module, sorted(names)) for module, names in sorted(modules.items())]
    if imports:
        imports.append("\n")
    prefix = f"{target} = "
    return "".join([*imports, prefix, _written(value, "", len(prefix), 1), "\n"])


def _names(value: SourceValue) -> Iterator[Name]:
    if isinstance(value, Name):
        yield value
        return
    parts: Iterable[SourceValue] = ()
    if isinstance(value, Call):
        yield value.function
        parts = (*value.arguments, *value.keywords.values())
    elif isinstance(value, tuple | list):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.values()
    for part in parts:
        yield from _names(part)


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= _WIDTH:
        return line + "\n"
    return f"from {module} import (\n" + "".join(f"{_INDENT}{name},\n" for name in names) + ")\n"


_Part: TypeAlias = "tuple[str, SourceValue]"


def _written(value: SourceValue, indent: str, before: int, after: int) -> str:
    """Write one value; `before` and `after` are what else stands on its line, in characters."""
    flat = _flat(value)
    if flat is not None and len(indent) + before + len(flat) + after <= _WIDTH:
        return flat
    opening, parts, closing = _parts(value)
    if not parts:
        return flat if flat is not None else opening + closing
    inner = indent + _INDENT
    lines = [f"{inner}{label}{_written(part, inner, len(label), 1)},\n" for label, part in parts]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def _parts(value: SourceValue) -> tuple[str, list[_Part], str]:
    if isinstance(value, Call):
        keywords = [(f"{name}=", part) for name, part in value.keywords.items()]
        return f"{value.function.name}(", [("", part) for part in value.arguments] + keywords, ")"
    if isinstance(value, tuple):
        return "(", [("", part) for part in value], ")"
    if isinstance(value, list):
        return "[", [("", part) for part in value], "]"
    if isinstance(value, dict):
        return "{", [(f"{_atom(key)}: ", part) for key, part in value.items()], "}"
    return "", [], ""


def _flat(value: SourceValue) -> str | None:
    """Write a value on one line; None when it holds a call that is to be spread."""
    if isinstance(value, Call) and value.spread and (value.arguments or value.keywords):
        return None
    if not isinstance(value, Call | tuple | list | dict):
        return _atom(value)
    opening, parts, closing = _parts(value)
    texts: list[str] = []
    for label, part in parts:
        text = _flat(part)
        if text is None:
            return None
        texts.append(label + text)
    if isinstance(value, tuple) and len(texts) == 1:
        closing = ",)"
    return opening + ", ".join(texts) + closing


def _atom(value: SourceValue) -> str:
    if isinstance(value, Name):
        return value.name
    if isinstance(value, tuple):
        return _flat(value) or ""
    # Spelled by the type itself: text of NumPy and members of enumerations have their own repr.
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            message = f"{value} cannot be written as a literal: give a finite number"
            raise ValueError(message)
        return float.__repr__(value)
    if isinstance(value, str):
        text = str.__repr__(value)
        # Double quotes as formatters have them; repr has chosen single ones only where it may.
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    message = f"{value!r} of type {type(value).__name__} has no literal form"
    raise TypeError(message)
