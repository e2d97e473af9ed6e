"""Images and plates of OME-Zarr beside bare zarr and bare compression of the same chunks.

Times are taken in turns with the limit they are held against, and are the seconds that the
processes worked, so that whatever else the computer does falls on nobody.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs.blosc  # type: ignore[import-untyped]  # has no types
import numpy as np
import zarr
from _rows import Row
from zarr.codecs import BloscCodec

from polystore.omezarr import ImageWriter, OmeVersion, PlateLayout, PlateReader, create_plate
from polystore.omezarr._chunks import PlaneChunks, compressor
from polystore.omezarr._pyramid import halve_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["rows"]

SIDE = 2048
FIELD_PX = 1536
FIELDS = ("0", "1", "2", "3")
CHANNELS = 3
WORKERS = 2
COMPARED = "none; shown for comparison"


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of OME-Zarr.

    Medians of `repeats`; one run for a plate of 0.4.
    """
    folder = Path(tempfile.mkdtemp(prefix="polystore-bench-"))
    try:
        return [
            *_planes(folder, repeats),
            *_opening(folder, repeats),
            *_plate(folder, repeats),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_plane(side: int, seed: int = 0) -> NDArray[np.uint16]:
    """Make a field of cells in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    light = 100 + 200 * np.sin(x / 40) ** 2 * np.sin(y / 50) ** 2
    plane: NDArray[np.uint16] = rng.poisson(light).astype(np.uint16)
    return plane


def _planes(folder: Path, repeats: int) -> list[Row]:
    """One image of 2048 x 2048 in a plate, beside the same array by zarr."""
    plate = folder / "plate.zarr"
    layout = PlateLayout.regular("p", rows=8, columns=12, wells=["A01"], images=["0"])
    create_plate(plate, layout)
    plane = make_plane(SIDE)
    bare = folder / "bare"
    bare.mkdir()

    def write_ours() -> None:
        with ImageWriter(plate, "A01", "0", (1, SIDE, SIDE), "u2", coarsest_px=SIDE) as image:
            image.write_plane(plane)
            image.commit()

    def write_bare() -> None:
        array = zarr.create_array(
            bare / "0",
            shape=(1, 1, 1, SIDE, SIDE),
            dtype="u2",
            chunks=(1, 1, 1, 1024, 1024),
            shards=(1, 1, 1, SIDE, SIDE),
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
            dimension_names=("t", "c", "z", "y", "x"),
            overwrite=True,
        )
        array[0, 0, 0] = plane

    def read_ours() -> Any:
        return PlateReader(plate).open_image("A01", "0").read()

    def read_bare() -> Any:
        return np.asarray(zarr.open_array(bare / "0", mode="r")[0, 0, 0])

    write_ours()
    write_bare()
    assert (read_ours() == read_bare()).all()
    found = []
    for what, ours, library in (
        ("write", write_ours, write_bare),
        ("read", read_ours, read_bare),
    ):
        mine, limit, ratio = _in_turns(ours, library, repeats)
        name = f"{what} {SIDE} x {SIDE} uint16, one level, sharded"
        target = "<= 1.1 of zarr with the same codec and chunks"
        met = ratio <= 1.1
        found.append(Row(name, mine * 1e3, "ms", limit * 1e3, ratio, target, met))
    return found


def _in_turns(
    ours: Callable[[], Any], limit: Callable[[], Any], repeats: int
) -> tuple[float, float, float]:
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(max(repeats, 5) * 5):
        for act, taken in ((ours, mine), (limit, theirs)):
            start = time.process_time()
            act()
            taken.append(time.process_time() - start)
    one, other = statistics.median(mine), statistics.median(theirs)
    return one, other, one / other


def _opening(folder: Path, repeats: int) -> list[Row]:
    """The metadata of a plate of 384 wells."""
    found = []
    for version in OmeVersion:
        path = folder / f"wells-{version}.zarr"
        one = PlateLayout.regular("p", rows=16, columns=24, wells=["A01"], images=FIELDS)
        wells = [f"{row}{column:02d}" for row in one.rows for column in range(1, 25)]
        create_plate(path, replace(one, wells=dict.fromkeys(wells, one.wells["A01"])),
                     version=version)  # fmt: skip
        opening = _median(partial(PlateReader, path), repeats)
        reader = PlateReader(path)
        well = _median(partial(reader.images, "H12"), repeats)
        documents = _documents(partial(reader.images, "H12"))
        found += [
            Row(f"open a plate of 384 wells, {version}", opening * 1e3, "ms", None, None,
                "< 100", opening < 0.1),
            Row(f"ask it for a well, {version}", well * 1e3, "ms", None, None, COMPARED, met=True),
            Row(f"documents opened for it, {version}", documents, "", None, None,
                "<= 3, however many wells", documents <= 3),
        ]  # fmt: skip
    return found


_OPENED: list[str] = []


def _documents(act: Callable[[], Any]) -> int:
    if not _OPENED:
        sys.addaudithook(
            lambda event, arguments: _OPENED.append(str(arguments[0])) if event == "open" else None
        )
    _OPENED[:] = ["hooked"]
    act()
    return len(_OPENED) - 1


def _median(act: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _plate(folder: Path, repeats: int) -> list[Row]:
    """A whole plate by two processes, beside what compressing its chunks takes them.

    The limit is Blosc with the codec and settings that `_planes` gives to zarr, blocks as Blosc
    takes them by itself. Shown beside it: the blocks that are stored, which are compressed faster.
    """
    layout = PlateLayout.regular(
        "p",
        rows=8,
        columns=12,
        wells=[f"{row}{n:02d}" for row in "ABCDEFGH" for n in range(1, 13)],
        images=FIELDS,
    )
    wells = list(layout.wells)
    pixels = len(wells) * len(FIELDS) * CHANNELS * FIELD_PX**2 * 2 * (1 + 1 / 4 + 1 / 16)
    found = []
    for version in reversed(OmeVersion):
        path = folder / f"plate-{version}.zarr"
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, str(path), *wells[number::WORKERS]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(WORKERS)
        ]
        taken: dict[str, list[float]] = {"files": [], "raw": [], "stored": [], "plate": []}
        for number in range(repeats if version is OmeVersion.V05 else 1):
            if number:  # long before the next: what was just deleted slows down new files
                shutil.rmtree(path)
            create_plate(path, layout, version=version)
            for what, seconds in taken.items():
                seconds.append(max(_told(workers, what)))
                for file in folder.glob(f"{path.name}-*"):
                    file.unlink()
        _told(workers, "end")
        for worker in workers:
            worker.communicate()
        found += _beside(version, taken, pixels)
        files = sum(each.is_file() for each in path.rglob("*"))
        found.append(
            Row(f"files of this plate, {version}", files, "", None, None, COMPARED, met=True)
        )
        shutil.rmtree(path, ignore_errors=True)
    return found


def _beside(version: OmeVersion, taken: dict[str, list[float]], pixels: float) -> list[Row]:
    speed = {what: pixels / statistics.median(s) / 1e6 for what, s in taken.items()}
    wanted = version is OmeVersion.V05
    name = (
        f"96 wells x 4 fields x 3 channels of {FIELD_PX} x {FIELD_PX}, {version}, pyramid included"
    )
    found = []
    for what, limit, target in (
        ("raw", f"{name}, {WORKERS} processes", ">= 0.8 of Blosc on the same chunks"),
        ("stored", "the same, beside Blosc in the blocks that are stored", COMPARED),
        ("files", "the same, beside that and one file written for an image", COMPARED),
    ):
        ratio = statistics.median(
            bare / ours for bare, ours in zip(taken[what], taken["plate"], strict=True)
        )
        held = wanted and what == "raw"
        found.append(
            Row(limit, speed["plate"], "MB/s", speed[what], ratio,
                target if held else COMPARED, ratio >= 0.8 or not held)
        )  # fmt: skip
    return found


def _told(workers: list[subprocess.Popen[str]], what: str) -> list[float]:
    """Tell all workers at once what to do, and give the seconds that each took."""
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{what}\n")
        worker.stdin.flush()
    if what == "end":
        return []
    return [float(worker.stdout.readline()) for worker in workers if worker.stdout is not None]


def _work(path: str, wells: list[str]) -> None:
    """Be one of the processes."""
    planes = [make_plane(FIELD_PX, seed) for seed in range(CHANNELS)]
    levels = [planes]
    while max(levels[-1][0].shape) > 512:
        levels.append([halve_mean(plane) for plane in levels[-1]])
    # as they are stored
    chunks = [
        chunk.copy()
        for level in levels
        for plane in level
        for _, _, chunk in PlaneChunks(plane.shape[0], plane.shape[1], plane.dtype).cut(plane)
    ]
    compress = compressor()
    by_itself = partial(numcodecs.blosc.compress, cname=b"zstd", clevel=1, shuffle=2, blocksize=0)
    for line in sys.stdin:
        if line.strip() == "end":
            return
        start = time.process_time()
        plate = PlateReader(path)
        for well in wells:
            for field in FIELDS:
                if line.strip() in {"raw", "stored"}:
                    act = by_itself if line.strip() == "raw" else compress
                    for chunk in chunks:
                        act(chunk)
                    continue
                if line.strip() == "files":
                    with Path(f"{path}-{well}-{field}").open("wb") as stream:
                        for chunk in chunks:
                            stream.write(compress(chunk))
                    continue
                shape = (CHANNELS, FIELD_PX, FIELD_PX)
                with ImageWriter(plate, well, field, shape, "u2") as image:
                    for channel, plane in enumerate(planes):
                        image.write_plane(plane, c=channel)
                    image.commit()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2:])
