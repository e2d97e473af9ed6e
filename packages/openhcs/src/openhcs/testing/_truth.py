"""The truth about a synthetic plate: its tables and pictures, and how they are stored."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs.testing._faults import InjectedFault
from openhcs.testing._spec import PlateSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = [
    "PlateTruth",
    "cell_columns",
    "labels_name",
    "read_truth",
    "truth_folder",
    "write_labels",
    "write_table",
    "write_truth_file",
]

VERSION = 2
Columns: TypeAlias = "Mapping[str, NDArray[Any]]"

PLANE_COLUMNS: Mapping[str, type] = {
    "path": str,
    "page": int,
    "file": str,
    "kind": str,
    "well": str,
    "row": int,
    "col": int,
    "field": int,
    "channel": int,
    "z": int,
    "t": int,
    "sha256": str,
    "stamp": str,
    "fault": str,
}
TILE_COLUMNS: Mapping[str, type] = {
    "well": str,
    "field": int,
    "grid_y": int,
    "grid_x": int,
    "stage_x_um": float,
    "stage_y_um": float,
    "x_um": float,
    "y_um": float,
    "x_px": float,
    "y_px": float,
    "focus_um": float,
    "best_z": int,
}
FAULT_COLUMNS: Mapping[str, type] = {
    "kind": str,
    "code": str,
    "path": str,
    "well": str,
    "field": int,
    "channel": int,
    "z": int,
    "t": int,
}


PLATEMAP_COLUMNS: Mapping[str, type] = {
    "well": str,
    "role": str,
    "compound": str,
    "dose_um": float,
    "effect": float,
    "layout_factor": float,
    "well_factor": float,
}
SHIFT_COLUMNS: Mapping[str, type] = {"channel": int, "dy_px": float, "dx_px": float}


def cell_columns(channels: Iterable[str]) -> dict[str, type]:
    """Name the columns of `cells.csv` and their types."""
    columns: dict[str, type] = {
        "well": str,
        "cell": int,
        "t": int,
        "x_um": float,
        "y_um": float,
        "x_px": float,
        "y_px": float,
        "major_um": float,
        "minor_um": float,
        "angle": float,
        "area_px": int,
        "complete": int,
    }
    for channel in channels:
        columns[f"integrated_{channel}"] = float
        columns[f"mean_{channel}"] = float
    return columns


def truth_folder(folder: Path) -> Path:
    """Say where the truth about the plate in `folder` is kept: beside it, never inside."""
    return folder.with_name(f"{folder.name}.truth")


def labels_name(well: str, t: int) -> str:
    """Name the file of a label image, relative to the truth folder."""
    return f"labels/{well}_t{t}.npz"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlateTruth:
    """What a synthetic plate really is.

    Parameters
    ----------
    folder
        The plate.
    spec
        All parameters.
    planes
        One row per image, and one per file that holds none: ``path`` and ``page`` under which a
        reader names it, ``file`` that holds it (relative, forward slashes; the same as the path
        unless that is an array in many files), ``kind`` (``plane``, that of a projection such as
        ``max``, ``metadata``, ``thumbnail``, ``pyramid``, ``copy``, ``foreign``, ``duplicate``),
        ``well``, ``row``, ``col``, ``field``, ``channel``, ``z``, ``t`` (0-based; -1 and an empty
        well where there is no key; a copy has the key of its original), ``sha256`` of the file
        (empty where a fault removed it), ``stamp`` (hexadecimal, empty without), ``fault`` (its
        kind, or empty).
    tiles
        One row per well and field: ``stage_x_um``, ``stage_y_um`` as the metadata say,
        ``x_um``, ``y_um`` in truth (tile centres from the well centre, y downward), ``x_px``,
        ``y_px`` (centre of the first pixel on the true mosaic), ``focus_um`` (z of the sharp
        plane from the middle of the stack), ``best_z`` (the plane next to it).
    cells
        One row per well, time point and cell: ``cell`` (its number in the label image),
        ``x_um``, ``y_um`` (from the well centre), ``x_px``, ``y_px`` (on the true mosaic),
        semi-axes ``major_um``, ``minor_um``, ``angle`` (degrees from x towards +y), ``area_px``
        and, per channel, ``integrated_NAME`` (counts that the cell adds) and ``mean_NAME`` (mean
        over its nucleus of the sharp, evenly lit scene with background, without offset).
        ``complete`` is 1 where tiles cover the whole nucleus.
    platemap
        One row per well: ``well``, ``role``, ``compound``, ``dose_um``, and the factors on the
        second channel: ``effect`` of the condition, ``layout_factor`` of the place on the plate,
        ``well_factor`` of chance.
    channel_shift
        One row per channel: ``channel``, and ``dy_px``, ``dx_px`` by which it lies below and
        right of the first.
    assay
        What the second channel's mean intensity should give over the control wells: ``z_prime``
        and ``ssmd``, for many wells and no effect of the plate's layout; empty without a second
        channel or without both kinds of control.
    illumination
        Per channel the relative illumination, mean 1, float32, shape (y, x).
    faults
        What was damaged on purpose.
    """

    folder: Path
    spec: PlateSpec
    planes: Columns
    tiles: Columns
    cells: Columns
    platemap: Columns
    channel_shift: Columns
    assay: Mapping[str, float]
    illumination: tuple[NDArray[np.float32], ...]
    faults: tuple[InjectedFault, ...]

    def expected_labels(self, well: str, t: int = 0) -> NDArray[np.uint16]:
        """Read the label image of a well's true mosaic.

        Parameters
        ----------
        well
            Its name.
        t
            Time point, 0-based.

        Returns
        -------
        NDArray[np.uint16]
            Nuclei by their number in `cells`, 0 elsewhere; shape (Y, X). Pixel (0, 0) is the
            origin of the columns ``x_px`` and ``y_px``.

        Raises
        ------
        FileNotFoundError
            If the plate has no such well or time point.
        """
        with np.load(truth_folder(self.folder) / labels_name(well, t)) as stored:
            labels: NDArray[np.uint16] = stored["labels"]
        return labels

    def of_well(self, table: Columns, well: str) -> dict[str, NDArray[Any]]:
        """Take the rows of one well out of a table of this truth."""
        rows = table["well"] == well
        return {name: values[rows] for name, values in table.items()}


def read_truth(folder: str | Path) -> PlateTruth:
    """Read the truth about a synthetic plate.

    Parameters
    ----------
    folder
        The plate; its truth lies beside it.

    Returns
    -------
    PlateTruth
        As `synthetic_plate` returned it.

    Raises
    ------
    FileNotFoundError
        If there is no truth beside the folder.
    ValueError
        If it was written by another version.
    """
    plate = Path(folder)
    truth = truth_folder(plate)
    stored = json.loads((truth / "generator.json").read_text("utf-8"))
    if stored["version"] != VERSION:
        raise ValueError(f"{truth} has version {stored['version']}; this package reads {VERSION}")
    spec = PlateSpec.from_json(stored["spec"])
    faults = _read_table(truth / "faults.csv", FAULT_COLUMNS)
    return PlateTruth(
        folder=plate,
        spec=spec,
        planes=_read_table(truth / "planes.csv", PLANE_COLUMNS),
        tiles=_read_table(truth / "tiles.csv", TILE_COLUMNS),
        cells=_read_table(truth / "cells.csv", cell_columns(spec.channels)),
        platemap=_read_table(truth / "platemap.csv", PLATEMAP_COLUMNS),
        channel_shift=_read_table(truth / "channel_shift.csv", SHIFT_COLUMNS),
        assay=json.loads((truth / "assay.json").read_text("utf-8")),
        illumination=tuple(
            _frozen(np.load(truth / f"illumination_ch{channel}.npy"))
            for channel in range(len(spec.channels))
        ),
        faults=tuple(
            InjectedFault(**dict(zip(faults, row, strict=True)))
            for row in zip(*(values.tolist() for values in faults.values()), strict=True)
        ),
    )


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, floats in full precision."""
    names = list(columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([[row[name] for name in names] for row in rows])


def write_labels(path: Path, labels: NDArray[np.uint16]) -> None:
    """Write a label image as `numpy.savez_compressed` does, in a third of its time."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("labels.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array(member, labels)


def write_truth_file(truth: Path, spec: PlateSpec) -> None:
    """Write `generator.json`: version and all parameters."""
    text = json.dumps({"version": VERSION, "spec": spec.to_json()}, indent=2, allow_nan=True)
    (truth / "generator.json").write_text(text + "\n", "utf-8")


def _read_table(path: Path, columns: Mapping[str, type]) -> dict[str, NDArray[Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    place = {name: number for number, name in enumerate(names)}
    return {
        name: _frozen(np.array([kind(row[place[name]]) for row in rows], np.dtype(kind)))
        for name, kind in columns.items()
    }


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values.setflags(write=False)
    return values
