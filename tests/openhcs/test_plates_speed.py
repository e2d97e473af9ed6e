"""20,000 files, as a ratio to listing them and reading the first block of each."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from openhcs.plates import open_plate, well_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WELLS, FIELDS, CHANNELS, STEPS = 96, 9, 4, 6
PROPERTIES = {
    "spatial-calibration-state": "on",
    "spatial-calibration-x": "0.65",
    "spatial-calibration-y": "0.65",
    "spatial-calibration-units": "um",
    "z-position": "9318.24",
    "OffsetFromWellCenterUmX": "-349.92",
    "OffsetFromWellCenterUmY": "0.04",
    "_IllumSetting_": "DAPI",
}


@pytest.fixture(scope="module")
def large_plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,736 names for six files: their tags do not say which well they are of."""
    root = tmp_path_factory.mktemp("large")
    wells = [well_name(row, col) for row in range(8) for col in range(12)]
    for step in range(1, STEPS + 1):
        folder = root / f"TimePoint_1/ZStep_{step}"
        folder.mkdir(parents=True)
        found = PROPERTIES | {"Z Step": str(step)} | {f"Setting {k}": "x" * 40 for k in range(60)}
        lines = [f'<prop id="{k}" type="string" value="{v}"/>' for k, v in found.items()]
        template = root / f"template_{step}"
        tifffile.imwrite(
            template,
            np.zeros((4, 4), np.uint16),
            description="<MetaData>\n" + "\n".join(lines) + "\n</MetaData>",
            metadata=None,
            software="MetaSeries",
        )
        for well in wells:
            for field in range(1, FIELDS + 1):
                for channel in range(1, CHANNELS + 1):
                    os.link(template, folder / f"L_{well}_s{field}_w{channel}.TIF")
        template.unlink()
    return root


def touch_all(root: Path) -> int:
    """Take each file's size and time, and one block of it."""
    count = 0
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    pending.append(entry.path)
                    continue
                entry.stat()
                count += 1
                descriptor = os.open(entry.path, os.O_RDONLY)
                os.read(descriptor, 16384)
                os.close(descriptor)
    return count


def seconds(work: Callable[[], object]) -> float:
    """The best of three: other work on the machine only ever adds."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def test_20000_files_are_indexed_in_a_small_multiple_of_touching_them(
    large_plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    index = open_plate(large_plate)
    assert len(index) == WELLS * FIELDS * CHANNELS * STEPS
    assert {f.severity for f in index.findings} == {"info"}
    limit = seconds(lambda: touch_all(large_plate))
    opened = seconds(lambda: open_plate(large_plate, cache=False))
    again = seconds(lambda: open_plate(large_plate))
    print(  # noqa: T201  # the absolute figures, which no test asserts
        f"\n{len(index)} files: limit {limit:.2f} s, indexed {opened:.2f} s "
        f"({opened / limit:.1f}x), from the stored index {again:.2f} s ({again / limit:.1f}x)"
    )
    assert opened < 25 * limit
    assert again < 4 * limit
    assert again < opened
