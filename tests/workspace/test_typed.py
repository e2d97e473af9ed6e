"""The libraries read into types by their own functions, which are safe on any thread."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "packages"
SOURCES = [
    path
    for library in ("zmqruntime", "polystore")
    for path in sorted((PACKAGES / library / "src").rglob("*.py"))
    if path.name != "_typed.py"
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGES)))
def test_nothing_else_lets_msgspec_look_at_types(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        typed = len(node.args) > 1 or any(each.arg == "type" for each in node.keywords)
        assert called != "msgspec.convert", f"line {node.lineno}: use from_plain"
        assert not (called in ("msgspec.json.decode", "msgspec.msgpack.decode") and typed), (
            f"line {node.lineno}: use from_json or from_msgpack"
        )
        assert called not in ("msgspec.json.Decoder", "msgspec.msgpack.Decoder"), (
            f"line {node.lineno}: use msgpack_decoder"
        )
