"""The wheel of zmqruntime, installed by itself: its command and the examples of its README run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packages" / "zmqruntime"
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIBLINGS = ("polystore", "pyqt_reactive", "openhcs", "numpy")


def call(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def uv(*words: str | Path, cwd: Path) -> None:
    """Run uv with what its cache holds, and with the index where that is not enough."""
    beside = shutil.which("uvx")
    program = shutil.which("uv") or (Path(beside).with_name("uv") if beside else "uv")
    offline = subprocess.run(
        [program, "--quiet", "--offline", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        timeout=110,
        check=False,
    )
    if offline.returncode:
        call(program, "--quiet", *words, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "zmqruntime"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    uv("build", "--wheel", "--out-dir", folder / "dist", source, cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def place(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment that has the wheel, what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    uv("venv", "--python", sys.executable, folder / "env", cwd=folder)
    python = folder / "env" / "bin" / "python"
    uv("pip", "install", "--python", python, wheel, cwd=folder)
    return folder


def own(folder: Path) -> dict[str, str]:
    """Return an environment in which locks, keys and logs are those of one test."""
    names = ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    found = {"PYTHONPATH": "", "PYTHONWARNINGS": "error"}
    for name in names:
        place = folder / name.lower()
        place.mkdir(mode=0o700, exist_ok=True)
        found[name] = str(place)
    return found


@pytest.mark.req("003.18")
def test_the_wheel_holds_the_package_with_its_types_and_golden_files_and_no_more(
    wheel: Path,
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    source = PACKAGE / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / "zmqruntime").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "zmqruntime/py.typed" in expected
    assert any(name.endswith("golden/schema-protocol2.json") for name in expected)


@pytest.mark.req("003.18")
def test_it_is_installed_with_what_it_states_and_no_sibling(place: Path) -> None:
    python = place / "env" / "bin" / "python"
    program = f"""
import importlib.metadata, importlib.util
import zmqruntime
assert not [name for name in {SIBLINGS} if importlib.util.find_spec(name)]
print(zmqruntime.__file__)
print(*sorted(each.name for each in importlib.metadata.distributions()))
print(importlib.metadata.version("zmqruntime"))
"""
    where, names, version = call(python, "-c", program, cwd=place, env=own(place)).splitlines()
    assert Path(where).is_relative_to(place)
    assert names.split() == ["msgspec", "pyzmq", "zmqruntime"]
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version == project["version"]


SAYS = (
    ["{'text': 'Hello, plate 7'}"],
    ["{'ready': True, 'v_min': 1, 'v_max': 1}"],
    ["12.5", "ValueError there is no 200 mm here", "12.5"],
    ["N frames were superseded", "last shown: frame 100", "all acknowledged: True"],
    [
        "completed {'wells': 3}",
        "{'A01': {'cells': 0}, 'A02': {'cells': 10}, 'A03': {'cells': 20}}",
        "True",
    ],
)


@pytest.mark.req("003.18")
@pytest.mark.parametrize("number", range(len(SAYS)))
def test_each_example_of_its_readme_runs_and_prints_what_it_says(
    place: Path, tmp_path: Path, number: int
) -> None:
    blocks = FENCE.findall((PACKAGE / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) == len(SAYS)
    program = tmp_path / "readme.py"
    program.write_text(blocks[number], encoding="utf-8")
    said = call(place / "env" / "bin" / "python", program, cwd=tmp_path, env=own(tmp_path))
    lines = [re.sub(r"^\d+ frames", "N frames", line) for line in said.splitlines()]
    assert lines == SAYS[number]


@pytest.mark.req("003.18")
@pytest.mark.parametrize(
    "module",
    ["execution", "router", "session", "security", "carriers", "testing", "testing.conformance"],
)
def test_each_part_is_imported_without_extras(place: Path, module: str) -> None:
    python = place / "env" / "bin" / "python"
    call(python, "-c", f"from zmqruntime.{module} import *", cwd=place, env=own(place))


@pytest.mark.req("003.18")
def test_the_gateway_without_its_extra_says_what_to_install(place: Path) -> None:
    python = place / "env" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", "import zmqruntime.gateway"],
        cwd=place,
        env={**os.environ, **own(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "zmqruntime[websocket]" in done.stderr.splitlines()[-1]


@pytest.mark.req("003.18")
def test_the_command_is_there(place: Path) -> None:
    command = place / "env" / "bin" / "zmqruntime"
    assert "ps" in call(command, "--help", cwd=place, env=own(place))
    assert "no service" in call(command, "ps", cwd=place, env=own(place)).lower()
