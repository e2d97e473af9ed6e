"""Harmony's flat-field profile: a text in braces that is neither JSON nor YAML."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

from openhcs.plates._profile import PolynomialProfile

__all__ = ["Node", "parse_braces", "parse_flatfield"]

Node: TypeAlias = "dict[str, Node] | list[Node] | str"

_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_KEY = re.compile(r"([^:{}\[\],]*):")
_BARE = re.compile(r"[^,{}\[\]]*")
_DEEPEST = 32


def parse_flatfield(text: str) -> PolynomialProfile | None:
    """Read the illumination profile of a channel.

    Parameters
    ----------
    text
        Content of a ``FlatfieldProfile`` element.

    Returns
    -------
    PolynomialProfile | None
        That of the background, which fits measured background better than that of the
        foreground. None where the text has no background.

    Raises
    ------
    ValueError
        If the text is malformed, or the profile is neither a polynomial nor flat.
    """
    top = parse_braces(text)
    if "Background" not in top:
        return None
    background = _in_braces(top, "Background")
    if "Profile" not in background:
        flat = background.get("Character") in ("Null", "Flat")
        return PolynomialProfile() if flat else None
    profile = _in_braces(background, "Profile")
    kind = profile.get("Type")
    if kind == "Identity":
        return PolynomialProfile()
    if kind != "Polynomial":
        raise ValueError(f"a profile of type {kind} is not known")
    coefficients = tuple(map(_numbers, _in_brackets(profile.get("Coefficients", ""))))
    if not coefficients:
        raise ValueError("the polynomial has no coefficients")
    if any(len(row) != degree + 1 for degree, row in enumerate(coefficients)):
        raise ValueError("the coefficients do not form a triangle")
    dims, origin, scale = (_pair(profile, name) for name in ("Dims", "Origin", "Scale"))
    if min(dims) < 1:
        raise ValueError(f"the profile has dimensions {dims}")
    return PolynomialProfile(
        coefficients=coefficients,
        dims=(int(dims[0]), int(dims[1])),
        origin=origin,
        scale=scale,
    )


def parse_braces(text: str) -> dict[str, Node]:
    """Read the brace notation.

    Parameters
    ----------
    text
        ``{Key: value, Key: [value, value], Key: {…}}``. A bare value ends at a comma or closing
        bracket and may hold spaces and parentheses; a value in double quotes may hold anything.

    Returns
    -------
    dict
        Nested dictionaries, lists and texts.

    Raises
    ------
    ValueError
        If the text is malformed; the message has the position.
    """
    node, place = _node(text, _skip(text, 0), 0)
    if not isinstance(node, dict) or _skip(text, place) != len(text):
        raise ValueError("the text is not one pair of braces")
    return node


def _node(text: str, place: int, depth: int) -> tuple[Node, int]:
    if depth > _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} levels of brackets at position {place}")
    opening = text[place : place + 1]
    if opening == "{":
        return _braces(text, place + 1, depth)
    if opening == "[":
        return _brackets(text, place + 1, depth)
    if opening == '"':
        quoted = _QUOTED.match(text, place)
        if quoted is None:
            raise ValueError(f"the quote at position {place} is not closed")
        return quoted[1], quoted.end()
    bare = _BARE.match(text, place)
    assert bare is not None, "the pattern matches nothing as well"
    return bare[0].strip(), bare.end()


def _braces(text: str, place: int, depth: int) -> tuple[Node, int]:
    found: dict[str, Node] = {}
    place = _skip(text, place)
    if text[place : place + 1] == "}":
        return found, place + 1
    while True:
        key = _KEY.match(text, place)
        if key is None:
            raise ValueError(f"there is no key at position {place}")
        found[key[1].strip().strip('"')], place = _node(text, _skip(text, key.end()), depth + 1)
        place, last = _next(text, place, "}")
        if last:
            return found, place


def _brackets(text: str, place: int, depth: int) -> tuple[Node, int]:
    found: list[Node] = []
    place = _skip(text, place)
    if text[place : place + 1] == "]":
        return found, place + 1
    while True:
        node, place = _node(text, _skip(text, place), depth + 1)
        found.append(node)
        place, last = _next(text, place, "]")
        if last:
            return found, place


def _next(text: str, place: int, closing: str) -> tuple[int, bool]:
    place = _skip(text, place)
    mark = text[place : place + 1]
    if mark == closing:
        return place + 1, True
    if mark == ",":
        return _skip(text, place + 1), False
    raise ValueError(f"position {place} has {mark or 'the end'} where , or {closing} is due")


def _skip(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return space.end() if space else place


def _in_braces(parent: dict[str, Node], name: str) -> dict[str, Node]:
    match parent[name]:
        case dict() as node:
            return node
        case _:
            raise ValueError(f"{name} is not in braces")


def _in_brackets(node: Node) -> list[Node]:
    match node:
        case list():
            return node
        case _:
            raise ValueError(f"{str(node)[:20]!r} stands where a list in brackets is due")


def _numbers(node: Node) -> tuple[float, ...]:
    items = _in_brackets(node)
    values = tuple(float(item) for item in items if isinstance(item, str))
    if len(values) != len(items) or not all(map(math.isfinite, values)):
        raise ValueError("a coefficient is not a number")
    return values


def _pair(profile: dict[str, Node], name: str) -> tuple[float, float]:
    values = _numbers(profile.get(name, []))
    if len(values) != 2:
        raise ValueError(f"{name} is not two numbers")
    return values[0], values[1]
