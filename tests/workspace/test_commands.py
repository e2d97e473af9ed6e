"""The README's two commands are the ones that the gate runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", ["uvx hatch run demo", "uvx hatch test"])
def test_command_stands_in_readme_and_gate(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_demo_is_a_script_of_the_default_environment() -> None:
    hatch = tomllib.loads((ROOT / "hatch.toml").read_text(encoding="utf-8"))
    assert hatch["envs"]["default"]["scripts"]["demo"].startswith("python -m openhcs demo")
