"""How fast a stream of payloads becomes updates of layers, and how that grows."""

from __future__ import annotations

import gc
import statistics
import time
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from _rows import Row

from polystore import Components, Payload
from polystore.projection import ComponentModes, Fit, Projector

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["rows"]

ITEMS = 100_000
TENTH = ITEMS // 10
ENQUEUED = 2000
SHOWN = "none; shown for comparison"


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of projection; medians of `repeats`."""
    plate, frames = plate_of(ITEMS), time_lapse(ITEMS)
    gc.collect()
    gc.freeze()  # what is measured is not to walk through what is only handed in
    try:
        return [
            *projected("layers", plate, layers, repeats),
            *projected("hyperstacks", plate, hyperstacks, repeats),
            # each batch makes the axis longer, which is copied: not linear, and no bound is asked
            *projected("one long time axis", frames, layers, repeats, every=64, bound=False),
            enqueued(plate, repeats),
        ]
    finally:
        gc.unfreeze()


def projected(
    label: str,
    payloads: list[Payload],
    make: Callable[[], Projector],
    repeats: int,
    every: int = ITEMS,
    *,
    bound: bool = True,
) -> list[Row]:
    """All payloads added and taken, and a tenth of them for comparison."""
    whole, tenth, least = [], [], []
    for _ in range(repeats):
        tenth.append(seconds(lambda: project(make(), payloads[:TENTH], every)))
        whole.append(seconds(lambda: project(make(), payloads, every)))
        least.append(seconds(lambda: bare(payloads)))
    value, limit = statistics.median(whole), statistics.median(least)
    ratio = statistics.median(one / other for one, other in zip(whole, tenth, strict=True))
    return [
        Row(
            row=f"{label}: {ITEMS:,} items, beside a dict of them",
            value=value,
            unit="s",
            limit=limit,
            ratio=value / limit,
            target="< 1 s" if bound else SHOWN,
            met=value < 1 or not bound,
        ),
        Row(
            row=f"{label}: time for 10 times the items",
            value=ratio,
            unit="times",
            limit=10.0,
            ratio=ratio / 10,
            target="<= 12 times" if bound else SHOWN,
            met=ratio <= 12 or not bound,
        ),
    ]


def enqueued(payloads: list[Payload], repeats: int) -> Row:
    """One payload into a batch that many wait in."""
    values = []
    least = []
    for _ in range(repeats):
        add_last = partial(add, layers_with(payloads[:-ENQUEUED]), payloads[-ENQUEUED:])
        values.append(seconds(add_last) / ENQUEUED)
        least.append(seconds(lambda: bare(payloads[-ENQUEUED:])) / ENQUEUED)
    value, limit = statistics.median(values) * 1e6, statistics.median(least) * 1e6
    return Row(
        row=f"enqueue one item while {ITEMS - ENQUEUED:,} wait, beside a dict",
        value=value,
        unit="us",
        limit=limit,
        ratio=value / limit,
        target="<= 10 us",
        met=value <= 10,
    )


def layers() -> Projector:
    """Make what napari needs."""
    return Projector(ComponentModes(), time.monotonic)


def hyperstacks() -> Projector:
    """Make what ImageJ needs."""
    modes = ComponentModes.hyperstack()
    return Projector(modes, time.monotonic, fit=Fit.SPLIT, shared_axes=False)


def project(projector: Projector, payloads: list[Payload], every: int) -> None:
    """Add payloads, and take batches when so many have come, and at the end."""
    for number, payload in enumerate(payloads):
        projector.add(payload)
        if number % every == every - 1:
            projector.take()
    while projector.pending_items:
        projector.take()


def layers_with(payloads: list[Payload]) -> Projector:
    """Make one in which payloads wait."""
    projector = layers()
    add(projector, payloads)
    return projector


def add(projector: Projector, payloads: list[Payload]) -> None:
    """Add payloads."""
    for payload in payloads:
        projector.add(payload)


def bare(payloads: list[Payload]) -> None:
    """Do the least that can be done: the newest of each place, by the place."""
    newest = {}
    for payload in payloads:
        newest[payload.components] = payload
    assert newest


def plate_of(count: int) -> list[Payload]:
    """Make planes of 384 wells, 9 fields, 4 channels and the z it takes."""
    pixels = np.zeros((1, 1), np.uint16)
    wells = [f"{row}{column:02}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    depth = -(-count // (len(wells) * 36))
    places = product(wells, range(9), range(4), range(depth))
    return [
        Payload(
            data=pixels,
            components=Components(
                plate="p", step="stitch", well=well, field=field, channel=channel, z=z
            ),
            name="stitched",
            contrast_limits=(float(number % 7), 100.0 + number % 11),
            pixel_um=(0.65, 0.65),
            run="run",
        )
        for number, (well, field, channel, z) in zip(range(count), places, strict=False)
    ]


def time_lapse(count: int) -> list[Payload]:
    """Make planes of one well that are all of another time point."""
    pixels = np.zeros((1, 1), np.uint16)
    return [
        Payload(data=pixels, components=Components(well="A01", t=t), name="live", run="run")
        for t in range(count)
    ]


def seconds(what: Callable[[], object]) -> float:
    """Processor time of this process, which others on the computer do not lengthen."""
    start = time.process_time()
    what()
    return time.process_time() - start
