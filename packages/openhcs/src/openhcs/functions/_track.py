"""Objects followed through time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Ge

from openhcs.functions._assign import assigned
from openhcs.functions._checks import at_least, positive
from openhcs.functions._inputs import Stack
from openhcs.functions._quantities import LengthUm, PositiveUm  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, Kind, Output, function
from openhcs.functions._sightings import Sightings, drifts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import Columns

__all__ = ["Tracks", "track_objects"]

Frames: TypeAlias = Annotated[int, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """What `track_objects` gives.

    Attributes
    ----------
    tracks
        One row per object and time point, ordered by track, then time: ``track``, from 1;
        ``parent``, the track that this one split from, 0 for none; ``t``; ``ObjectNumber``, that of
        the label at that t; ``Time_s``, NaN where unknown; ``Y_um``, ``X_um`` of the centre;
        ``Area_um2``; ``Step_um``, the way from the object before it in the track without the
        drift, NaN for the first.
    track_summary
        One row per track: ``track``, ``parent``; ``First_t``, ``Last_t``; ``Objects``, and
        ``Missing``, the time points in between at which it was not seen; ``Children``;
        ``Duration_s``; ``Displacement_um``, from the first to the last place; ``PathLength_um``;
        ``Straightness``, the first over the second, NaN without a way; ``Speed_um_per_s``, path
        length over duration, NaN where times are unknown.
    tracking
        ``objects``, ``tracks``, ``links`` from one time point to the next, ``gaps_closed``,
        ``splits``; ``linked_fraction``, the share of the objects after the first time point that
        go on from an earlier one; ``median_speed_um_per_s`` over tracks; ``largest_drift_um`` from
        one time point to the next.
    """

    tracks: Columns
    track_summary: Columns
    tracking: Mapping[str, float]


@function(
    axes=Axes.TIME,
    outputs=(
        Output("tracks", Kind.TABLE),
        Output("track_summary", Kind.TABLE),
        Output("tracking", Kind.RECORD),
    ),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def track_objects(
    planes: Stack,  # noqa: ARG001  # every function is handed its axes first
    *,
    labels: Stack,
    pixel_um: tuple[float, float],
    max_distance_um: PositiveUm = 15.0,
    max_missing: Frames = 2,
    splits: bool = True,
    max_drift_um: LengthUm = 0.0,
) -> Tracks:
    """Follow objects through time, over gaps and through divisions.

    Parameters
    ----------
    planes
        Not looked at; the step is limited to the channel that the labels were found in.
    labels
        Labels of each time point, shape (y, x) each, ascending in time; one is held at a time.
        Shapes may differ, as those of wells do that are stitched anew for each time point.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    max_distance_um
        How far, in µm, an object may come from one time point to the next; above 0. Half the
        distance between neighbours is a good choice. Over n time points it is sqrt(n) times that.
    max_missing
        Most time points in a row at which a track may go on without its object being seen.
    splits
        Whether a track that begins beside another may be that one's daughter.
    max_drift_um
        How far all objects together may shift from one time point to the next, in µm, because the
        stage did, or because the well was stitched anew; 0 when they do not. The shift is found
        and taken out of ways and speeds.

    Returns
    -------
    Tracks
        Rows of objects and of tracks; both are empty when there are no objects.

    Raises
    ------
    TypeError
        If labels are not those of each time point, because t was projected before.
    ValueError
        If labels are no integers (y, x), or a parameter is out of its range.

    Notes
    -----
    Jaqaman et al., Nature Methods 5 (2008) 695-702. Objects of one time point and the next are
    assigned to each other so that the sum of squared distances is least, where a link may not be
    longer than allowed; then ends of tracks to beginnings, over gaps, and beginnings to tracks
    that pass by, as splits. For a split the cost grows where the two daughters together are not as
    large as their mother, as it does there with brightness. At a split the mother's track ends and
    two begin. Candidates come from a k-d tree, so that the cost grows with the number of objects.
    A drift is where the ways between all objects of two time points lie most densely, where a third
    of the objects agree; else there is none.
    """
    positive(max_distance_um=max_distance_um)
    at_least(0, max_missing=max_missing, max_drift_um=max_drift_um)
    if not isinstance(labels, Stack):
        raise TypeError("labels must be those of each time point: make them before t is projected")
    seen = Sightings.of(labels, pixel_um)
    drift = drifts(seen, max_distance_um, max_drift_um)
    seen = replace(seen, still_um=seen.place_um - np.cumsum(drift, axis=0)[seen.frame])
    links = _Links.none(len(seen.frame))
    _link_frames(seen, links, max_distance_um)
    followed = int(np.count_nonzero(links.after >= 0))
    gaps, parted = _join(seen, links, max_distance_um, max_missing, splits=splits)
    track, parents = _numbered(seen, links)
    order = np.lexsort((seen.frame, track))
    tracks = _rows(seen, links, track, parents, order)
    summary = _summary(tracks, seen.still_um[order], parents)
    later = int(np.count_nonzero(seen.frame > 0))
    linked = int(np.count_nonzero((links.before >= 0) | (links.parent >= 0)))
    speeds = summary["Speed_um_per_s"][~np.isnan(summary["Speed_um_per_s"])]
    return Tracks(
        tracks=tracks,
        track_summary=summary,
        tracking={
            "objects": len(seen.frame),
            "tracks": int(parents.size),
            "links": followed,
            "gaps_closed": gaps,
            "splits": parted,
            "linked_fraction": linked / later if later else math.nan,
            "median_speed_um_per_s": float(np.median(speeds)) if speeds.size else math.nan,
            "largest_drift_um": float(np.hypot(*drift.T).max(initial=0.0)),
        },
    )


@dataclass(frozen=True, slots=True)
class _Links:
    """How objects go on; -1 where they do not.

    Attributes
    ----------
    before, after
        The object before and after this one in its track; shape (objects,).
    parent
        The last object of the track that the one beginning here split from.
    """

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    parent: NDArray[np.intp]

    @classmethod
    def none(cls, count: int) -> _Links:
        return cls(*(np.full(count, -1, np.intp) for _ in range(3)))

    def join(self, earlier: NDArray[np.intp], later: NDArray[np.intp]) -> None:
        self.after[earlier] = later
        self.before[later] = earlier


def _link_frames(seen: Sightings, links: _Links, reach_um: float) -> None:
    """Assign the objects of each time point to those of the next."""
    for frame in range(len(seen.t) - 1):
        steps = int(seen.t[frame + 1] - seen.t[frame])
        earlier, later, squared = seen.near(
            seen.at(frame), seen.at(frame + 1), reach_um * math.sqrt(steps)
        )
        chosen = assigned(earlier, later, squared / steps, reach_um**2)
        links.join(earlier[chosen], later[chosen])


def _join(
    seen: Sightings, links: _Links, reach_um: float, max_missing: int, *, splits: bool
) -> tuple[int, int]:
    """Assign ends of tracks, and tracks that pass by, to beginnings; give how many of each."""
    begins = (links.before < 0) & (seen.frame > 0)
    ends = links.after < 0
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]] = []
    kinds: list[NDArray[np.bool_]] = []
    for frame in range(1, len(seen.t)):
        later = seen.at(frame)
        later = later[begins[later]]
        if later.size == 0:
            continue
        for start in range(frame - 2, -1, -1):
            steps = int(seen.t[frame] - seen.t[start])
            if steps - 1 > max_missing:
                break
            earlier = seen.at(start)
            pairs = seen.near(earlier[ends[earlier]], later, reach_um * math.sqrt(steps))
            found.append((pairs[0], pairs[1], pairs[2] / steps))
            kinds.append(np.zeros(pairs[0].size, bool))
        if splits:
            mothers = seen.at(frame - 1)
            mothers = mothers[links.after[mothers] >= 0]
            steps = int(seen.t[frame] - seen.t[frame - 1])
            pairs = seen.near(mothers, later, reach_um * math.sqrt(steps))
            penalty = _penalty(seen, links, pairs[0], pairs[1])
            found.append((pairs[0], pairs[1], pairs[2] / steps * penalty))
            kinds.append(np.ones(pairs[0].size, bool))
    if not found:
        return 0, 0
    earlier, later, costs = (np.concatenate([part[n] for part in found]) for n in range(3))
    is_split = np.concatenate(kinds)
    chosen = assigned(earlier, later, costs, reach_um**2)
    gaps, parted = chosen[~is_split[chosen]], chosen[is_split[chosen]]
    links.join(earlier[gaps], later[gaps])
    mothers, second = earlier[parted], later[parted]
    first = links.after[mothers]
    links.after[mothers] = -1
    links.before[first] = -1
    links.parent[first] = mothers
    links.parent[second] = mothers
    return gaps.size, parted.size


def _penalty(
    seen: Sightings, links: _Links, mothers: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Give the factor on a split's cost: 1 where the daughters are as large as their mother."""
    daughters = seen.area_um2[second] + seen.area_um2[links.after[mothers]]
    part = seen.area_um2[mothers] / daughters
    return np.where(part >= 1, part, part**-2.0)


def _numbered(seen: Sightings, links: _Links) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the track of each object, numbered in order of beginning, and each track's parent."""
    track = np.zeros(len(seen.frame), np.int64)
    parents: list[NDArray[np.int64]] = []
    count = 0
    for frame in range(len(seen.t)):
        here = seen.at(frame)
        goes_on = links.before[here] >= 0
        track[here[goes_on]] = track[links.before[here[goes_on]]]
        new = here[~goes_on]
        track[new] = np.arange(count + 1, count + 1 + new.size)
        of = links.parent[new]
        parents.append(np.where(of >= 0, track[of], 0))
        count += new.size
    return track, np.concatenate([*parents, np.zeros(0, np.int64)])


def _rows(
    seen: Sightings,
    links: _Links,
    track: NDArray[np.int64],
    parents: NDArray[np.int64],
    order: NDArray[np.intp],
) -> dict[str, NDArray[Any]]:
    step = np.full(track.size, np.nan)
    on = links.before >= 0
    step[on] = np.hypot(*(seen.still_um[on] - seen.still_um[links.before[on]]).T)
    return {
        "track": track[order],
        "parent": parents[track[order] - 1],
        "t": seen.t[seen.frame[order]],
        "ObjectNumber": seen.number[order],
        "Time_s": seen.time_s[seen.frame[order]],
        "Y_um": seen.place_um[order, 0],
        "X_um": seen.place_um[order, 1],
        "Area_um2": seen.area_um2[order],
        "Step_um": step[order],
    }


def _summary(
    tracks: Mapping[str, NDArray[Any]], still_um: NDArray[np.float64], parents: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    counts = np.bincount(tracks["track"], minlength=parents.size + 1)[1:]
    last = np.cumsum(counts) - 1
    first = last - counts + 1
    path = np.bincount(
        tracks["track"], weights=np.nan_to_num(tracks["Step_um"]), minlength=parents.size + 1
    )[1:].astype(np.float64)
    direct = np.hypot(*(still_um[last] - still_um[first]).T)
    duration = tracks["Time_s"][last] - tracks["Time_s"][first]
    straightness, speed = np.full(counts.size, np.nan), np.full(counts.size, np.nan)
    np.divide(direct, path, out=straightness, where=path > 0)
    np.divide(path, duration, out=speed, where=duration > 0)
    seen_t = tracks["t"]
    return {
        "track": np.arange(1, parents.size + 1),
        "parent": parents,
        "First_t": seen_t[first],
        "Last_t": seen_t[last],
        "Objects": counts,
        "Missing": seen_t[last] - seen_t[first] + 1 - counts,
        "Children": np.bincount(parents, minlength=parents.size + 1)[1:],
        "Duration_s": duration,
        "Displacement_um": direct,
        "PathLength_um": path,
        "Straightness": straightness,
        "Speed_um_per_s": speed,
    }
