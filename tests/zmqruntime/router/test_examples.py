"""The examples run, each in a process of its own, and print what they say they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zmqruntime.testing import free_endpoint

EXAMPLES = Path(__file__).parents[3] / "packages" / "zmqruntime" / "examples"


def run(name: str, tmp_path: Path, *words: str) -> str:
    state = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        env={**os.environ, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.req("003.16")
def test_live_video_shows_a_bar_that_moves(tmp_path: Path) -> None:
    shown = run(
        "live_video.py", tmp_path, "--port", str(free_endpoint().port), "--frames", "12"
    ).splitlines()
    assert len(shown) == 12
    bars = [line.index("#") for line in shown]
    assert bars == sorted(bars)
    assert bars[0] < bars[-1]


@pytest.mark.req("003.19")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "process_to_process.py",
            [
                "moved to 12.5",
                "it is at 12.5",
                "refused: ValueError the stage cannot move to 200 mm: it ends at 0 and 100",
                "home again: 0.0",
            ],
        ),
        (
            "host_to_host.py",
            [
                "operator switched it: True",
                "operator sees it: True",
                "viewer may not switch it",
                "viewer sees it: True",
            ],
        ),
        (
            "cascade.py",
            [
                "camera status {'shutter': 'open'} by the clock of camera",
                "temperature [b'21.5'] by the clock of laboratory",
            ],
        ),
    ],
)
def test_every_topology_has_an_example(name: str, expected: list[str], tmp_path: Path) -> None:
    assert run(name, tmp_path).splitlines() == expected


@pytest.mark.req("003.19")
def test_many_clients_of_one_server_are_an_example(tmp_path: Path) -> None:
    shown = run("many_to_one.py", tmp_path).splitlines()
    assert shown[1:] == ["the display has a newer one: True", "then silence; missing: 0"]


def test_no_example_is_left_out() -> None:
    named = Path(__file__).read_text(encoding="utf-8")
    assert all(example.name in named for example in EXAMPLES.glob("*.py"))
