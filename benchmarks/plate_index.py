"""Indexing plates of 20,736 and 103,680 files, in every layout that has one file for each image,
and a plate of OME-Zarr with 384 wells of 9 fields, which are 20,736 planes.

Names and metadata are those of the synthetic plates; the files are links to one small TIFF for
each depth, so that a plate takes seconds to make. A process of its own opens each plate once: its
time is that of its clock, its memory the most that was resident.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from _rows import Row

if TYPE_CHECKING:
    from openhcs.testing import PlateSpec
    from openhcs.testing.formats import OneFilePerPlane

__all__ = ["rows"]

SIZES = {20_736: ((8, 12), 5.0), 103_680: ((16, 24), 15.0)}
"""By number of images: rows and columns of the plate, and the most seconds."""

FIELDS, LARGEST_GB = (3, 3), 2.0
CHANNELS = {20_736: 4, 103_680: 5}
DEPTHS = 6
MEANT = {"PLATEMAP_COLUMN_EMPTY"}
"""Findings of plates as they are written here: the assay layout of a Harmony has no compounds."""
NAMES = ("DAPI", "GFP", "TRITC", "CY5", "RFP")
TAGS = {
    "spatial-calibration-state": "on",
    "spatial-calibration-x": "0.65",
    "spatial-calibration-y": "0.65",
    "spatial-calibration-units": "um",
    "z-position": "9318.24",
    "OffsetFromWellCenterUmX": "-349.92",
    "OffsetFromWellCenterUmY": "0.04",
    "_IllumSetting_": "DAPI",
}
"""Of the files of an ImageXpress; they do not say which well they are of."""


def rows(repeats: int = 3) -> list[Row]:
    """Measure and return the rows; figures are medians of `repeats`."""
    from openhcs.testing.formats import CV8000, HcsAi, ImageXpressExport, Phenix

    found: list[Row] = []
    layouts: tuple[OneFilePerPlane, ...] = (
        ImageXpressExport(),
        HcsAi(extras=False),
        Phenix(),
        CV8000(),
    )
    for layout in layouts:
        for count, (shape, limit) in SIZES.items():
            with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
                plate = Path(folder) / "plate"
                _make(plate, layout, count, shape)
                listed = _list_s(plate)
                parsed = _parse_s(plate)
                measured = [_open(plate, count) for _ in range(repeats)]
            what = "listing the folder" + (", a bare parse of its XML" if parsed else "")
            name = f"{count} files, {layout.name}"
            found += _rows(name, measured, listed + parsed, limit, what)
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
        plate = Path(folder) / "plate.zarr"
        _make_zarr(plate)
        read = _read_s(plate)
        measured = [_open(plate, 20_736) for _ in range(repeats)]
    what = "listing the folder, reading its documents"
    return found + _rows("20736 planes, ome-zarr", measured, read, SIZES[20_736][1], what)


def _rows(
    name: str, measured: list[tuple[float, float]], least_s: float, limit: float, what: str
) -> list[Row]:
    seconds = median(time_s for time_s, _ in measured)
    memory = max(peak for _, peak in measured)
    return [
        Row(
            f"index {name}",
            seconds,
            "CPU s",
            least_s,
            seconds / least_s,
            f"<= {limit:g} s; limit: {what}",
            seconds <= limit,
        ),
        Row(
            f"memory of it, {name.rpartition(' ')[2]}",
            memory,
            "GB",
            None,
            None,
            f"<= {LARGEST_GB:g} GB",
            memory <= LARGEST_GB,
        ),
    ]


def _spec(folder: Path, layout: OneFilePerPlane, count: int, shape: tuple[int, int]) -> PlateSpec:
    """Make the description of a large plate from a small one."""
    from openhcs.plates import well_name
    from openhcs.testing import synthetic_plate

    small = synthetic_plate(
        folder / "small",
        format=layout,
        wells=("A01",),
        grid=(1, 1),
        channels=NAMES[: CHANNELS[count]],
        z=DEPTHS,
        size_px=32,
        cells_per_field=0.0,
        plate_rows=shape[0],
        plate_columns=shape[1],
    ).spec
    wells = [well_name(row, col) for row in range(shape[0]) for col in range(shape[1])]
    return replace(
        small,
        name="plate",
        grid=FIELDS,
        wells=tuple(wells),
        conditions=small.conditions * len(wells),
    )


def _make(plate: Path, layout: OneFilePerPlane, count: int, shape: tuple[int, int]) -> None:
    import numpy as np
    import tifffile

    from openhcs.testing._geometry import tile_places
    from openhcs.testing._spec import well_position

    plate.mkdir()
    spec = _spec(plate.parent, layout, count, shape)
    templates = []
    for step in range(DEPTHS):
        template = plate.parent / f"template_{step}.tif"
        lines = [
            f'<prop id="{name}" type="string" value="{value}"/>'
            for name, value in (TAGS | {"Z Step": f"{step + 1}"}).items()
        ]
        tifffile.imwrite(
            template,
            np.zeros((32, 32), np.uint16),
            description="<MetaData>\n" + "\n".join(lines) + "\n</MetaData>",
            metadata=None,
            software="MetaSeries",
        )
        templates.append(template)
    made: set[Path] = set()
    images = 0
    for well in spec.wells:
        for key in spec.keys(well):
            path = plate / layout.path(spec, key)
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            os.link(templates[key.z], path)
            images += 1
    assert images == count, images
    order = layout.field_order(spec)
    places = {well: tile_places(spec, *well_position(well), order) for well in spec.wells}
    for file in layout.metadata(spec, places):
        path = plate / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)


def _make_zarr(plate: Path) -> None:
    import numpy as np

    from openhcs.plates import well_name
    from polystore.omezarr import (
        ChannelMeta,
        ImageMeta,
        ImageWriter,
        PlateLayout,
        PlateReader,
        create_plate,
    )

    wells = [well_name(row, col) for row in range(16) for col in range(24)]
    fields = [str(field) for field in range(9)]
    create_plate(
        plate, PlateLayout.regular("plate", rows=16, columns=24, wells=wells, images=fields)
    )
    reader = PlateReader(plate)
    channels = tuple(ChannelMeta(name, window=(0, 99)) for name in (*NAMES, "BF"))
    pixels = np.zeros((32, 32), np.uint16)
    for well in wells:
        for field in fields:
            place = (18.0 * (int(field) // 3), 18.0 * (int(field) % 3))
            meta = ImageMeta(channels=channels, pixel_um=(0.65, 0.65), origin_um=place)
            with ImageWriter(reader, well, field, (6, 32, 32), np.uint16, meta) as image:
                for channel in range(6):
                    image.write_plane(pixels, c=channel)
                image.commit()


def _read_s(plate: Path) -> float:
    """Time what no reader of OME-Zarr can do without: each document read, and the listing."""
    listed = _list_s(plate)
    began = time.process_time()
    for folder, _, names in os.walk(plate):
        if "zarr.json" in names:
            with open(f"{folder}/zarr.json", "rb") as file:  # noqa: PTH123  # as above
                json.load(file)
    return listed + time.process_time() - began


def _parse_s(plate: Path) -> float:
    """Time a parse of the list of images with nothing taken from it; 0 where there is none."""
    from xml.etree import ElementTree as ET

    files = [path for path in plate.rglob("*") if path.suffix in (".xml", ".mlf")]
    largest = max(files, key=lambda path: path.stat().st_size, default=None)
    if largest is None:
        return 0.0
    began = time.process_time()
    for _, element in ET.iterparse(largest):
        element.clear()
    return time.process_time() - began


def _list_s(plate: Path) -> float:
    """Time what no reader can do without: one look at each file's size and time."""
    began = time.process_time()
    for folder, _, names in os.walk(plate):
        for name in names:
            os.stat(f"{folder}/{name}")  # noqa: PTH116  # what it costs, without a Path for each
    return time.process_time() - began


def _open(plate: Path, count: int) -> tuple[float, float]:
    """Open a plate in a process of its own; give seconds, and the most GB that were resident."""
    done = subprocess.run(
        [sys.executable, __file__, str(plate)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["planes"] == count, found
    assert found["odd"] == [], found
    return found["seconds"], found["gigabytes"]


def _main(plate: Path) -> None:
    from openhcs.plates import open_plate

    began = time.process_time()
    index = open_plate(plate, cache=False)
    seconds = time.process_time() - began
    odd = sorted({f.code for f in index.findings if f.severity != "info"} - MEANT)
    found = {"seconds": seconds, "gigabytes": _peak_gb(), "planes": len(index), "odd": odd}
    print(json.dumps(found))


def _peak_gb() -> float:
    """Give the most memory of this process; what `getrusage` says is inherited from its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # macOS counts bytes


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
