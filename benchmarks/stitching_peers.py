"""``hatch run bench:peers-stitching``: the places of tiles, as ASHLAR, m2stitch and we find them.

The same tiles for all three, of 1080 x 1080 with 10 % overlap, each up to 5 px off what the stage
says and between pixels. Each library gets what the stage says; ASHLAR through its reader classes.
Its test of significance costs as much for few tiles as for many, so that it is measured without as
well; without, it believes pairs that show nothing in common. On the grid of 5 x 5, cells are bright
and dense, so that everybody finds pairs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import time
import types
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
from _rows import Row, print_rows
from functions_stitching import MAX_SHIFT_PX, PIXEL_UM, SIDE, Well, made_well

from openhcs.functions._align import align

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Finder = Callable[[Well], NDArray[np.float64]]

__all__ = ["rows"]

NAN = float("nan")
UNTESTED = "ASHLAR without test"
SHOWN = "none; shown for comparison"
M2STITCH_NCC = 0.2  # as its error advises: with the default, 0.5, it refuses each of these wells


def rows(repeats: int = 3) -> list[Row]:
    """Measure and return the rows; times are medians of `repeats`."""
    finders: dict[str, Finder] = {
        "openhcs": ours,
        "ASHLAR": ashlar(),
        UNTESTED: ashlar(max_error=float("inf")),
        "m2stitch": m2stitch,
    }
    return [*_plain(finders, repeats), *_hard(finders)]


def _plain(finders: dict[str, Finder], repeats: int) -> list[Row]:
    """Compare error and processor time on a grid of 5 x 5."""
    well = made_well(5, 5, cells_per_mpx=1500, brightness=10)
    seconds: dict[str, list[float]] = {name: [] for name in finders}
    rms: dict[str, float] = {}
    said: dict[str, str] = {}
    for repeat in range(repeats + 1):
        for name, find in finders.items():
            if name in said or (name == "m2stitch" and repeat > 1):
                continue  # it takes half a minute
            start = time.process_time()
            rms[name], said_now = _tried(find, well, well.true_px)
            if said_now:
                said[name] = said_now
            if repeat:
                seconds[name].append((time.process_time() - start) / len(well.tiles))
    taken = {name: statistics.median(each) if each else NAN for name, each in seconds.items()}
    share = taken["openhcs"] / taken["ASHLAR"]
    made = []
    for name in finders:
        mine = name == "openhcs"
        made += [
            _error(f"5 x 5 tiles, error: {name}{said.get(name, '')}", rms[name], mine=mine),
            Row(
                row=f"5 x 5 tiles, per tile: {name}",
                value=taken[name] * 1e3,
                unit="ms CPU",
                limit=taken["ASHLAR"] * 1e3,
                ratio=taken[name] / taken["ASHLAR"],
                target="<= 1/5 of ASHLAR's" if mine else SHOWN,
                met=share <= 0.2 or not mine,
            ),
        ]
    return made


def _hard(finders: dict[str, Finder]) -> list[Row]:
    """Say what becomes of few tiles, empty overlaps and tiles without features.

    Where the tiles show nothing in common, right is what the stage says.
    """
    flat = made_well(2, 2, cells_per_mpx=0)
    flat = replace(flat, tiles=[np.full_like(tile, 150) for tile in flat.tiles])
    cases = {
        "1 x 2 tiles": (made_well(1, 2), "true"),
        "2 x 2 tiles": (made_well(2, 2), "true"),
        "2 x 2 tiles, overlaps empty": (made_well(2, 2, empty_overlaps=True), "stage"),
        "2 x 2 tiles of noise alone": (made_well(2, 2, cells_per_mpx=0), "stage"),
        "2 x 2 tiles, all pixels alike": (flat, "stage"),
    }
    made = []
    for case, (well, right) in cases.items():
        wanted = well.true_px if right == "true" else well.stage_px
        for name, find in finders.items():
            rms, said = _tried(find, well, wanted)
            row = f"{case}, away from {right} place: {name}{said}"
            made.append(_error(row, rms, mine=name == "openhcs"))
    return made


def _tried(find: Finder, well: Well, wanted: NDArray[np.float64]) -> tuple[float, str]:
    """Give the error in px and nothing, or NaN and what was raised."""
    try:
        return _rms(find(well), wanted), ""
    except Exception as error:  # noqa: BLE001  # another library's, whatever it is
        return NAN, f", raises {type(error).__name__}: {error}"[:70]


def _error(row: str, rms: float, *, mine: bool) -> Row:
    return Row(
        row=row,
        value=rms,
        unit="px rms",
        limit=0.1,
        ratio=rms / 0.1,
        target="<= 0.1 px" if mine else SHOWN,
        met=rms <= 0.1 or not mine,
    )


def _rms(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Compare places but for one shift of all of them."""
    error = found - wanted
    error -= error.mean(axis=0)
    return float(np.sqrt(np.mean(np.square(error))))


def ours(well: Well) -> NDArray[np.float64]:
    found = align(well.tiles, well.stage_px, shape=(SIDE, SIDE), max_shift_px=MAX_SHIFT_PX)
    return well.stage_px + found.displacement_px


def ashlar(max_error: float | None = None) -> Finder:
    """Load ASHLAR without the Java that it would start to read files."""
    java = types.ModuleType("jnius")
    java.autoclass = _Unused  # type: ignore[attr-defined]  # stands in for Java's classes
    settings = types.ModuleType("jnius_config")
    settings.vm_running = True  # type: ignore[attr-defined]  # so that none is started
    sys.modules.update({"jnius": java, "jnius_config": settings})
    reg = importlib.import_module("ashlar.reg")

    class Metadata(reg.Metadata):  # type: ignore[misc,name-defined]  # ASHLAR has no types
        def __init__(self, well: Well) -> None:
            self._positions = well.stage_px
            self._size = np.array([SIDE, SIDE])
            self._num = len(well.tiles)

        _num_images = property(lambda self: self._num)
        num_channels = property(lambda _: 1)
        pixel_size = property(lambda _: PIXEL_UM[0])
        pixel_dtype = property(lambda _: np.dtype(np.uint16))

    class Reader(reg.Reader):  # type: ignore[misc,name-defined]  # ASHLAR has no types
        def __init__(self, well: Well) -> None:
            self.metadata = Metadata(well)
            self._tiles = well.tiles

        def read(self, series: int, c: int) -> NDArray[Any]:
            assert c == 0
            return self._tiles[series]

    def find(well: Well) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aligner = reg.EdgeAligner(
                Reader(well), max_shift=15, max_error=max_error, do_make_thumbnail=False
            )
            aligner.run()
        return np.asarray(aligner.positions, dtype=np.float64)

    return find


class _Unused:
    """A Java class that nobody uses."""

    def __init__(self, *_: object) -> None: ...

    @staticmethod
    def setRootLevel(_level: str) -> None:  # noqa: N802  # Java's name
        """Do nothing."""


def m2stitch(well: Well) -> NDArray[np.float64]:
    stitch_images = importlib.import_module("m2stitch").stitch_images
    places = np.rint((well.stage_px - well.stage_px[0]) / (SIDE * 0.9)).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grid, _ = stitch_images(
            np.stack(well.tiles),
            position_indices=places,
            position_initial_guess=well.stage_px,
            row_col_transpose=False,
            ncc_threshold=M2STITCH_NCC,
        )
    return np.asarray(grid[["y_pos", "x_pos"]], dtype=np.float64)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many runs")
    arguments = parser.parse_args()
    found = rows(arguments.repeats)
    if not arguments.json:
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    return print_rows(found, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
