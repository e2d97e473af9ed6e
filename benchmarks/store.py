"""``hatch run bench:store``: what is kept and shown, each part against its limit."""

from __future__ import annotations

import sys

import store_codecs
import store_files
import store_projection
import store_regions
import store_tiles
import store_torn
import store_zarr
from _parts import measure_parts

PARTS = {
    "codecs": store_codecs.rows,
    "files": store_files.rows,
    "projection": store_projection.rows,
    "regions": store_regions.rows,
    "tiles": store_tiles.rows,
    "torn": store_torn.rows,
    "zarr": store_zarr.rows,
}

if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
