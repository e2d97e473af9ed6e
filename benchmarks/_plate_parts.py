"""The parts of the default pipeline in a plain loop over a few wells: what the work itself costs.

Run as ``python _plate_parts.py PLATE N`` by `_plate_run`, one process for each core at a time; it
prints the seconds per well as JSON. Nothing of the framework is used: no plan, no tasks, no
records.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

WELLS = 4
ESTIMATE_FROM = 50


def main(plate: Path, number: int) -> float:
    """Time the parts on `WELLS` wells of a plate; the first well is a warm-up."""
    from openhcs.plates import open_plate

    index = open_plate(plate)
    wells = index.wells[number * (WELLS + 1) :][: WELLS + 1]
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for well in wells:
            began = time.perf_counter()
            _one_well(index.select(wells=[well]), well, Path(folder))
            seconds.append(time.perf_counter() - began)
    # The estimate is made once per plate: its share is what a well's planes are of the plate's.
    estimate = _estimate_s(index) / len(index.wells)
    return sum(seconds[1:]) / len(seconds[1:]) + estimate


def _estimate_s(index) -> float:  # type: ignore[no-untyped-def]  # a script
    """Time reading and reducing the planes that the illumination is estimated from."""
    from openhcs.functions import correct_illumination, spec_of

    preparation = spec_of(correct_illumination).preparation
    assert preparation is not None
    began = time.perf_counter()
    for channel in index.channels:
        planes = list(index.select(channels=[channel]))
        step = max(1, len(planes) // ESTIMATE_FROM)
        for plane in planes[::step][:ESTIMATE_FROM]:
            preparation.summarise(index.read(plane), {"source": "auto", "dark": None})
    return time.perf_counter() - began


def _one_well(index, well: str, folder: Path) -> None:  # type: ignore[no-untyped-def]  # a script
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from openhcs.functions import (
        Tile,
        correct_illumination,
        measure_image_quality,
        measure_objects,
        segment_nuclei,
        stitch,
    )
    from polystore.omezarr import (
        ChannelMeta,
        ImageMeta,
        ImageWriter,
        PlateLayout,
        create_plate,
        write_labels,
    )

    names = index.channel_names
    prepared = {
        "source": np.asarray(2, np.uint8),
        "confidence": np.asarray(2, np.uint8),
        "dark_source": np.asarray(3, np.uint8),
        "fields": np.asarray(96),
        "dark": np.asarray(100, np.float32),
        "flat": np.ones(tuple(next(iter(index)).shape), np.float32),
    }
    tiles: dict[str, list[Tile]] = {name: [] for name in names}
    for plane in index:
        pixels = index.read(plane)
        measure_image_quality(pixels)
        image = correct_illumination(pixels, prepared=prepared).image
        load = partial(np.asarray, image)
        tile = Tile(field=plane.field, x_um=plane.x_um, y_um=plane.y_um, load=load)
        tiles[plane.channel_name].append(tile)
    stitched = stitch(tiles, pixel_um=index.pixel_um, reference=names[0]).image
    nuclei = segment_nuclei(stitched[names[0]], pixel_um=index.pixel_um)
    objects = measure_objects(stitched, labels=nuclei, pixel_um=index.pixel_um)
    layout = PlateLayout.regular("parts", rows=8, columns=12, wells=[well], images=["stitched"])
    target = folder / f"{well}.zarr"
    create_plate(target, layout)
    meta = ImageMeta(
        channels=tuple(ChannelMeta(name=name) for name in names), pixel_um=index.pixel_um
    )
    shape = (len(names), *nuclei.shape)
    with ImageWriter(target, well, "stitched", shape, "uint16", meta) as writer:
        for channel, name in enumerate(names):
            writer.write_plane(stitched[name], c=channel)
        writer.commit()
    write_labels(target, well, "stitched", "nuclei", nuclei)
    pq.write_table(pa.table(dict(objects)), folder / f"{well}.parquet")


if __name__ == "__main__":
    print(json.dumps({"seconds_per_well": main(Path(sys.argv[1]), int(sys.argv[2]))}))
