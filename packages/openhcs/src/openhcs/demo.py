"""The demonstration: a synthetic plate, and how far the results are from its truth."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openhcs._errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.testing import PlateTruth

__all__ = ["WELLS", "Comparison", "compare_with_truth", "write_demo_plate"]

WELLS: Final = ("B02", "B03", "C04", "D05", "E06", "F07", "G10", "G11")
_SIZE_PX: Final = 864  # 290 MB of planes
_SEED: Final = 20_26
_SAME_OBJECT_IOU: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found, held against what is true.

    Attributes
    ----------
    cells
        Nuclei that lie whole on their well's mosaic.
    found, missed, spurious
        Nuclei with an object that shares at least half of their common area (intersection over
        union), those without, and objects without a nucleus, apart from those on nuclei that the
        mosaic's border cuts.
    stitching_rms_px, stitching_max_px
        Error of the tiles' places, mean place of the well taken off, in pixels.
    stage_rms_px
        The same error of the places that the stage gave: what stitching had to mend.
    intensity_error
        Median over found nuclei of the relative error of their mean intensity, by channel.
    """

    cells: int
    found: int
    missed: int
    spurious: int
    stitching_rms_px: float
    stitching_max_px: float
    stage_rms_px: float
    intensity_error: Mapping[str, float]

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(2 * self.found + self.missed + self.spurious, 1)


def write_demo_plate(
    folder: Path,
    *,
    wells: Sequence[str] = WELLS,
    size_px: int = _SIZE_PX,
    processes: int = 1,
) -> tuple[PlateTruth, bool]:
    """Write the demonstration's plate: 2 x 2 fields, 2 channels, 3 z planes in each well.

    It is made beside its place and moved there when it is whole, so that one that was interrupted
    is never taken for a plate.

    Parameters
    ----------
    folder
        Folder to make; a demonstration plate there is read instead of written again.
    wells
        Names of the wells.
    size_px
        Side of a tile.
    processes
        Worker processes.

    Returns
    -------
    tuple
        What is true of the plate, and whether it was there already.

    Raises
    ------
    MisuseError
        If the folder holds something else.
    OSError
        If it cannot be written.
    """
    from openhcs.testing import synthetic_plate

    truth = folder.with_name(f"{folder.name}.truth")
    if folder.exists():
        return _read_again(folder, tuple(wells), size_px), True
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    # What a demonstration left that was interrupted: nothing else bears this name or this file.
    for left, ours in ((unfinished, unfinished), (truth, truth / "generator.json")):
        if ours.exists():
            shutil.rmtree(left)
    made = unfinished / folder.name
    written = synthetic_plate(
        made,
        format="imagexpress",
        wells=tuple(wells),
        grid=(2, 2),
        overlap=0.1,
        channels=("DAPI", "GFP"),
        z=3,
        size_px=size_px,
        texture=0.0,  # nuclei are enough to stitch by, and writing takes a third less
        seed=_SEED,
        processes=processes,
    )
    made.with_name(f"{made.name}.truth").replace(truth)
    made.replace(folder)
    unfinished.rmdir()
    return dataclasses.replace(written, folder=folder), False


def _read_again(folder: Path, wells: tuple[str, ...], size_px: int) -> PlateTruth:
    """Read the truth of a demonstration plate that is there already."""
    from openhcs.testing import read_truth

    advice = "name another folder with --out, or remove it"
    try:
        truth = read_truth(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MisuseError(f"{folder} is no plate of the demonstration: {advice}") from error
    spec = truth.spec
    if (spec.seed, spec.wells, spec.size_px) != (_SEED, wells, (size_px, size_px)):
        raise MisuseError(f"{folder} is another synthetic plate: {advice}")
    lost = [path for path in truth.planes["path"].tolist() if not (folder / path).is_file()]
    if lost:
        raise MisuseError(f"{folder} lacks {len(lost)} of its files, such as {lost[0]}: {advice}")
    return truth


def compare_with_truth(results: Path, truth: PlateTruth, wells: Sequence[str]) -> Comparison:
    """Hold the results of a run against the truth of its plate.

    Parameters
    ----------
    results
        Result folder of the default pipeline.
    truth
        Truth of the plate.
    wells
        Wells that are finished.

    Raises
    ------
    OSError
        If a table or image of a well is missing.
    """
    import pyarrow.parquet as pq

    from polystore.omezarr import open_labels

    found = missed = spurious = whole = 0
    stitched: list[NDArray[np.float64]] = []
    stage: list[NDArray[np.float64]] = []
    errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in truth.spec.channels}
    for well in wells:
        tiles = pq.read_table(results / "tiles" / f"{well}.parquet").to_pydict()
        placed, shift = _tile_errors(tiles, truth, well)
        stitched.append(placed)
        stage.append(_stage_errors(truth, well))
        labels = open_labels(results / "plate.zarr", well, "stitched", "nuclei").read(0)
        cells = truth.of_well(truth.cells, well)
        complete = {int(c) for c, ok in zip(cells["cell"], cells["complete"], strict=True) if ok}
        pairs, lone = _match(
            labels, truth.expected_labels(well), np.rint(shift).astype(int), complete
        )
        objects = pq.read_table(results / "objects" / f"{well}.parquet").to_pydict()
        hits = {cell: number for cell, number in pairs.items() if cell in complete}
        whole += len(complete)
        found += len(hits)
        missed += len(complete) - len(hits)
        spurious += lone
        _intensity_errors(errors, hits, objects, cells)
    places = np.concatenate(stitched)
    return Comparison(
        cells=whole,
        found=found,
        missed=missed,
        spurious=spurious,
        stitching_rms_px=_rms(places),
        stitching_max_px=float(np.hypot(*places.T).max()),
        stage_rms_px=_rms(np.concatenate(stage)),
        intensity_error={
            name: float(np.median(np.concatenate(values))) for name, values in errors.items()
        },
    )


def _tile_errors(
    tiles: Mapping[str, list[Any]], truth: PlateTruth, well: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give each tile's error (y, x) in px, and the well's mean shift from true to found."""
    true = truth.of_well(truth.tiles, well)
    place = {int(field): row for row, field in enumerate(true["field"])}
    rows = [place[int(field)] for field in tiles["field"]]
    found = np.column_stack([tiles["y_px"], tiles["x_px"]]).astype(np.float64)
    difference = found - np.column_stack([true["y_px"][rows], true["x_px"][rows]])
    shift = difference.mean(axis=0)
    return difference - shift, shift


def _stage_errors(truth: PlateTruth, well: str) -> NDArray[np.float64]:
    tiles = truth.of_well(truth.tiles, well)
    difference = np.column_stack(
        [tiles["stage_y_um"] - tiles["y_um"], tiles["stage_x_um"] - tiles["x_um"]]
    )
    errors: NDArray[np.float64] = (difference - difference.mean(axis=0)) / truth.spec.pixel_um
    return errors


def _match(
    labels: NDArray[Any], truth: NDArray[Any], shift: NDArray[np.int_], complete: set[int]
) -> tuple[dict[int, int], int]:
    """Pair true cells with objects that share enough area.

    Returns
    -------
    tuple
        Object number by cell, and how many objects belong to no cell. An object on a cell that the
        mosaic's border cuts is not counted among these: nobody can say what it should look like.
    """
    height, width = truth.shape
    top, left = (max(int(value), 0) for value in shift)
    bottom = min(labels.shape[0], height + int(shift[0]))
    right = min(labels.shape[1], width + int(shift[1]))
    seen = labels[top:bottom, left:right]
    true = truth[top - shift[0] : bottom - shift[0], left - shift[1] : right - shift[1]]
    objects, cells = _areas(seen), _areas(truth)
    both = (seen > 0) & (true > 0)
    joint, counts = np.unique(
        seen[both].astype(np.int64) * len(cells) + true[both].astype(np.int64), return_counts=True
    )
    pairs: dict[int, int] = {}
    claimed: set[int] = set()
    for code, count in zip(joint.tolist(), counts.tolist(), strict=True):
        number, cell = divmod(code, len(cells))
        if count / (objects[number] + cells[cell] - count) >= _SAME_OBJECT_IOU:
            pairs[cell] = number
            claimed.add(number)
    for code in joint.tolist():
        number, cell = divmod(code, len(cells))
        if cell not in complete:
            claimed.add(number)
    lone = sum(1 for number in np.flatnonzero(objects).tolist() if number and number not in claimed)
    return pairs, lone


def _areas(labels: NDArray[Any]) -> NDArray[np.int_]:
    """Count the pixels of each label; 0 is none, and is left out first, as it is most of them."""
    areas: NDArray[np.int_] = np.bincount(labels[labels > 0].astype(np.int64))
    return areas


def _intensity_errors(
    errors: Mapping[str, list[NDArray[np.float64]]],
    hits: Mapping[int, int],
    objects: Mapping[str, list[Any]],
    cells: Mapping[str, NDArray[Any]],
) -> None:
    """Add the relative errors of the matched nuclei's mean intensities."""
    row_of_object = {int(number): row for row, number in enumerate(objects["ObjectNumber"])}
    row_of_cell = {int(cell): row for row, cell in enumerate(cells["cell"])}
    for name, values in errors.items():
        measured = objects[f"Intensity_MeanIntensity_{name}"]
        true = np.array([cells[f"mean_{name}"][row_of_cell[cell]] for cell in hits])
        seen = np.array([measured[row_of_object[number]] for number in hits.values()])
        values.append(np.abs(seen - true) / true)


def _rms(errors: NDArray[np.float64]) -> float:
    """Give the root mean square length of (n, 2) differences."""
    return float(np.sqrt((errors**2).sum(axis=1).mean()))
