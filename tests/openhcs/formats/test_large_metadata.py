"""Metadata files larger than any instrument writes: named and not read, in every format."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from openhcs._errors import PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30


def plate_of(folder: Path, layout: str) -> Path:
    grid = (1, 1)
    synthetic_plate(folder, format=layout, wells=("A01", "B02"), size_px=32, z=1, grid=grid)
    return folder


def lengthened(folder: Path, name: str, size: int) -> str:
    """Make one file larger than it is on disk: what is added takes no place, and reads as 0."""
    (file,) = folder.rglob(name)
    os.truncate(file, size)
    return file.relative_to(folder).as_posix()


def too_large(index: PlateIndex) -> list[str | None]:
    assert all(
        finding.severity == "error" and str(finding.path) in finding.message
        for finding in index.findings
        if finding.code == "TOO_LARGE"
    )
    return [finding.path for finding in index.findings if finding.code == "TOO_LARGE"]


@pytest.mark.parametrize(
    ("layout", "name", "most"),
    [
        ("phenix", "Index.idx.xml", 2 * GIB),
        ("cv8000", "MeasurementData.mlf", 2 * GIB),
        ("incell", "*.xdce", 2 * GIB),
        ("imagexpress", "*.HTD", 16 * MIB),
        ("imagexpress-hcs-ai", "p.jdce", 64 * MIB),
        ("imagexpress-hcs-ai", "image_metadata_0.csv", 4 * GIB),
        ("scanr", "metadata.ome.xml", 2 * GIB),
        ("scanr", "experiment_descriptor.xml", 256 * MIB),
        ("numbered-channels", "*_Metadata.csv", 64 * MIB),
    ],
)
def test_metadata_over_the_cap_are_named_and_images_taken_by_their_names(
    tmp_path: Path, layout: str, name: str, most: int
) -> None:
    folder = plate_of(tmp_path / "p", layout)
    assert too_large(open_plate(folder, cache=False)) == []
    path = lengthened(folder, name, most + 1)
    index = open_plate(folder, cache=False)
    assert too_large(index) == [path]
    assert (index.wells, len(index)) == (("A01", "B02"), 4)


def test_a_companion_over_the_cap_leaves_nothing_to_read_and_says_why(tmp_path: Path) -> None:
    folder = plate_of(tmp_path / "p", "ome-tiff")
    path = lengthened(folder, "*.companion.ome", 2 * GIB + 1)
    with pytest.raises(PlateError, match=f"{path} has {2 * GIB + 1} bytes"):
        open_plate(folder, cache=False)


def test_an_assay_layout_over_the_cap_is_no_platemap_and_the_plate_is_read(tmp_path: Path) -> None:
    folder = plate_of(tmp_path / "p", "phenix")
    path = lengthened(folder, "p.xml", 64 * MIB + 1)
    index = open_plate(folder, cache=False)
    assert too_large(index) == [path]
    assert (index.platemap, len(index)) == (None, 4)
