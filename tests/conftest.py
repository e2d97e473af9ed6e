"""What tests of every package may ask for, and what may be skipped where."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A machine that is busy for a moment is no failure: by default an example may take 0.2 s.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

os.environ.setdefault("PYTEST_QT_API", "pyqt6")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # without a screen, Qt would abort


def _qt_loads() -> bool:
    """Say whether windows can be tested: pytest-qt is installed and Qt finds its libraries."""
    if importlib.util.find_spec("pytestqt") is None:
        return False
    try:
        importlib.import_module("PyQt6.QtWidgets")
    except ImportError:
        return False
    return True


# Left to itself, pytest-qt ends the whole run on a machine without Qt's system libraries.
pytest_plugins = ["pytester", *(["pytestqt.plugin"] if _qt_loads() else [])]

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

# Reasons that a machine which installed everything may still have; any other skip fails in CI.
ALLOWED_IN_CI = (
    "needs the real plates",
    "no CUDA device",
    "needs Cellpose",
    "needs StarDist",
    "needs the specification's cases",
    "needs the right to mount",
)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Heed Ctrl-C, here and in programs that are started: a shell ignores it for its background."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def real_plates() -> Path:
    """The folder of vendors' own plates, which is no part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real plates in ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def display() -> str:
    """An X display with OpenGL, for windows that draw."""
    name = os.environ.get("DISPLAY")
    if not name:
        pytest.skip("needs an X display: run under xvfb-run")
    return name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in _forbidden_skips(terminalreporter):
        terminalreporter.write_line(f"skipped in CI, which may not be: {report.nodeid}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and session.exitstatus == 0 and _forbidden_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _forbidden_skips(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if not os.environ.get("CI"):
        return []
    return [
        report
        for report in reporter.stats.get("skipped", [])
        if not any(reason in str(report.longrepr) for reason in ALLOWED_IN_CI)
    ]
