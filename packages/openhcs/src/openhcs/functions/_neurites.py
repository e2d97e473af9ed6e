"""Neurites: how long they are, how they branch, and to which soma they belong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import MinLen, Unit

from openhcs.functions._canvas import bare_canvas, filled
from openhcs.functions._checks import at_least, checked_labels, checked_plane, positive
from openhcs.functions._quantities import (
    Counts,
    Factor,
    LengthUm,
    PositiveUm,
)
from openhcs.functions._registry import Axes, Kind, Output, function
from openhcs.functions._ridges import ridge_mask, ridge_strength
from openhcs.functions._skeleton import Skeleton, without_spurs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns

__all__ = ["Neurites", "trace_neurites"]

Widths: TypeAlias = Annotated[tuple[PositiveUm, ...], MinLen(1), Unit("µm")]

_LEAST_SIGMA_PX = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Neurites:
    """What `trace_neurites` gives.

    Attributes
    ----------
    neurites
        Labels, shape (y, x): the middle lines of neurites, with the number of their soma; those
        that reach none have the number after the largest.
    neurites_by_soma
        One row per soma, also without a neurite: ``ObjectNumber``; ``Neurites_Primary``, that leave
        it; ``Neurites_BranchPoints``, ``Neurites_EndPoints``; ``Neurites_TotalLength_um``;
        ``Neurites_LongestPath_um``, from the soma to the farthest end. No columns without labels.
    neurites_by_plane
        ``channel``; ``length_um`` of all neurites and ``unassigned_length_um`` of those that reach
        no soma; ``branch_points``, ``end_points``, ``primary``, ``somas``;
        ``length_per_soma_um``, NaN without one; ``noise`` and ``threshold`` of the ridges.
    """

    neurites: NDArray[np.int32]
    neurites_by_soma: Columns
    neurites_by_plane: Mapping[str, float | str]


@function(
    axes=Axes.CHANNELS,
    outputs=(
        Output("neurites", Kind.LABELS),
        Output("neurites_by_soma", Kind.TABLE),
        Output("neurites_by_plane", Kind.RECORD),
    ),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def trace_neurites(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    labels: NDArray[Any] | None = None,
    guide: str | None = None,
    widths_um: Widths = (1.5, 3.0),
    low_sd: Factor = 5.0,
    high_sd: Factor = 10.0,
    least_contrast: Counts = 0.0,
    least_length_um: PositiveUm = 8.0,
    soma_margin_um: LengthUm = 2.0,
    soma_gap_um: PositiveUm = 2.0,
) -> Neurites:
    """Trace neurites, and say for every soma how long its own are and how they branch.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    labels
        Somas, or nuclei that stand for them, shape (y, x); None where no earlier step gives any.
    guide
        Name of the channel that shows neurites; None for the first one that is handed over.
    widths_um
        Widths of neurites in µm, above 0; a ridge is looked for at each.
    low_sd, high_sd
        How many standard deviations of the noise a ridge has to stand out, and has to somewhere
        along it; above 0, the first no greater than the second.
    least_contrast
        Least height of a ridge above its sides in the plane's units; 0 or more.
    least_length_um
        Branches and pieces that are shorter are taken for roughness or dirt; above 0.
    soma_margin_um
        How far a soma reaches beyond its label, in µm: neurites begin there. More for nuclei.
    soma_gap_um
        A neurite that comes this near to a soma's margin, in µm, begins at that soma.

    Returns
    -------
    Neurites
        The middle lines, and what was measured of them.

    Raises
    ------
    ValueError
        If the guide is no channel, shapes differ, labels are no integers (y, x), or a parameter is
        out of its range.

    Notes
    -----
    Ridges at scale sigma = width / sqrt(12), the least at which a bar of that width gives one line
    (Steger, IEEE Trans. Pattern Anal. Mach. Intell. 20 (1998) 113-125); hysteresis; thinning; a
    graph of the pixels that are left. Each pixel belongs to the soma that is nearest along the
    graph, so that a neurite between two somas is shared at its middle. Where neurites cross there
    is one branch point; what lies on top of each other cannot be told apart in a plane. Cost:
    about 0.5 s/Mpx.
    """
    _check(widths_um, pixel_um, low_sd, high_sd)
    positive(least_length_um=least_length_um, soma_gap_um=soma_gap_um)
    at_least(0, soma_margin_um=soma_margin_um, least_contrast=least_contrast)
    name = next(iter(channels)) if guide is None else guide
    if name not in channels:
        raise ValueError(f"guide {name!r} is no channel; there are {', '.join(channels)}")
    plane = checked_plane(np.asarray(channels[name]))
    if labels is not None and checked_labels(labels, pixel_um).shape != plane.shape:
        raise ValueError(f"channel {name!r} has shape {plane.shape}, the labels {labels.shape}")
    pixels = np.nan_to_num(plane.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    bare = bare_canvas([plane])
    if bare is not None:
        pixels = filled(pixels, bare)
    strength = ridge_strength(pixels, _sigmas(widths_um, pixel_um))
    mask, noise, threshold = ridge_mask(strength, low_sd, high_sd, least_contrast, bare)
    somas = _Somas.of(labels, plane.shape, pixel_um, soma_margin_um, soma_gap_um)
    mask &= ~somas.inside
    thin = without_spurs(mask, least_length_um, pixel_um, somas.near)
    traced = _Traced.of(Skeleton.of(thin, pixel_um), somas)
    by_soma = {} if labels is None else traced.by_soma(somas.numbers)
    total = float(traced.skeleton.length_um.sum() + traced.stub_um.sum())
    unassigned = float(traced.edge_um[somas.numbers.size])
    count = somas.numbers.size
    return Neurites(
        neurites=traced.labels(somas.numbers, plane.shape),
        neurites_by_soma=by_soma,
        neurites_by_plane={
            "channel": name,
            "length_um": total,
            "unassigned_length_um": unassigned,
            "branch_points": int(traced.branch_points.sum()),
            "end_points": int(traced.end_points.sum()),
            "primary": int(traced.primary.sum()),
            "somas": int(count),
            "length_per_soma_um": (total - unassigned) / count if count else math.nan,
            "noise": noise,
            "threshold": threshold,
        },
    )


def _check(
    widths_um: Sequence[float], pixel_um: tuple[float, float], low_sd: float, high_sd: float
) -> None:
    if not widths_um:
        raise ValueError("widths_um is empty; give one width or more")
    for width in widths_um:
        positive(widths_um=width)
    if min(min(sigma) for sigma in _sigmas(widths_um, pixel_um)) < _LEAST_SIGMA_PX:
        least = _LEAST_SIGMA_PX * math.sqrt(12) * max(pixel_um)
        raise ValueError(
            f"widths_um: {min(widths_um):g} µm are too few pixels of {max(pixel_um):g} µm to show "
            f"a ridge; {least:.2g} µm is the least"
        )
    positive(low_sd=low_sd, high_sd=high_sd)
    if low_sd > high_sd:
        raise ValueError(f"low_sd is {low_sd} and high_sd {high_sd}; the first is the lower one")


def _sigmas(widths_um: Sequence[float], pixel_um: tuple[float, float]) -> list[tuple[float, float]]:
    return [
        (width / math.sqrt(12) / pixel_um[0], width / math.sqrt(12) / pixel_um[1])
        for width in widths_um
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Somas:
    """Where somas are; their rows in the table.

    Attributes
    ----------
    numbers
        Ascending; shape (somas,).
    inside, near
        Pixels of somas with their margin, and those where a neurite begins; shape (y, x).
    row
        The nearest soma of each pixel.
    gap_um
        How far each pixel is from the margin; 0 within.
    """

    numbers: NDArray[np.int64]
    inside: NDArray[np.bool_]
    near: NDArray[np.bool_]
    row: NDArray[np.intp]
    gap_um: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        labels: NDArray[Any] | None,
        shape: tuple[int, ...],
        pixel_um: tuple[float, float],
        margin_um: float,
        gap_um: float,
    ) -> _Somas:
        from scipy.ndimage import distance_transform_edt

        if labels is None or not labels.any():
            nowhere = np.zeros(shape, bool)
            return cls(
                numbers=np.zeros(0, np.int64),
                inside=nowhere,
                near=nowhere,
                row=np.zeros(shape, np.intp),
                gap_um=np.full(shape, np.inf),
            )
        numbers, rows = np.unique(labels[labels != 0], return_inverse=True)
        row = np.zeros(shape, np.intp)
        row[labels != 0] = rows
        distance, (y, x) = distance_transform_edt(
            labels == 0, sampling=pixel_um, return_indices=True
        )
        beyond = np.maximum(distance - margin_um, 0.0)
        inside = distance <= margin_um
        return cls(
            numbers=numbers.astype(np.int64),
            inside=inside,
            # A pixel that is diagonally beside the margin is near it, however small the gap.
            near=~inside & (beyond <= max(gap_um, math.hypot(*pixel_um))),
            row=row[y, x],
            gap_um=beyond,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """Neurites by soma; the last row is of those that reach none.

    Attributes
    ----------
    skeleton
        All of them.
    row
        Soma of each pixel; the number of somas for none.
    edge_um, stub_um
        Length along the skeleton, and between it and the margins; shape (somas + 1,).
    longest_um
        Way to the farthest pixel.
    primary, branch_points, end_points
        Counts.
    """

    skeleton: Skeleton
    row: NDArray[np.intp]
    edge_um: NDArray[np.float64]
    stub_um: NDArray[np.float64]
    longest_um: NDArray[np.float64]
    primary: NDArray[np.intp]
    branch_points: NDArray[np.intp]
    end_points: NDArray[np.intp]

    @classmethod
    def of(cls, skeleton: Skeleton, somas: _Somas) -> _Traced:
        count = somas.numbers.size
        size = count + 1
        begins = somas.near[skeleton.y, skeleton.x]
        root_row = somas.row[skeleton.y, skeleton.x]
        gap = somas.gap_um[skeleton.y, skeleton.x]
        row, way = _nearest(skeleton, begins, root_row, gap, count)
        edge = np.zeros(size)
        for end in (skeleton.first, skeleton.second):
            edge += np.bincount(row[end], weights=skeleton.length_um / 2, minlength=size)
        # Each run of pixels near a margin is one neurite that leaves there.
        runs, run = skeleton.parts(begins)
        stubs = np.full(runs, np.inf)
        np.minimum.at(stubs, run[begins], gap[begins])
        owner = np.zeros(runs, np.intp)
        owner[run[begins]] = root_row[begins]
        longest = np.zeros(size)
        np.maximum.at(longest, row, np.where(np.isfinite(way), way, 0.0))
        places, place = skeleton.branchings()
        at = np.zeros(places, np.intp)
        meets = place >= 0
        at[place[meets]] = row[meets]
        ends = (skeleton.degree == 1) & ~begins
        return cls(
            skeleton=skeleton,
            row=row,
            edge_um=edge,
            stub_um=np.bincount(owner, weights=stubs, minlength=size).astype(np.float64),
            longest_um=longest,
            primary=np.bincount(owner, minlength=size),
            branch_points=np.bincount(at, minlength=size),
            end_points=np.bincount(row[ends], minlength=size),
        )

    def by_soma(self, numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        return {
            "ObjectNumber": numbers,
            "Neurites_Primary": self.primary[:-1],
            "Neurites_BranchPoints": self.branch_points[:-1],
            "Neurites_EndPoints": self.end_points[:-1],
            "Neurites_TotalLength_um": (self.edge_um + self.stub_um)[:-1],
            "Neurites_LongestPath_um": self.longest_um[:-1],
        }

    def labels(self, numbers: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int32]:
        none = int(numbers[-1]) + 1 if numbers.size else 1
        drawn = np.zeros(shape, np.int32)
        drawn[self.skeleton.y, self.skeleton.x] = np.append(numbers, none)[self.row]
        return drawn


def _nearest(
    skeleton: Skeleton,
    begins: NDArray[np.bool_],
    root_row: NDArray[np.intp],
    gap_um: NDArray[np.float64],
    count: int,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give the soma that is nearest along the skeleton, and how far it is, for each pixel."""
    from scipy.sparse.csgraph import dijkstra

    row = np.full(begins.size, count, np.intp)
    way = np.full(begins.size, np.inf)
    roots = np.flatnonzero(begins)
    if roots.size:
        way, _, source = dijkstra(
            skeleton.graph(),
            directed=False,
            indices=roots,
            min_only=True,
            return_predecessors=True,
        )
        reached = source >= 0
        row[reached] = root_row[source[reached]]
        way[reached] += gap_um[source[reached]]
    return row, way
