from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "polystore" / "README.md"


def shown(word: str) -> list[str]:
    """Run the example that has a word in it, as a new user would; gives the lines it prints."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_that_stores_an_array_in_four_formats_runs() -> None:
    assert shown("raw.ome.tif") == ["B03 c0 (256, 256) (0.65, 0.65)"] * 4


def test_the_example_that_writes_a_plate_runs() -> None:
    assert shown("create_plate") == ["(750, 750)"]


def test_the_example_that_publishes_to_a_viewer_shows_its_layers() -> None:
    assert shown("StandInViewer") == [
        "stitch DAPI (2, 1, 1, 1, 1500, 1500) [(1, 0, 0, 0), (0, 0, 0, 0)]",
        "stitch GFP (2, 1, 1, 1, 1500, 1500) [(1, 0, 0, 0), (0, 0, 0, 0)]",
        "nuclei (2, 1, 1, 1) [(0, 0, 0, 0)]",
        "stitch DAPI: 2 of 2 (2 well, 1 field, 1 t, 1 z), 1500 x 1500 px of uint16",
        "stitch GFP: 2 of 2 (2 well, 1 field, 1 t, 1 z), 1500 x 1500 px of uint16",
        "nuclei: 1 of 2 (2 well, 1 field, 1 t, 1 z)",
    ]


def test_importing_polystore_loads_no_format_and_no_sibling() -> None:
    code = (
        "import sys, polystore, polystore.backends, polystore.formats, polystore.projection; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"zarr", "numcodecs", "tifffile", "imagecodecs", "pyarrow", "roifile", "hypothesis"}
    assert not loaded & (heavy | {"openhcs", "zmqruntime", "pyqt_reactive", "zmq", "PyQt6"})
