"""What tests/conftest.py lets a test skip, and where; pytest is run on small suites of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SKIPPED = """
import pytest


def test_passes():
    pass


@pytest.mark.skip(reason="needs a microscope")
def test_skipped():
    pass
"""
ALLOWED = """
def test_plates(real_plates):
    raise AssertionError("the folder is not there")
"""
QT = """
import pytest

pytest.importorskip("PyQt6.QtWidgets", reason="needs Qt", exc_type=ImportError)


def test_window(qtbot):
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite under our conftest.py, in a process that loads no plugin by itself."""
    tests = pytester.mkdir("tests")
    (tests / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("CI", raising=False)
    return pytester


def run(suite: pytest.Pytester, source: str) -> pytest.RunResult:
    (suite.path / "tests" / "test_it.py").write_text(source, encoding="utf-8")
    return suite.runpytest_subprocess("-ra", "tests", timeout=60)


def test_a_skip_passes_at_home(suite: pytest.Pytester) -> None:
    result = run(suite, SKIPPED)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_a_skip_fails_in_ci_by_name(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(suite, SKIPPED)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*may not be: tests/test_it.py::test_skipped*"])


def test_plates_that_are_not_there_are_skipped_in_ci_too(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run(suite, ALLOWED)
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_qt_without_its_libraries_skips_windows_and_ends_nothing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = suite.mkdir("broken") / "PyQt6"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "QtWidgets.py").write_text("raise ImportError('libEGL.so.1: cannot open')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken.parent))
    (suite.path / "tests" / "test_other.py").write_text("def test_passes():\n    pass\n")
    result = run(suite, QT)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*needs Qt*"])
    assert result.ret == pytest.ExitCode.OK
    monkeypatch.setenv("CI", "true")
    assert run(suite, QT).ret == pytest.ExitCode.TESTS_FAILED
