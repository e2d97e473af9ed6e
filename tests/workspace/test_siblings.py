"""The four distributions installed here are this checkout's, never a namesake's."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ["zmqruntime", "polystore", "pyqt-reactive", "openhcs"]


@pytest.mark.parametrize("name", NAMES)
def test_distribution_is_ours(name: str) -> None:
    distribution = importlib.metadata.distribution(name)
    direct_url = json.loads(distribution.read_text("direct_url.json") or "{}")
    assert direct_url.get("url") == (ROOT / "packages" / name).as_uri()
    module = importlib.import_module(name.replace("-", "_"))
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_version_carries_the_epoch(name: str) -> None:
    assert importlib.metadata.version(name).startswith("1!")
