"""Notebooks of the documentation run from top to bottom, as scripts, without what only draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[dict[str, object]]:
    return [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    sources = [
        "".join(cell["source"])  # type: ignore[arg-type]  # text, in one piece or in lines
        for cell in cells(notebook, "code")
        if "picture" not in cell.get("metadata", {}).get("tags", [])  # type: ignore[attr-defined]
    ]
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(sources), "utf-8")
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_gave_and_no_error(notebook: Path) -> None:
    outputs = [output for cell in cells(notebook, "code") for output in cell["outputs"]]  # type: ignore[attr-defined]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "/tmp/" not in json.dumps(outputs)
