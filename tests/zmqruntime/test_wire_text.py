"""Nothing that comes over a socket can become code: no name that would do it is used anywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import zmqruntime

SOURCES = sorted(Path(zmqruntime.__file__).parent.rglob("*.py"))
MODULES = {"cloudpickle", "code", "dill", "jsonpickle", "marshal", "pickle", "runpy", "shelve"}
CALLS = {"compile", "eval", "exec", "__import__"}
METHODS = {"recv_pyobj", "send_pyobj", "SafeLoader"}


def found(path: Path) -> list[str]:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wrong += [each.name for each in node.names if each.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            wrong.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            wrong += [node.func.id] if node.func.id in CALLS else []
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            wrong.append(node.attr)
    return wrong


@pytest.mark.req("F.23")
def test_no_source_unpickles_or_executes() -> None:
    assert len(SOURCES) > 50
    assert not {str(path): wrong for path in SOURCES if (wrong := found(path))}
