"""Every promise of docs/requirements.md has a test that names it, and no test names another."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "requirements.md"
ROW = re.compile(r"^\| (\w+\.\d+) \| (\S.+) \|$", re.MULTILINE)
ID = re.compile(r"\b(?:00\d|[BGSF])\.\d+\b")
# Ids of the other packages' rows: their highest number in each series.
SERIES = {
    "R": 8,
    "T": 10,
    "000": 19,
    "001": 24,
    "002": 33,
    "003": 19,
    "004": 23,
    "B": 16,
    "G": 11,
    "S": 16,
    "F": 39,
}


def _page() -> tuple[dict[str, str], list[str]]:
    """Return the promises by their ids, and the ids that are open."""
    text, _, rest = PAGE.read_text(encoding="utf-8").partition("\n## Open\n")
    return dict(ROW.findall(text)), ID.findall(rest)


def _named() -> dict[str, list[str]]:
    """Find which tests name which ids."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.req":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}"
                    named[str(argument.value)].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return named


def test_every_promise_has_a_test_or_is_said_to_be_open() -> None:
    promises, open_ = _page()
    assert not sorted({*promises} - {*_named()} - {*open_})


def test_what_a_test_names_is_not_open() -> None:
    _, open_ = _page()
    named = _named()
    assert not {id_: named[id_] for id_ in open_ if id_ in named}


def test_what_is_open_is_a_promise_and_said_once() -> None:
    promises, open_ = _page()
    assert len(open_) == len({*open_})
    assert not sorted({*open_} - {*promises})


def test_no_test_names_what_nobody_promised() -> None:
    promises, _ = _page()
    unknown = {}
    for id_, places in _named().items():
        series, number = re.fullmatch(r"(\d+(?=\.)|[A-Z])\.?(\d+)", id_).groups()  # type: ignore[union-attr]  # else it is no id at all
        if id_ not in promises and not 1 <= int(number) <= SERIES.get(series, 0):
            unknown[id_] = places
    assert not unknown


def test_promises_are_in_order_and_each_has_one_row() -> None:
    ids = [id_ for id_, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))]
    for series in dict.fromkeys(id_.partition(".")[0] for id_ in ids):
        numbers = [int(id_.partition(".")[2]) for id_ in ids if id_.startswith(f"{series}.")]
        assert numbers == sorted({*numbers})
