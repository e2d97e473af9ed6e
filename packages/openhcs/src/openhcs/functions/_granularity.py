"""How much of the brightness is in structures of which size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Interval

from openhcs.functions._checks import checked_labels, checked_plane, plane_like, positive
from openhcs.functions._morphology import dilated, erosions, opened
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._quantities import PositiveUm  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, Kind, Output, function
from openhcs.functions._scale import block_of, reduce_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns, PlaneArray

__all__ = ["Granularity", "measure_granularity"]

Steps: TypeAlias = Annotated[int, Interval(ge=1, le=32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """What `measure_granularity` gives.

    Attributes
    ----------
    granularity
        One row per object: ``ObjectNumber`` and, for each channel, ``Granularity_1`` and so on: the
        part of the object's brightness, in %, that is in structures too narrow for a disk of that
        many steps and wide enough for one of a step less. NaN where there is no brightness above
        the background. No columns without labels.
    granularity_by_plane
        The same for all pixels of the plane, by channel.
    """

    granularity: Columns
    granularity_by_plane: Mapping[str, float]


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("granularity", Kind.TABLE), Output("granularity_by_plane", Kind.RECORD)),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_granularity(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    labels: NDArray[Any] | None = None,
    step_um: PositiveUm = 1.0,
    steps: Steps = 8,
    background_um: PositiveUm = 15.0,
) -> Granularity:
    """Measure how much of the brightness is in structures of which width.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; loaded one at a time.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    labels
        Objects, shape (y, x); None where no earlier step gives any.
    step_um
        How much wider the radius grows with each step, in µm; a pixel or more. Planes are first
        reduced to pixels of about this size, which is what makes it cheap.
    steps
        How many radii, 1 to 32.
    background_um
        Radius of the disk, in µm, whose opening is the background and taken away first; greater
        than steps times step_um.

    Returns
    -------
    Granularity
        Columns by object and scalars for the plane.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), or a parameter is out of its range.

    Notes
    -----
    The granulometric size distribution of Matheron (Random sets and integral geometry, 1975):
    openings by growing disks, here octagons, on a plane reduced to block means. Every pixel of an
    object takes the value of its block. Spectra of planes of unlike pixel size agree as far as
    their reduced pixels do.
    """
    positive(step_um=step_um, background_um=background_um)
    if step_um < max(pixel_um):
        raise ValueError(
            f"step_um is {step_um:g}, and a pixel is {max(pixel_um):g} µm: a radius cannot grow by "
            "less than a pixel"
        )
    if not 1 <= steps <= 32:
        raise ValueError(f"steps is {steps}; it must be from 1 to 32")
    if background_um <= steps * step_um:
        raise ValueError(
            f"background_um is {background_um}; it must be greater than the largest radius, "
            f"{steps * step_um:g} µm"
        )
    table: dict[str, NDArray[Any]] = {}
    record: dict[str, float] = {}
    objects: ObjectPixels | None = None
    if labels is not None:
        objects = ObjectPixels.of(checked_labels(labels, pixel_um))
        table["ObjectNumber"] = objects.numbers
    for name in channels:
        plane = checked_plane(np.asarray(channels[name]))
        if labels is not None:
            plane_like({name: plane}, name, labels.shape, "the labels")
        reduced, size_um = _reduced(plane, pixel_um, step_um)
        blocks = _blocks(objects, plane.shape, reduced.shape)
        before: tuple[float, NDArray[np.float64]] | None = None
        for number, image in enumerate(_openings(reduced, size_um, step_um, steps, background_um)):
            means = float(image.mean(dtype=np.float64)), _object_means(image, objects, blocks)
            if before is None:
                before = first = means
            if number:
                lost = np.array([before[0] - means[0]])
                record[f"Granularity_{number}_{name}"] = float(
                    _percent(lost, np.array([first[0]]))[0]
                )
                if objects is not None:
                    column = _percent(before[1] - means[1], first[1])
                    table[f"Granularity_{number}_{name}"] = column
            before = means
    return Granularity(granularity=table, granularity_by_plane=record)


def _reduced(
    plane: PlaneArray, pixel_um: tuple[float, float], step_um: float
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Reduce a plane to pixels of about one step; give their size too."""
    shape = tuple(
        max(1, min(size, round(size * step / step_um)))
        for size, step in zip(plane.shape, pixel_um, strict=True)
    )
    values = np.nan_to_num(plane, posinf=0.0, neginf=0.0) if plane.dtype.kind == "f" else plane
    small = reduce_mean(values, (shape[0], shape[1]))
    return small, (
        pixel_um[0] * plane.shape[0] / small.shape[0],
        pixel_um[1] * plane.shape[1] / small.shape[1],
    )


def _openings(
    reduced: NDArray[np.float32],
    size_um: tuple[float, float],
    step_um: float,
    steps: int,
    background_um: float,
) -> Iterator[NDArray[np.float32]]:
    """Give the plane without its background, and then its opening by each disk."""

    def radius(um: float) -> tuple[int, int]:
        return max(1, round(um / size_um[0])), max(1, round(um / size_um[1]))

    start = reduced - opened(reduced, radius(background_um))
    yield start
    radii = [radius(number * step_um) for number in range(1, steps + 1)]
    # Each octagon begins as the smaller ones do, so that one series of erosions serves them all.
    series = list(erosions(start, radii[-1])) if radii[-1][0] == radii[-1][1] else None
    for each in radii:
        yield opened(start, each) if series is None else dilated(series[each[0]], each)


def _blocks(
    objects: ObjectPixels | None, shape: tuple[int, ...], reduced: tuple[int, ...]
) -> NDArray[np.intp]:
    """Give the reduced pixel of each pixel of an object."""
    if objects is None:
        return np.zeros(0, np.intp)
    y, x = np.divmod(objects.flat, max(shape[1], 1))
    place: NDArray[np.intp] = block_of(shape[0], reduced[0])[y] * reduced[1]
    place += block_of(shape[1], reduced[1])[x]
    return place


def _object_means(
    image: NDArray[np.float32], objects: ObjectPixels | None, blocks: NDArray[np.intp]
) -> NDArray[np.float64]:
    if objects is None:
        return np.zeros(0)
    return objects.total(image.ravel()[blocks]) / objects.areas


def _percent(lost: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full(lost.size, np.nan)
    np.divide(100 * lost, first, out=result, where=first > 0)
    return result
