"""Objects from a label image to outlines, to a ROI set, and back; and what a header costs.

Ten thousand cells with holes, in random order of their numbers. Seconds are a process's own, so
that whatever else the computer does falls on nobody.
"""

from __future__ import annotations

import io
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from _rows import Row

from polystore import Components, Payload, Provenance, Regions, encode
from polystore.rois import read_roi_zip, write_roi_zip

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["rows"]

OBJECTS = 10_000
LONGEST_S = 5.0
HEADER_MOST_US = 20.0
TURNS = 2000
SHOWN = "none; shown for comparison"


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of regions and headers; medians of `repeats`."""
    return [*_round_trip(repeats), *_growth(repeats), *_headers(repeats)]


def make_cells(count: int) -> NDArray[np.uint32]:
    """Make `count` squared round cells of 20 x 20 pixels each, every third with a hole."""
    y, x = np.mgrid[:20, :20] - 9.5
    numbers = np.random.default_rng(0).permutation(np.arange(1, count * count + 1, dtype=np.uint32))
    inside = (y * y + x * x < 80).astype(np.uint32)
    image = np.kron(numbers.reshape(count, count), inside)
    hole = np.kron(numbers.reshape(count, count) % 3 == 0, y * y + x * x < 9)
    image[hole] = 0
    return image


def _median(act: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        act()
        taken.append(time.process_time() - start)
    return max(statistics.median(taken), 1e-9)


def _round_trip(repeats: int) -> list[Row]:
    image = make_cells(100)
    outlines = Regions.from_labels(image)
    file = io.BytesIO()
    write_roi_zip(outlines, file)
    back = read_roi_zip(file.getvalue())
    same = bool((back.to_labels(image.shape, image.dtype) == image).all())
    parts = {
        "label image to polygons": _median(lambda: Regions.from_labels(image), repeats),
        "polygons to ROI zip": _median(lambda: write_roi_zip(outlines, io.BytesIO()), repeats),
        "ROI zip to polygons": _median(lambda: read_roi_zip(file.getvalue()), repeats),
        "polygons to label image": _median(
            lambda: back.to_labels(image.shape, image.dtype), repeats
        ),
    }
    copy = _median(image.copy, repeats)
    total = sum(parts.values())
    what = f"regions, {OBJECTS} objects of {image.shape[0]} x {image.shape[1]}"
    return [
        *(Row(f"{what}: {name}", took, "s", None, None, SHOWN, met=True)
          for name, took in parts.items()),
        Row(f"{what}: there and back", total, "s", copy, total / copy,
            f"< {LONGEST_S:g} s, identical labels", same and total < LONGEST_S),
    ]  # fmt: skip


def _growth(repeats: int) -> list[Row]:
    """Ten times the objects, in as much larger an image."""
    few, many = make_cells(30), make_cells(95)

    def both(image: NDArray[np.uint32]) -> float:
        outlines = Regions.from_labels(image)
        return _median(lambda: Regions.from_labels(image), repeats) + _median(
            lambda: outlines.to_labels(image.shape, image.dtype), repeats
        )

    less, more = both(few), both(many)
    ratio = more / less / (95**2 / 30**2)
    return [
        Row("regions, 10 times the objects: time for each", more / 95**2 * 1e6, "us",
            less / 30**2 * 1e6, ratio, "ratio <= 1.5", ratio <= 1.5)
    ]  # fmt: skip


def _headers(repeats: int) -> list[Row]:
    where = Components(plate="P1", step="stitch", well="B03", field=1, channel=2, z=3, t=4)
    pixels = np.zeros((2048, 2048), np.uint16)
    image = Payload(
        data=pixels,
        components=where,
        name="stitched",
        pixel_um=(0.65, 0.65),
        units="counts",
        channel_name="DAPI",
        contrast_limits=(100, 4000),
        run="2026-01-01/7f",
    )
    known = Payload(
        data=pixels,
        components=where,
        provenance=Provenance(sources=("raw/B03_s1_w1.tif",), software="openhcs 0.1.0"),
    )
    pack = msgspec.msgpack.Encoder().encode
    found = []
    for name, payload in (("image", image), ("image of known provenance", known)):
        fields = msgspec.msgpack.decode(encode(payload)[0])
        bare = _median(partial(_often, partial(pack, fields)), repeats)
        ours = _median(partial(_often, partial(encode, payload)), repeats)
        took, floor = ours / TURNS * 1e6, bare / TURNS * 1e6
        found.append(
            Row(f"header of an {name}: encode", took, "us", floor, took / floor,
                f"<= {HEADER_MOST_US:g} us; the limit is msgspec with a dict",
                took <= HEADER_MOST_US)
        )  # fmt: skip
    return found


def _often(act: Callable[[], object]) -> None:
    for _ in range(TURNS):
        act()
