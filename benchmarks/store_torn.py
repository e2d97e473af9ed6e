"""What it costs to leave the old or the new: beside bare writing, and beside a copy in memory."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from _rows import Row

from polystore.files import Checksum, read_bytes, update_json, write_bytes
from polystore.files._checksums import sum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["rows"]

PLANE = np.random.default_rng(0).integers(0, 2**16, (2048, 2048)).astype(np.uint16)
AT_MOST = 1.1


def rows(repeats: int) -> Sequence[Row]:
    """Measure; each figure in turns with what it is held against."""
    content = PLANE.tobytes()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        names = count()

        def bare() -> None:
            (folder / f"{next(names)}").write_bytes(content)

        def whole() -> None:
            # a new file: where one is replaced, ext4 begins to write it to the disk at once
            write_bytes(folder / f"{next(names)}", content)

        limit, value = _in_turns(repeats, bare, whole)
        ratio = value / limit
        target = f"at most {AT_MOST} of a bare write"
        what, met = "write_bytes of 8 MiB", ratio <= AT_MOST
        found.append(Row(what, value * 1e3, "ms", limit * 1e3, ratio, target, met))
        (folder / "bare").write_bytes(content)
        for kind in Checksum:
            limit, value = _in_turns(repeats, PLANE.copy, partial(sum_of, content, kind))
            what = f"{kind} of 8 MiB, beside a copy of it"
            found.append(_told(what, value, limit))
        write_bytes(folder / "summed", content, checksum=Checksum.XXH128)
        limit, value = _in_turns(
            repeats, (folder / "bare").read_bytes, lambda: read_bytes(folder / "summed")
        )
        found.append(_told("read_bytes with xxh128, 8 MiB, beside a bare read", value, limit))
        update_json(folder / "it", lambda old: old, default={"wells": ["A01"] * 100})
        document = (folder / "it").read_bytes()
        limit, value = _in_turns(
            repeats * 20,
            lambda: (folder / "bare").write_bytes(document),
            lambda: update_json(folder / "it", lambda old: old),
        )
        found.append(_told("update_json of 2 kB, beside a bare write", value, limit))
    return found


def _told(what: str, value: float, limit: float) -> Row:
    return Row(what, value * 1e3, "ms", limit * 1e3, value / limit, "none", met=True)


def _in_turns(
    repeats: int, one: Callable[[], object], other: Callable[[], object]
) -> tuple[float, float]:
    """Medians in seconds."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for act, seconds in zip((one, other), taken, strict=True):
            begun = time.perf_counter()
            act()
            seconds.append(time.perf_counter() - begun)
    return median(taken[0][1:]), median(taken[1][1:])
