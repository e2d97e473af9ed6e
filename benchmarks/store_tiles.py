"""Tiles of a 1920 x 1080 picture, beside one pass over the memory of the picture.

The pass copies the picture: it reads and writes as many bytes as a comparison of two pictures has
to read. Whatever is measured runs in turn with it, so that what else the computer does falls on
both.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from _rows import Row

from polystore.testing import FakeClock
from polystore.tiles import (
    EXACT,
    Assembler,
    Ladder,
    Motion,
    Parcel,
    PartHeader,
    Rect,
    Rung,
    TileFeed,
    TileGrid,
    content_hash,
    dirty_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["rows"]

SIZE = (1080, 1920)
SHOWN = "none; shown for comparison"
TURNS = 9  # per repetition, of which the median counts
RAW = Rung(name="raw", codec="raw", quality=EXACT, frame_bytes=SIZE[0] * SIZE[1] * 3)


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of tiles; medians of `repeats`."""
    return [*dirty(repeats), *roads(repeats)]


def dirty(repeats: int) -> list[Row]:
    """What differs between two frames."""
    before, after = frames(1), frames(1)
    stroke = before.copy()
    stroke[500:520, 700:720] ^= 1
    grid = TileGrid(height=SIZE[0], width=SIZE[1])
    everywhere = before ^ 1
    passed = np.empty_like(before)

    def copy() -> None:
        np.copyto(passed, before)

    found = []
    for label, other, most_ms in (
        ("unchanged frame", after, 1.5),
        ("dirty tiles, one stroke", stroke, 3.0),
        ("dirty tiles, all of them", everywhere, 3.0),
    ):

        def compare(other: NDArray[Any] = other) -> None:
            dirty_tiles(before, other, grid)

        value, limit = beside(compare, copy, repeats)
        found.append(row(f"{label}, 1080p RGBA", value, limit, f"<= {most_ms} ms", most_ms))
    return found


def roads(repeats: int) -> list[Row]:
    """What a frame costs from the renderer to the picture at the client, without a codec."""
    pictures = [frames(seed) for seed in range(2)]
    strokes = [pictures[0].copy() for _ in range(2)]
    strokes[1][500:520, 700:720] ^= 1
    passed = np.empty_like(pictures[0])
    packed = np.ascontiguousarray(pictures[0][..., :3])

    def copy() -> None:
        np.copyto(passed, pictures[0])

    everything = Road(pictures)
    stroke = Road(strokes)
    motion, view, grid = moving()
    road, limit = beside(everything.go, copy, repeats)
    one, one_limit = beside(stroke.go, copy, repeats)
    hashed, bare = beside(
        lambda: content_hash(packed), lambda: hashlib.sha256(packed.data).digest(), repeats
    )
    wanted, least = beside(lambda: motion.tiles(grid, view), copy, repeats)
    return [
        row("shown, cut, assembled: all tiles, no codec", road, limit, SHOWN),
        row("shown, cut, assembled: one stroke", one, one_limit, SHOWN),
        row("hash of a settled frame, beside hashlib", hashed, bare, SHOWN),
        row("prefetch order among 1600 tiles", wanted, least, "<= 10 ms", 10.0),
    ]


class Road:
    """A feed and an assembler, with two pictures that take turns."""

    def __init__(self, pictures: list[NDArray[Any]]) -> None:
        clock = FakeClock()
        self._pictures = pictures
        self._turn = 0
        self._assembler = Assembler(_decode)
        self._feed = TileFeed(
            lambda _, pixels: pixels.tobytes(), exact=RAW, epoch="bench", clock=clock
        )
        self._feed.join("client", Ladder([RAW], clock))
        self.go()

    def go(self) -> None:
        """Show the next picture at the other end."""
        self._turn += 1
        self._feed.show(self._pictures[self._turn % 2], state_version=self._turn)
        parcel = self._feed.take("client")
        assert isinstance(parcel, Parcel)
        for message, body in parcel.messages:
            self._assembler.receive(message, body)
        assert self._assembler.take() is not None


def _decode(header: PartHeader, body: bytes | bytearray | memoryview) -> NDArray[Any]:
    shape = header.raster.shape_of(header.area)
    return np.frombuffer(body, header.raster.dtype).reshape(shape)


def moving() -> tuple[Motion, Rect, TileGrid]:
    """Make a view that is dragged aslant over a large picture."""
    clock = FakeClock()
    motion = Motion(clock)
    for step in range(100):
        clock.advance(0.02)
        motion.moved("y", 3000 + 10 * step)
        motion.moved("x", 3000 + 20 * step)
    view = Rect(y=4000, x=5000, height=SIZE[0], width=SIZE[1])
    return motion, view, TileGrid(height=40 * 256, width=40 * 256)


def frames(seed: int) -> NDArray[Any]:
    """Make a picture."""
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 4), dtype=np.uint8)


def beside(
    what: Callable[[], object], limit: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Return the medians in s of both, which run in turn."""
    medians: list[tuple[float, float]] = []
    for _ in range(repeats):
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(TURNS):
            for each, times in zip((what, limit), taken, strict=True):
                start = time.perf_counter()
                each()
                times.append(time.perf_counter() - start)
        medians.append((statistics.median(taken[0]), statistics.median(taken[1])))
    return (
        statistics.median(first for first, _ in medians),
        statistics.median(second for _, second in medians),
    )


def row(
    label: str,
    value: float,
    limit: float,
    target: str,
    most_ms: float | None = None,
) -> Row:
    """Make a row in ms."""
    return Row(
        row=label,
        value=value * 1e3,
        unit="ms",
        limit=limit * 1e3,
        ratio=value / limit,
        target=target,
        met=most_ms is None or value * 1e3 <= most_ms,
    )
