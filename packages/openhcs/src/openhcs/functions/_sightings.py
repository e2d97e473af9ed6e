"""Where objects were seen at which time point, and how far all of them shifted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._checks import checked_labels
from openhcs.functions._pixels import ObjectPixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import Stack

__all__ = ["Sightings", "drifts"]

_LEAST_WAYS = 5
"""Objects that have to agree on a drift."""
_SHIFTS = 3
"""Times that the place where ways lie most densely is looked at anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sightings:
    """Every object at every time point, in order of time.

    Attributes
    ----------
    frame
        Position of the time point in the stack.
    number
        Number of the label.
    place_um, still_um
        Centre (y, x), and where it would be without drift; shape (objects, 2).
    area_um2
        Size.
    starts
        First object of each time point, and the end of the last one; shape (time points + 1,).
    t, time_s
        Of each time point.
    """

    frame: NDArray[np.intp]
    number: NDArray[np.int64]
    place_um: NDArray[np.float64]
    still_um: NDArray[np.float64]
    area_um2: NDArray[np.float64]
    starts: NDArray[np.intp]
    t: NDArray[np.int64]
    time_s: NDArray[np.float64]

    @classmethod
    def of(cls, labels: Stack, pixel_um: tuple[float, float]) -> Sightings:
        """Take note of every object of every time point; one label image is held at a time."""
        numbers: list[NDArray[np.int64]] = []
        places: list[NDArray[np.float64]] = []
        areas: list[NDArray[np.float64]] = []
        for plane in labels:
            checked_labels(plane, pixel_um)
            pixels = ObjectPixels.of(plane)
            y, x = np.divmod(pixels.flat, max(plane.shape[1], 1))
            centre = np.stack([pixels.total(y), pixels.total(x)], axis=1)
            centre /= np.maximum(pixels.areas, 1)[:, None]
            numbers.append(pixels.numbers)
            places.append((centre + 0.5) * np.asarray(pixel_um))
            areas.append(pixels.areas.astype(np.float64) * (pixel_um[0] * pixel_um[1]))
        counts = [found.size for found in numbers]
        place = np.concatenate([*places, np.zeros((0, 2))])
        return cls(
            frame=np.repeat(np.arange(len(counts)), counts),
            number=np.concatenate([*numbers, np.zeros(0, np.int64)]),
            place_um=place,
            still_um=place,
            area_um2=np.concatenate([*areas, np.zeros(0)]),
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.intp),
            t=np.asarray(labels.numbers, np.int64),
            time_s=np.asarray(labels.coordinates, np.float64),
        )

    def at(self, frame: int) -> NDArray[np.intp]:
        """Give the objects of one time point."""
        return np.arange(self.starts[frame], self.starts[frame + 1])

    def near(
        self, earlier: NDArray[np.intp], later: NDArray[np.intp], reach_um: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Give pairs of objects within reach, and their squared distances."""
        from scipy.spatial import cKDTree

        none = np.zeros(0, np.intp)
        if earlier.size == 0 or later.size == 0:
            return none, none, np.zeros(0)
        tree, other = cKDTree(self.still_um[earlier]), cKDTree(self.still_um[later])
        pairs = tree.sparse_distance_matrix(other, reach_um, output_type="ndarray")
        return earlier[pairs["i"]], later[pairs["j"]], np.square(pairs["v"])


def drifts(seen: Sightings, reach_um: float, max_drift_um: float) -> NDArray[np.float64]:
    """Give how far all objects shifted since the time point before.

    Parameters
    ----------
    seen
        The objects.
    reach_um
        How far an object goes by itself.
    max_drift_um
        How far all of them may shift; 0 for not at all.

    Returns
    -------
    NDArray[np.float64]
        Shape (time points, 2), in µm; 0 where too few agree.
    """
    from scipy.spatial import cKDTree

    drift = np.zeros((len(seen.t), 2))
    if max_drift_um == 0:
        return drift
    for frame in range(1, len(seen.t)):
        before, after = seen.at(frame - 1), seen.at(frame)
        first, second, _ = seen.near(before, after, max_drift_um + reach_um)
        ways = seen.place_um[second] - seen.place_um[first]
        ways = ways[np.hypot(*ways.T) <= max_drift_um]
        if len(ways) < _LEAST_WAYS:
            continue
        tree = cKDTree(ways)
        crowd = tree.query_ball_point(ways, reach_um / 2, return_length=True)
        middle = ways[int(np.argmax(crowd))]
        for _ in range(_SHIFTS):
            middle = ways[tree.query_ball_point(middle, reach_um / 2)].mean(axis=0)
        agree = len(tree.query_ball_point(middle, reach_um / 2))
        if agree >= max(_LEAST_WAYS, min(before.size, after.size) / 3):
            drift[frame] = middle
    return drift
