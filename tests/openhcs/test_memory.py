"""What a run holds does not grow with the wells it has done."""

from __future__ import annotations

import gc
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from openhcs.execution import run
from openhcs.functions import measure_objects, segment_nuclei, stitch
from openhcs.pipeline import Event, Pipeline, Step, WellFinished, compile_pipeline
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

WELLS = tuple(f"A{column:02d}" for column in range(1, 7))
SIDE_PX = 384


def test_wells_that_are_done_hold_no_pixels_until_they_are_collected(tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    synthetic_plate(plate, wells=WELLS, grid=(2, 2), z=1, size_px=SIDE_PX, cells_per_field=30)
    pipeline = Pipeline(
        Step(stitch, reference="DAPI", keep=True),
        Step(segment_nuclei, channel="DAPI"),
        Step(measure_objects),
    )
    held: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, WellFinished):
            held.append(tracemalloc.get_traced_memory()[0])

    plan = compile_pipeline(pipeline, open_plate(plate, cache=False))
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        with ThreadPoolExecutor(1) as executor:
            result = run(plan, tmp_path / "out", executor=executor, on_event=note)
    finally:
        tracemalloc.stop()
        gc.enable()
    assert result.completed
    by_well = (held[-1] - held[1]) / (len(held) - 2)
    stitched = (2 * SIDE_PX) ** 2 * 2  # bytes of one channel
    assert by_well < stitched / 4, held
