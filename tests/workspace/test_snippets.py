"""Every Python block in the READMEs and the documentation runs, or says why it is not run.

The blocks of one page are one program, run in a folder where ``PLATE`` is a synthetic plate and
``RESULTS`` holds a run of it; the tutorial finds the same under the names that the demonstration
gives them. A block that assigns a pipeline is read by the evaluator as well, and one that begins
with ``Step(`` by the evaluator alone. A block that cannot run stands below a comment:
``<!-- not run: needs a microscope -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openhcs import compile_pipeline, default_pipeline, open_plate
from openhcs.execution import run
from openhcs.functions import REGISTRY
from openhcs.pipeline import from_source
from openhcs.report import write_report
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "packages").glob("*/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXEMPTION = re.compile(r"<!-- not run: (\S[^>]*) -->\s*\Z")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A Python block of a page."""

    page: Path
    line: int
    source: str
    exempt: bool

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_step(self) -> bool:
        return self.source.startswith("Step(")

    @property
    def is_pipeline(self) -> bool:
        return re.search(r"^pipeline = ", self.source, re.MULTILINE) is not None


def _snippets(page: Path) -> Iterator[Snippet]:
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        before = text[: block.start()]
        yield Snippet(
            page=page,
            line=before.count("\n") + 2,
            source=block[1],
            exempt=EXEMPTION.search(before) is not None,
        )


SNIPPETS = [snippet for page in PAGES for snippet in _snippets(page)]
PROGRAMS = {
    str(page.relative_to(ROOT)): [
        snippet
        for snippet in SNIPPETS
        if snippet.page == page and not (snippet.exempt or snippet.is_step)
    ]
    for page in PAGES
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small plate and the results of the default pipeline on two of its wells."""
    folder = tmp_path_factory.mktemp("finished")
    synthetic_plate(folder / "plate", wells=("B02", "B03"), z=2, size_px=192, seed=1)
    index = open_plate(folder / "plate", cache=False)
    result = run(
        compile_pipeline(default_pipeline(index), index, wells=("B02",)),
        folder / "results",
        workers=1,
    )
    assert result.completed
    write_report(folder / "results")
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A folder for one page's program, with the plate and the results under the pages' names."""
    for plate, results in (
        ("PLATE", "RESULTS"),
        ("openhcs-demo/plate", "openhcs-demo/results"),
    ):
        (tmp_path / plate).parent.mkdir(exist_ok=True)
        (tmp_path / plate).symlink_to(finished / "plate")
        (tmp_path / f"{plate}.truth").symlink_to(finished / "plate.truth")
        (tmp_path / results).symlink_to(finished / "results")
    return tmp_path


@pytest.mark.parametrize("page", [page for page, program in PROGRAMS.items() if program])
def test_program_of_page_runs(page: str, place: Path) -> None:
    program = place / "program.py"
    source = "\n".join(f"# {snippet.name}\n{snippet.source}" for snippet in PROGRAMS[page])
    program.write_text(source, encoding="utf-8")
    own = {
        name: str(place / name.lower())
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    }
    for folder in own.values():
        Path(folder).mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=place,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{source}"


@pytest.mark.parametrize(
    "snippet",
    [snippet for snippet in SNIPPETS if snippet.is_step or snippet.is_pipeline],
    ids=lambda snippet: snippet.name,
)
def test_pipeline_of_page_is_read_by_the_evaluator(snippet: Snippet, finished: Path) -> None:
    source = snippet.source
    if snippet.is_step:
        imports = f"from openhcs.functions import {', '.join(REGISTRY)}"
        steps = f"Step(project_max), {source.strip()}"
        source = f"from openhcs import Pipeline, Step\n{imports}\npipeline = Pipeline({steps})\n"
    index = open_plate(finished / "plate", cache=False)
    pipeline = from_source(source, snippet.name)
    if snippet.exempt:
        return  # it needs what this plate does not have
    plan = compile_pipeline(pipeline, index)
    assert plan.wells == ("B02", "B03")


@pytest.mark.req("003.17")
def test_pages_have_snippets() -> None:
    assert {snippet.page.name for snippet in SNIPPETS} >= {
        "README.md",
        "tutorial.md",
        "pipelines.md",
        "remote-objects.md",
    }
