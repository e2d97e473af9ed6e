"""``openhcs functions``: what pipelines can be made of, listed, searched and explained."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from rich.console import Console

    from openhcs.cli._commands import Commands
    from openhcs.functions import FunctionSpec

__all__ = ["add_to"]

_ABOUT = (
    "Without words, list all functions. One function's name, or a library's module and name such "
    "as skimage.filters.gaussian, shows its help; a library's module lists what it offers; other "
    "words are searched for in names and help."
)

_STEP = " " * 4


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "functions", help="list, search and explain functions", description=_ABOUT
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="a name, a module, or words")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs._errors import MisuseError

    found, explain = _found(arguments.words)
    if not found:
        message = f"no function has to do with {' '.join(arguments.words)!r}"
        raise MisuseError(message)
    if arguments.json:
        print(json.dumps([_values(name, spec) for name, spec in found.items()], indent=2))
    elif explain:
        _explain(*next(iter(found.items())))
    else:
        _list(found)
    return 0


def _found(words: list[str]) -> tuple[Mapping[str, FunctionSpec], bool]:
    """Give the functions that are meant, and whether one of them was asked for by its name."""
    from openhcs.functions import (
        LIBRARIES,
        REGISTRY,
        adapt,
        installed_functions,
        installed_modules,
        library_functions,
    )

    known = dict(REGISTRY)
    for module in installed_modules():
        known.update(
            (f"{module}.{name}", spec) for name, spec in installed_functions(module).items()
        )
    if len(words) == 1:
        (word,) = words
        if word in known:
            return {word: known[word]}, True
        if word in LIBRARIES:
            return {
                f"{word}.{name}": adapt(f"{word}.{name}") for name in library_functions(word)
            }, False
        if LIBRARIES.allows(word):
            return {word: adapt(word)}, True
    wanted = [word.lower() for word in words]
    return {
        name: spec
        for name, spec in known.items()
        if all(word in _searched(name, spec) for word in wanted)
    }, False


def _searched(name: str, spec: FunctionSpec) -> str:
    """Give all text in which words are looked for; ``gpu`` finds what can compute there."""
    return f"{name}\n{spec.call.__doc__ or ''}\n{'gpu' if spec.gpu else ''}".lower()


def _list(found: Mapping[str, FunctionSpec]) -> None:
    from openhcs.cli._console import make_console

    out = make_console()
    for name, spec in found.items():
        out.print(name, style="bold")
        _write(out, spec.summary, _STEP)
        _write(out, f"sees {_sees(spec)}; gives {_gives(spec)}", _STEP)


def _explain(name: str, spec: FunctionSpec) -> None:
    from openhcs.cli._console import make_console

    out = make_console()
    help_ = _help(spec)
    out.print(name, style="bold")
    _write(out, spec.summary)
    if help_["text"]:
        out.print()
        _write(out, help_["text"])
    out.print()
    _write(out, f"sees {_sees(spec)}; gives {_gives(spec)}")
    for parameter, (kind, output) in spec.inputs.items():
        source = f"{output} of an earlier step" if output else f"the latest {kind}"
        _write(out, f"takes {source} as {parameter}")
    if spec.gpu:
        _write(out, f"can compute on a GPU, through {spec.gpu}: device='gpu'")
    if spec.missing:
        _write(out, f"needs {', '.join(spec.missing)}, not installed here")
    for each in spec.parameters.values():
        out.print()
        default = "" if each.required else f" = {each.default!r}"
        out.print(f"{each.name}{default}", style="bold")
        _write(out, each.allowed, _STEP)
        _write(out, help_["parameters"].get(each.name, ""), _STEP)
    if help_["notes"]:
        out.print()
        _write(out, help_["notes"])


def _write(out: Console, text: str, indent: str = "") -> None:
    """Print paragraphs as wide as the console is; lines that are set in stay as they are."""
    for part in re.split(r"\n(?=\s|[-*] )|(?<=\n)\n", text.replace("``", "")):
        if part[:1].isspace():
            out.print(indent + part.rstrip(), soft_wrap=True)
        else:
            words = " ".join(part.split())
            out.print(
                textwrap.fill(words, out.width, initial_indent=indent, subsequent_indent=indent)
            )


def _help(spec: FunctionSpec) -> dict[str, Any]:
    """Give a docstring's own words: about the whole, about each parameter, and its notes."""
    import docstring_parser

    parsed = docstring_parser.parse(spec.call.__doc__ or "")
    about: dict[str, str] = {}
    for part in parsed.params:
        for name in part.arg_name.split(","):
            about[name.strip()] = " ".join((part.description or "").split())
    notes = [
        meta.description or ""
        for meta in parsed.meta
        if meta.args and meta.args[0] in ("note", "notes")
    ]
    return {
        "text": parsed.long_description or "",
        "parameters": about,
        "notes": "\n\n".join(notes),
    }


def _sees(spec: FunctionSpec) -> str:
    return str(spec.axes).replace("_", " and ")


def _gives(spec: FunctionSpec) -> str:
    return ", ".join(
        str(output.kind) if output.name == str(output.kind) else f"{output.name} ({output.kind})"
        for output in spec.outputs
    )


def _values(name: str, spec: FunctionSpec) -> dict[str, Any]:
    help_ = _help(spec)
    return {
        "name": name,
        "summary": spec.summary,
        "axes": str(spec.axes),
        "outputs": [{"name": out.name, "kind": str(out.kind)} for out in spec.outputs],
        "inputs": {key: {"kind": str(k), "output": o} for key, (k, o) in spec.inputs.items()},
        "missing": list(spec.missing),
        "gpu": spec.gpu,
        "parameters": [
            {
                "name": each.name,
                "allowed": each.allowed,
                "unit": each.unit,
                "choices": list(each.choices),
                "required": each.required,
                "default": each.default if _is_json(each.default) else repr(each.default),
                "help": help_["parameters"].get(each.name, ""),
            }
            for each in spec.parameters.values()
        ],
    }


def _is_json(value: object) -> bool:
    from openhcs.functions import plain

    try:
        plain(value)
    except TypeError:
        return False
    return True
