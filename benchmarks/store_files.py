"""Files of 2048 x 2048 uint16 beside the bare libraries, folders of many keys, and the import.

The library writes to a file and reads it, as a user would without polystore; ours does the same
through a `DiskStore`, with the note, the checks and the rename. Both take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from _rows import Row

from polystore import Components, Payload
from polystore.backends import DiskStore, MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["rows"]

TURNS = 9  # per repetition, of which the median counts
SHOWN = "none; shown for comparison"


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of files; medians of `repeats`."""
    return [*files(repeats), *listing(repeats), importing(repeats)]


def files(repeats: int) -> list[Row]:
    """What writing and reading a plane takes, beside numpy and tifffile."""
    plane = np.random.default_rng(0).integers(0, 65536, (2048, 2048), np.uint16)
    payload = Payload(data=plane, components=Components(well="B03"), pixel_um=(0.65, 0.65))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = DiskStore(folder)
        bare = Path(folder) / "bare"
        bare.mkdir()
        for label, key, write, read in (
            (
                "NPY",
                "ours/a.npy",
                lambda: np.save(bare / "a.npy", plane),
                lambda: np.load(bare / "a.npy"),
            ),
            (
                "TIFF",
                "ours/a.tif",
                lambda: tifffile.imwrite(bare / "a.tif", plane),
                lambda: tifffile.imread(bare / "a.tif"),
            ),
        ):

            def store_it(key: str = key) -> None:
                store.store(key, payload)

            def load_it(key: str = key) -> None:
                store.load(key)

            def take_away(key: str = key) -> None:
                for path in (store.root / key, bare / Path(key).name):
                    path.unlink(missing_ok=True)

            value, limit = beside(store_it, write, repeats, take_away)
            found.append(row(f"write 2048² uint16 as {label}", value, limit, 1.1))
            value, limit = beside(store_it, write, repeats)
            found.append(
                replace(
                    row(f"write it as {label} in place of another", value, limit, 1.1),
                    target=SHOWN,  # ext4 writes at once what is renamed over another file
                    met=True,
                )
            )
            value, limit = beside(load_it, read, repeats)
            found.append(row(f"read 2048² uint16 as {label}", value, limit, 1.1))
    return found


def listing(repeats: int) -> list[Row]:
    """What listing a folder of 100 takes among 100,000 keys in memory, and storing them."""
    payload = Payload(data=np.zeros((1, 1), np.uint8))
    store = MemoryBackend(copy=False)
    few = MemoryBackend(copy=False)
    started = time.perf_counter()
    for number in range(100_000):
        store.store(f"plate/{number // 100:04}/{number % 100:02}", payload)
    filled_ms = (time.perf_counter() - started) * 1e3
    for number in range(100):
        few.store(f"plate/0500/{number:02}", payload)
    value, limit = beside(
        lambda: store.folder("plate/0500"), lambda: few.folder("plate/0500"), repeats
    )
    started = time.perf_counter()
    kept = {}
    for number in range(100_000):
        kept[f"plate/{number // 100:04}/{number % 100:02}"] = payload
    dict_ms = (time.perf_counter() - started) * 1e3
    return [
        Row(
            row="list 100 keys among 100,000, beside 100 alone",
            value=value,
            unit="ms",
            limit=limit,
            ratio=value / limit,
            target="< 1 ms",
            met=value < 1,
        ),
        Row(
            row="store 100,000 keys in memory, beside a dict",
            value=filled_ms,
            unit="ms",
            limit=dict_ms,
            ratio=filled_ms / dict_ms,
            target=SHOWN,
            met=True,
        ),
    ]


def importing(repeats: int) -> Row:
    """What ``import polystore`` takes beyond the import of numpy and msgspec."""

    def took(code: str) -> float:
        # of the processor's time: a busy computer starts nothing at once
        program = f"import time; t = time.process_time(); {code}; print(time.process_time() - t)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return float(done.stdout) * 1e3

    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(took("import polystore"))
        theirs.append(took("import numpy, msgspec"))
    value, limit = statistics.median(ours), statistics.median(theirs)
    return Row(
        row="import polystore, beyond numpy and msgspec",
        value=value - limit,
        unit="ms",
        limit=limit,
        ratio=value / limit,
        target="< 100 ms",
        met=value - limit < 100,
    )


def beside(
    act: Callable[[], object],
    bare: Callable[[], object],
    repeats: int,
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Run two functions in turn, `before` each and not timed; the median of each in ms."""
    mine, theirs = [], []
    act()
    bare()
    for _ in range(repeats):
        times: dict[Callable[[], object], list[float]] = {act: [], bare: []}
        for _ in range(TURNS):
            for function, found in times.items():
                before()
                started = time.perf_counter()
                function()
                found.append(time.perf_counter() - started)
        mine.append(statistics.median(times[act]) * 1e3)
        theirs.append(statistics.median(times[bare]) * 1e3)
    return statistics.median(mine), statistics.median(theirs)


def row(label: str, value: float, limit: float, most: float) -> Row:
    """Make a row of a time that may be so many times that of the bare library."""
    ratio = value / limit
    return Row(label, value, "ms", limit, ratio, f"<= {most} times the library", ratio <= most)
