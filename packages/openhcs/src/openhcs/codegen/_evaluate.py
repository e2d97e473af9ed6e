"""Source text read back to values through an allow-list; nothing in the text is ever executed.

The text is parsed, and the parsed tree is walked by hand. What the walk does not know, it refuses
with file, line and column.
"""

from __future__ import annotations

import ast
import difflib
from contextlib import suppress
from typing import TYPE_CHECKING

from openhcs._errors import ParameterError, SourceError
from openhcs.codegen._names import Constructor, Names, Place, Reference
from openhcs.codegen._scope import Scope, UnclearError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["LARGEST_SOURCE_CHARACTERS", "evaluate"]

LARGEST_SOURCE_CHARACTERS = 128 * 1024
"""Longer text is refused unread; a pipeline of two hundred steps, the most, has a tenth of it."""

_DEEPEST = 40
"""More than a pipeline's parts may stand within each other, with the values of their parameters."""
_MOST_ITEMS = 4096
_MOST_VALUES = 20_000
"""Values that a text may stand for, each counted as often as a name brings it in again: a few
lines of names made of names stand for more than any computer holds."""
_CHARACTERS = 64
"""A piece of text counts as one value for every so many characters."""
_MOST_PROBLEMS = 50
_LONGEST_SUGGESTED = 100
_LARGEST_INTEGER = 2**63
_WHAT = {
    ast.Import: "an import of a whole module",
    ast.FunctionDef: "a function definition",
    ast.AsyncFunctionDef: "a function definition",
    ast.ClassDef: "a class definition",
    ast.Attribute: "an attribute",
    ast.Subscript: "an index",
    ast.Lambda: "a lambda",
    ast.BinOp: "arithmetic",
    ast.BoolOp: "a condition",
    ast.Compare: "a comparison",
    ast.IfExp: "a condition",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.JoinedStr: "an f-string",
    ast.Starred: "an unpacked argument",
    ast.NamedExpr: "an assignment inside an expression",
    ast.AugAssign: "an augmented assignment",
    ast.AnnAssign: "an annotated assignment",
    ast.Set: "a set",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.If: "a condition",
    ast.With: "a with block",
    ast.Try: "a try block",
    ast.Delete: "a deletion",
    ast.Await: "an await",
    ast.Expr: "an expression without effect",
}


class _Broken:
    """Stands for a value that could not be read; what is made of it is broken too."""


_BROKEN = _Broken()


def evaluate(
    source: str,
    filename: str,
    names: Names,
    target: str,
    *,
    find: Callable[[str], Mapping[str, Constructor | Reference] | None] = lambda _: None,
) -> object:
    """Read source text and give the value that it assigns to a name.

    Allowed are import lines that name allowed names, assignments of a single name, literals of
    numbers, text, tuples, lists and dicts, names that the text assigned before, references, and
    calls of constructors. Import lines may be left out.

    Parameters
    ----------
    source
        Python text, at most `LARGEST_SOURCE_CHARACTERS` long.
    filename
        How messages call the text.
    names
        What the text may use.
    target
        The name whose value is wanted.
    find
        Asked for a module that `names` does not have, when the text imports from it; gives what
        the text may use of it, or None.

    Returns
    -------
    object
        What was assigned to `target` last.

    Raises
    ------
    SourceError
        If the text holds anything else, is too long, too deeply nested or stands for too many
        values, or does not assign `target`. The message has a line for each problem, which begins
        with ``filename:line:column``; after fifty of them the rest is not read.
    """
    if len(source) > LARGEST_SOURCE_CHARACTERS:
        message = (
            f"{filename}:1:1: the text has {len(source)} characters, "
            f"at most {LARGEST_SOURCE_CHARACTERS} are read"
        )
        raise SourceError(message)
    return _Evaluator(filename, names, find).value_of(_parse(source, filename), target)


def _parse(source: str, filename: str) -> ast.Module:
    try:
        return ast.parse(source, filename)
    except SyntaxError as error:
        text = f"{filename}:{error.lineno or 1}:{max(error.offset or 1, 1)}: {error.msg}"
        raise SourceError(text) from error
    except ValueError as error:
        message = f"{filename}:1:1: {error}"
        raise SourceError(message) from error
    except (MemoryError, RecursionError) as error:
        # The parser gives up on text nested thousands deep in either of these ways.
        message = f"{filename}:1:1: nested too deeply to be read"
        raise SourceError(message) from error


class _TooMuchError(Exception):
    """The text is not read any further; what was wrong is among the problems."""


def _suggestion(name: str, known: Iterable[str]) -> str:
    if len(name) > _LONGEST_SUGGESTED:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _instead(module: str, known: Iterable[str]) -> str:
    """Say what may be imported from: what is close, or all that there is."""
    allowed = [repr(name) for name in known]
    there = f"; there are {', '.join(allowed)} and packages that register functions"
    return _suggestion(module, known) or there


class _Evaluator:
    """One reading of one text."""

    def __init__(
        self,
        filename: str,
        names: Names,
        find: Callable[[str], Mapping[str, Constructor | Reference] | None],
    ) -> None:
        self._filename = filename
        self._scope = Scope(names, find)
        self._problems: list[str] = []
        self._assigned: dict[str, object] = {}
        self._values = 0
        self._weights: dict[str, int] = {}

    def value_of(self, module: ast.Module, target: str) -> object:
        body = module.body
        if body and isinstance(body[0], ast.Expr) and _is_text(body[0].value):
            body = body[1:]
        with suppress(_TooMuchError):
            for statement in body:
                try:
                    self._statement(statement)
                except SourceError as error:
                    self._note(error)
        if self._problems:
            raise SourceError("\n".join(self._problems))
        if target not in self._assigned:
            message = f"{self._filename}:1:1: nothing is assigned to {target!r}"
            if self._assigned:
                message += f"; only to {', '.join(map(repr, self._assigned))}"
            raise SourceError(message)
        return self._assigned[target]

    def _note(self, error: SourceError) -> None:
        """Keep a problem, and read no further when there are many."""
        self._problems.append(str(error))
        if len(self._problems) >= _MOST_PROBLEMS:
            self._problems.append(f"{self._filename}: and what comes after that was not read")
            raise _TooMuchError

    def _count(self, node: ast.AST, values: int) -> None:
        """Count what the text stands for, and read no further when it is too much."""
        self._values += values
        if self._values > _MOST_VALUES:
            message = (
                f"the text stands for more than {_MOST_VALUES} values up to here, counted as often "
                "as names bring them in again"
            )
            self._problems.append(str(self._error(node, message)))
            raise _TooMuchError

    def _error(self, node: ast.AST, message: str) -> SourceError:
        line = getattr(node, "lineno", 1)
        column = getattr(node, "col_offset", 0) + 1
        return SourceError(f"{self._filename}:{line}:{column}: {message}")

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ImportFrom):
            self._import(node)
        elif isinstance(node, ast.Assign):
            self._assign(node)
        else:
            what = _WHAT.get(type(node), f"a {type(node).__name__} statement")
            allowed = ", ".join(f"'from {module} import ...'" for module in self._scope.modules)
            raise self._error(node, f"{what} is not allowed; allowed are assignments and {allowed}")

    def _import(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        known = self._scope.module(module)
        if known is None:
            raise self._error(
                node,
                f"nothing may be imported from {module!r}{_instead(module, self._scope.modules)}",
            )
        for alias in node.names:
            if alias.asname is not None:
                self._broken(alias, f"{alias.name!r} cannot be renamed: use it under its own name")
            if alias.name not in known:
                advice = _suggestion(alias.name, known)
                self._broken(alias, f"{module!r} has no {alias.name!r}{advice}")
                continue
            try:
                self._scope.bind(module, alias.name)
            except UnclearError as error:
                self._broken(alias, str(error))

    def _broken(self, alias: ast.alias, message: str) -> None:
        """Note a name that cannot be imported; where it is used, nothing more is said of it."""
        self._note(self._error(alias, message))
        self._assigned[alias.asname or alias.name] = _BROKEN

    def _assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
            raise self._error(node, "assign to one plain name at a time")
        name = node.targets[0].id
        if name in self._scope:
            raise self._error(node.targets[0], f"{name!r} is taken and cannot be assigned to")
        if name.startswith("__"):
            raise self._error(node.targets[0], f"{name!r} is not a name for a value of yours")
        before = self._values
        self._assigned[name] = self._attempt(node.value, 0)
        self._weights[name] = self._values - before

    def _attempt(self, node: ast.expr, depth: int) -> object:
        """Give a value, or note what is wrong with it and go on with the rest of the text."""
        try:
            return self._value(node, depth)
        except SourceError as error:
            self._note(error)
            return _BROKEN

    def _value(self, node: ast.expr, depth: int) -> object:
        if depth > _DEEPEST:
            raise self._error(node, f"nested more than {_DEEPEST} deep")
        self._count(node, 1)
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                if isinstance(number, bool):
                    raise self._error(node, "True and False have no negative")
                return -self._number(node, number)
            case ast.Name():
                return self._name(node)
            case ast.Tuple(elts=items):
                return _whole(self._items(node, items, depth), tuple)
            case ast.List(elts=items):
                return _whole(self._items(node, items, depth), list)
            case ast.Dict():
                return self._dict(node, depth)
            case ast.Call():
                return self._call(node, depth)
            case _:
                what = _WHAT.get(type(node), f"an expression of kind {type(node).__name__}")
                raise self._error(
                    node, f"{what} is not allowed; values are literals, names and calls"
                )

    def _constant(self, node: ast.Constant) -> object:
        value = node.value
        if isinstance(value, str):
            self._count(node, len(value) // _CHARACTERS)
            return value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._number(node, value)
        raise self._error(node, f"a literal of type {type(value).__name__} is not allowed")

    def _number(self, node: ast.expr, value: float) -> float:
        if isinstance(value, int) and value >= _LARGEST_INTEGER:
            raise self._error(node, "the integer is larger than 64 bits")
        if value == float("inf"):
            raise self._error(node, "the number is too large for a float")
        return value

    def _name(self, node: ast.Name) -> object:
        if node.id in self._assigned:
            self._count(node, self._weights.get(node.id, 0))
            return self._assigned[node.id]
        entry = self._entry(node)
        if isinstance(entry, Reference):
            return entry.value
        if isinstance(entry, Constructor):
            raise self._error(node, f"{node.id!r} has to be called: write {node.id}(...)")
        known = [*self._assigned, *self._scope]
        raise self._error(node, f"unknown name {node.id!r}{_suggestion(node.id, known)}")

    def _entry(self, node: ast.Name) -> Constructor | Reference | None:
        """Give what a name stands for that the text did not assign."""
        try:
            return self._scope.get(node.id)
        except UnclearError as error:
            raise self._error(node, str(error)) from error

    def _items(self, node: ast.expr, items: list[ast.expr], depth: int) -> list[object]:
        if len(items) > _MOST_ITEMS:
            raise self._error(node, f"{len(items)} items, at most {_MOST_ITEMS} are read")
        return [self._attempt(item, depth + 1) for item in items]

    def _dict(self, node: ast.Dict, depth: int) -> object:
        result: dict[object, object] = {}
        keys = [key for key in node.keys if key is not None]
        if len(keys) != len(node.keys):
            raise self._error(node, "a dict unpacked into another is not allowed")
        values = self._items(node, node.values, depth)
        for key_node, value in zip(keys, values, strict=True):
            key = self._value(key_node, depth + 1)
            if not isinstance(key, str | int | float | None):
                raise self._error(key_node, "keys are text or numbers")
            if key in result:
                raise self._error(key_node, f"the key {key!r} stands here twice")
            result[key] = value
        return _whole(result.values(), lambda _: result)

    def _call(self, node: ast.Call, depth: int) -> object:
        if not isinstance(node.func, ast.Name):
            what = _WHAT.get(type(node.func), "this")
            raise self._error(node.func, f"{what} cannot be called; call a name")
        name = node.func.id
        if self._assigned.get(name) is _BROKEN:
            return _BROKEN
        entry = self._entry(node.func)
        if not isinstance(entry, Constructor):
            constructors = list(self._scope.constructors)
            if isinstance(entry, Reference):
                advice = f"hand it over by its name, as in {constructors[-1]}({name})"
                raise self._error(node.func, f"{name!r} is not called here: {advice}")
            advice = _suggestion(name, constructors)
            raise self._error(node.func, f"{name!r} is nothing that may be called{advice}")
        arguments = self._items(node, node.args, depth)
        keywords: dict[str, object] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self._error(keyword, "unpacked keywords are not allowed: write them out")
            if keyword.arg in keywords:
                raise self._error(keyword, f"{keyword.arg!r} is given twice")
            keywords[keyword.arg] = self._attempt(keyword.value, depth + 1)
        if any(value is _BROKEN for value in (*arguments, *keywords.values())):
            return _BROKEN
        if entry.placed:
            arguments.insert(0, Place(self._filename, node.lineno))
        try:
            return entry.build(*arguments, **keywords)
        except ParameterError as error:
            located = [self._located(node, each) for each in (error, *error.others)]
            raise SourceError("\n".join(located)) from error

    def _located(self, node: ast.Call, error: ParameterError) -> str:
        place: ast.AST = node
        if isinstance(error.argument, int) and error.argument < len(node.args):
            place = node.args[error.argument]
        for keyword in node.keywords:
            if keyword.arg == error.argument:
                place = keyword
        line = getattr(place, "lineno", 1)
        return f"{self._filename}:{line}:{getattr(place, 'col_offset', 0) + 1}: {error}"


def _whole(values: Iterable[object], make: Callable[[Iterable[object]], object]) -> object:
    """Make a container, unless a value in it is broken."""
    return _BROKEN if any(value is _BROKEN for value in values) else make(values)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
