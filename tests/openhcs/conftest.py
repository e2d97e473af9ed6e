"""What tests of openhcs may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from openhcs.testing.viewers import ShownRun

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shown_run(tmp_path: Path) -> ShownRun:
    """A run of three wells that have not been finished yet."""
    return ShownRun(tmp_path)
