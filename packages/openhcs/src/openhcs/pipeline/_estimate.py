"""What a plan will need, memory and disk, from small images of the plate's own wells.

The steps are done on a whole well of small images in two sizes. What memory grows by from the one
to the other is what a pixel costs, and holds for images of any size; shapes of images that steps
make, such as mosaics, follow in the same way.
"""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlateError
from openhcs.functions import Kind
from openhcs.pipeline._acting import steps_in
from openhcs.pipeline._evaluation import Evaluation
from openhcs.pipeline._lessons import lessons_of
from openhcs.pipeline._planes import well_planes
from openhcs.pipeline._tiny import TinyWell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import Plan, PlannedStep
    from openhcs.plates import Plane, PlateIndex

__all__ = ["PROCESS_BYTES", "Estimate", "StoredEstimate", "estimate", "process_bytes"]

PROCESS_BYTES = 260_000_000
"""A worker process with its libraries, before it reads a plane or loads a network."""

_MOST_PX = 5_000_000
"""Pixels of all small images of a well together, in the larger of the two sizes."""

_SIDES_PX = (64, 192)
_SAMPLED = 3
_PYRAMID = 4 / 3
_SPARE = 1.6
"""For what libraries allocate without telling Python, and for memory in pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEstimate:
    """Images or labels that a step stores in a well.

    Attributes
    ----------
    step
        Name of the step.
    name
        Name under which they are stored.
    kind
        ``image`` or ``labels``.
    planes
        How many planes, of all fields, channels, z and t.
    shape
        (y, x) of the largest.
    dtype
        Pixel type.
    """

    step: str
    name: str
    kind: Kind
    planes: int
    shape: tuple[int, int]
    dtype: str

    @property
    def bytes(self) -> int:
        """Size without compression, pyramid included."""
        pixels = self.planes * math.prod(self.shape)
        return math.ceil(pixels * np.dtype(self.dtype).itemsize * _PYRAMID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a plan will need.

    Attributes
    ----------
    wells
        How many wells will be done.
    planes, read_bytes
        How many planes the wells have, and the size of their files.
    largest
        Name of the well with the most planes, from which the rest follows.
    peak_bytes
        Memory of the worker process that does it, at its height.
    stored
        What that well stores.
    disk_bytes
        What all wells together take on disk, compressed as a few planes of the plate are.
    compression
        Part of the uncompressed size that these planes took.
    """

    wells: int
    planes: int
    read_bytes: int
    largest: str
    peak_bytes: int
    stored: tuple[StoredEstimate, ...]
    disk_bytes: int
    compression: float


def estimate(plan: Plan) -> Estimate:
    """Say what a plan will need.

    Parameters
    ----------
    plan
        From `compile_pipeline`.

    Returns
    -------
    Estimate
        Memory of a worker and the disk are rather too high than too low.

    Notes
    -----
    Takes one or two seconds. Reads three planes of the plate, to see how well they compress; planes
    that cannot be read are passed over.
    """
    index = plan.index
    wells = [well for well in plan.wells if well not in plan.refused]
    columns = index.column("well").tolist()
    there = index.select(kind=None)
    counts = dict.fromkeys(wells, 0)
    for well in columns:
        counts[well] += 1
    largest = max(counts, key=lambda well: counts[well])
    planes = well_planes(index, largest, plan.channels, plan.skipped.get(largest, frozenset()))
    shape = _shape(index)
    most = math.isqrt(_MOST_PX // max(1, len(planes)))
    large = min(_SIDES_PX[1], max(_SIDES_PX[0], most), *shape)
    sides = (max(16, large // 2), large)
    steps = steps_in(plan.steps, largest)
    small, big = (_measured(plan, steps, planes, side, shape) for side in sides)
    growth = _Growth(sides[0] ** 2, sides[1] ** 2, math.prod(shape))
    peak = growth.at(small.peak, big.peak)
    stored = _stored(steps, small, big, sides, shape)
    ratio = _sampled(index, list(planes.values()))
    share = len(columns) / counts[largest]
    return Estimate(
        wells=len(wells),
        planes=len(there),
        read_bytes=int(there.column("file_size").clip(min=0).sum()),
        largest=largest,
        peak_bytes=math.ceil(process_bytes(plan) + _SPARE * peak),
        stored=stored,
        disk_bytes=math.ceil(sum(each.bytes for each in stored) * ratio * share),
        compression=ratio,
    )


def process_bytes(plan: Plan) -> int:
    """Say what a worker process holds beside images: libraries, and the networks of its steps."""
    networks = {
        (step.function, tuple(sorted(step.files))): step.spec.weights.holds_bytes(step.parameters)
        for step in plan.steps
        if step.spec.weights is not None
    }
    return PROCESS_BYTES + sum(networks.values())


@dataclass(frozen=True, slots=True)
class _Growth:
    """A line through two points, read at a third; never below the second."""

    first: float
    second: float
    wanted: float

    def at(self, low: float, high: float) -> float:
        per_unit = max(0.0, high - low) / max(1.0, self.second - self.first)
        return high + per_unit * max(0.0, self.wanted - self.second)


class _Sizes:
    """Takes note of what is stored; keeps what a worker would keep until its well is done."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[tuple[int, ...], np.dtype[Any]]]] = {}
        self._waiting: list[Any] = []

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        if kind in (Kind.TABLE, Kind.RECORD):
            self._waiting.append(value)
            return
        self.shapes.setdefault(f"{step.name}/{name}", []).append((value.shape, value.dtype))
        if key.field is None:
            self._waiting.append(value)  # its size is known when the last t and z are there

    def reused(self, step: PlannedStep) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        message = f"{step.name}: {kind} {name} of {key} is not stored in an estimate"
        raise AssertionError(message)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Nothing is counted."""

    def proceed(self) -> None:
        """Nothing stops it."""


@dataclass(frozen=True, slots=True)
class _Measured:
    peak: int
    shapes: Mapping[str, list[tuple[tuple[int, ...], np.dtype[Any]]]]


def _measured(
    plan: Plan,
    steps: Sequence[PlannedStep],
    planes: Mapping[GroupKey, Plane],
    side_px: int,
    shape: tuple[int, int],
) -> _Measured:
    """Take a well of small images through all steps."""
    lessons, _ = lessons_of(plan, side_px)
    scale = side_px / shape[1], side_px / shape[0]
    places = {
        plane.field: (plane.x_um * scale[0], plane.y_um * scale[1]) for plane in planes.values()
    }
    well = TinyWell(
        tuple(planes), plan.index.dtype, plan.pixel_um, lessons, places=places, side_px=side_px
    )
    kept = _Sizes()
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start(1)
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        Evaluation(steps, well, kept, trial=True).run()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()
    return _Measured(peak, kept.shapes)


def _stored(
    steps: Sequence[PlannedStep],
    small: _Measured,
    big: _Measured,
    sides: tuple[int, int],
    shape: tuple[int, int],
) -> tuple[StoredEstimate, ...]:
    found: list[StoredEstimate] = []
    for step in steps:
        kinds = {output.stored: output.kind for output in step.outputs}
        for name in (step.image, *kinds):
            sizes = big.shapes.get(f"{step.name}/{name}")
            if name is None or sizes is None:
                continue
            at_small = [size for size, _ in small.shapes[f"{step.name}/{name}"]]
            at_big = [size for size, _ in sizes]
            found.append(
                StoredEstimate(
                    step=step.name,
                    name=name,
                    kind=kinds.get(name, Kind.IMAGE),
                    planes=len(sizes),
                    shape=(
                        _side(at_small, at_big, 0, sides, shape),
                        _side(at_small, at_big, 1, sides, shape),
                    ),
                    dtype=str(sizes[0][1]),
                )
            )
    return tuple(found)


def _side(
    small: Sequence[tuple[int, ...]],
    big: Sequence[tuple[int, ...]],
    axis: int,
    sides: tuple[int, int],
    shape: tuple[int, int],
) -> int:
    growth = _Growth(sides[0], sides[1], shape[axis])
    return round(growth.at(max(s[axis] for s in small), max(s[axis] for s in big)))


def _shape(index: PlateIndex) -> tuple[int, int]:
    """Give the size of the largest planes whose headers are known."""
    height, width = int(index.column("height").max()), int(index.column("width").max())
    return (height, width) if height > 0 and width > 0 else (2160, 2160)


def _sampled(index: PlateIndex, planes: Sequence[Plane]) -> float:
    """Read a few planes; give the part that they take when they are compressed."""
    import numcodecs  # type: ignore[import-untyped]

    codec = numcodecs.Blosc(cname="zstd", clevel=3)
    sizes: list[float] = []
    for plane in planes[:: max(1, len(planes) // _SAMPLED)][:_SAMPLED]:
        try:
            pixels: NDArray[Any] = index.read(plane)
        except PlateError:
            continue
        sizes.append(len(codec.encode(np.ascontiguousarray(pixels))) / max(1, pixels.nbytes))
    return min(1.0, max(sizes) * 1.1) if sizes else 1.0
