"""Planes of one channel on one scale, the same for the whole plate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Interval, Unit

from openhcs.functions._checks import checked_plane
from openhcs.functions._registry import Axes, Kind, Output, Prepared, function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["Normalised", "PlateRange", "normalise"]

Percent: TypeAlias = Annotated[float, Interval(ge=0, le=100), Unit("%")]
Level: TypeAlias = Annotated[float, Unit("counts")] | None

_WANTED = 64
"""Fields to learn from, where a plate has them."""
_SAMPLE_PX = 65536
"""Pixels of a field that are looked at."""


class PlateRange:
    """What `normalise` learns from a plate, for one channel: two percentiles of all its fields.

    Notes
    -----
    64 fields at most; of each a regular sample of 65,536 pixels is kept as 1025 quantiles, so that
    every field has the same weight.
    """

    def wanted(
        self,
        parameters: Mapping[str, Any],
        *,
        vendor: bool,  # noqa: ARG002  # the protocol's
        vendor_dark: float | None = None,  # noqa: ARG002  # the protocol's
        available: int,
    ) -> int:
        """Say how many fields of a channel to summarise: none when both levels are given.

        Raises
        ------
        ValueError
            If a level or a percentile is out of its range.
        """
        _check(parameters)
        given = parameters["low"] is not None and parameters["high"] is not None
        return 0 if given else min(available, _WANTED)

    def reads(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:  # noqa: ARG002
        """Name no file."""
        return ()

    def summarise(
        self,
        plane: NDArray[Any],
        parameters: Mapping[str, Any],  # noqa: ARG002  # the protocol's
    ) -> Mapping[str, NDArray[Any]]:
        """Reduce a plane to its quantiles; pixels that are not finite are left out."""
        sample = plane.ravel()[:: max(1, plane.size // _SAMPLE_PX)].astype(np.float64)
        sample = sample[np.isfinite(sample)]
        if sample.size == 0:
            return {"quantiles": np.zeros(0)}
        return {"quantiles": np.quantile(sample, np.linspace(0, 1, 1025))}

    def combine(
        self,
        summaries: Sequence[Mapping[str, NDArray[Any]]],
        parameters: Mapping[str, Any],
        *,
        shape: tuple[int, int],  # noqa: ARG002  # the protocol's
        vendor: NDArray[Any] | None,  # noqa: ARG002  # the protocol's
        vendor_dark: float | None = None,  # noqa: ARG002  # the protocol's
    ) -> Prepared:
        """Make the range of one channel.

        Raises
        ------
        ValueError
            If there is nothing to learn from, or the range has no width.
        """
        low, high = parameters["low"], parameters["high"]
        pooled = np.concatenate([summary["quantiles"] for summary in summaries] or [np.zeros(0)])
        if pooled.size:
            percentiles = (parameters["low_percentile"], parameters["high_percentile"])
            learned = np.percentile(pooled, percentiles)
            low = float(learned[0]) if low is None else low
            high = float(learned[1]) if high is None else high
        if low is None or high is None:
            raise ValueError("there is no plane to learn a range from: give low and high")
        if not high > low:
            raise ValueError(
                f"the range goes from {low:g} to {high:g}, which is no range: give low and high"
            )
        note = {"low": low, "high": high, "fields": len(summaries)}
        return Prepared(arrays={"range": np.array([low, high], np.float64)}, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """What `normalise` gives.

    Attributes
    ----------
    image
        Shape (y, x), float32: 0 at the lower level, 1 at the upper one.
    normalised
        ``low`` and ``high``, the levels in the plane's units; ``below_fraction`` and
        ``above_fraction``, the share of the pixels outside of them.
    """

    image: NDArray[np.float32]
    normalised: Mapping[str, float]


@function(
    axes=Axes.PLANE,
    outputs=(Output("image", Kind.IMAGE), Output("normalised", Kind.RECORD)),
    preparation=PlateRange(),
)
def normalise(
    plane: PlaneArray,
    *,
    prepared: Mapping[str, NDArray[Any]],
    low: Level = None,
    high: Level = None,
    low_percentile: Percent = 1.0,
    high_percentile: Percent = 99.8,
    clip: bool = False,
) -> Normalised:
    """Put planes on the scale from 0 to 1, by levels that are the same for the whole plate.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    prepared
        ``range``, shape (2,): the levels of the plane's channel.
    low, high
        Levels in the plane's units that become 0 and 1; None for percentiles of all fields of the
        plate's channel together. Never those of a single plane, which would make dim wells as
        bright as bright ones.
    low_percentile, high_percentile
        Percentiles in %, 0 to 100, the first less than the second; for levels that are None.
    clip
        Whether what lies outside is set to 0 and 1.

    Returns
    -------
    Normalised
        The image and the levels.

    Raises
    ------
    ValueError
        If the plane is not two-dimensional.
    """
    del low, high, low_percentile, high_percentile  # they are in what was prepared
    bottom, top = (float(value) for value in prepared["range"])
    image = np.subtract(checked_plane(plane), np.float32(bottom), dtype=np.float32)
    image *= np.float32(1 / (top - bottom))
    below = np.count_nonzero(image < 0) / max(image.size, 1)
    above = np.count_nonzero(image > 1) / max(image.size, 1)
    if clip:
        np.clip(image, 0, 1, out=image)
    record = {"low": bottom, "high": top, "below_fraction": below, "above_fraction": above}
    return Normalised(image=image, normalised=record)


def _check(parameters: Mapping[str, Any]) -> None:
    low, high = parameters["low"], parameters["high"]
    if low is not None and high is not None and not high > low:
        raise ValueError(f"low is {low} and high {high}; the first must be the smaller one")
    low, high = parameters["low_percentile"], parameters["high_percentile"]
    if not 0 <= low < high <= 100:
        raise ValueError(
            f"low_percentile is {low} and high_percentile {high}; they go from 0 to 100, the first "
            "less than the second"
        )
