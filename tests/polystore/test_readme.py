from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "polystore" / "README.md"


def test_the_example_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "(750, 750)",
        "stitched c0 (2, 1, 1, 1, 1500, 1500) [(0, 0, 0, 0)]",
        "stitched c1 (2, 1, 1, 1, 1500, 1500) [(0, 0, 0, 0)]",
    ]


def test_importing_polystore_loads_no_format_and_no_sibling() -> None:
    code = (
        "import sys, polystore, polystore.backends, polystore.projection; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"zarr", "numcodecs", "tifffile", "imagecodecs", "hypothesis"}
    assert not loaded & (heavy | {"openhcs", "zmqruntime", "pyqt_reactive", "zmq", "PyQt6"})
