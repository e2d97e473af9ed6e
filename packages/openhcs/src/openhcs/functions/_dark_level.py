"""The dark level, the counts of a pixel that sees no light, and where it is known from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from openhcs.functions._scale import reduce_mean
from openhcs.functions._shading import smooth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["DARK_SOURCES", "FEWEST_FIELDS", "DarkLevel", "dark_under"]

DARK_SOURCES = ("none", "given", "vendor", "estimate", "file", "assumed")
"""Where a dark level may come from: assumed is 0 where nothing tells it."""

FEWEST_FIELDS = 10
"""Fewer fields tell what lies in them."""

_FLAT = 0.1
"""A profile that varies by less tells no dark level."""
_PERCENTILE = 25.0
_QUANTILE = 0.001


class DarkLevel(NamedTuple):
    """A dark level.

    Attributes
    ----------
    counts
        Of a pixel that sees no light.
    source
        One of `DARK_SOURCES`.
    """

    counts: float
    source: str


def dark_under(
    profile: NDArray[np.float32], summaries: Sequence[Mapping[str, NDArray[Any]]]
) -> DarkLevel:
    """Estimate the dark level under a profile that is known.

    Parameters
    ----------
    profile
        Relative brightness, shape (y, x).
    summaries
        ``means``, ``darkest`` and ``sampled`` of fields, as of `Illumination.summarise`.

    Notes
    -----
    The 0.1 % quantile of all pixels is an upper bound: where there is background everywhere, it is
    the background of the darkest corner. A percentile over fields is the dark level plus a multiple
    of the profile, and tells it where the profile is not flat. A flat one tells nothing, and a few
    fields tell what lies in them: then it is 0, as in images from which the vendor took it off.
    """
    if len(summaries) < FEWEST_FIELDS:
        return DarkLevel(0.0, "assumed")
    means = np.stack([summary["means"] for summary in summaries])
    shape = means.shape[1], means.shape[2]
    reduced = reduce_mean(profile, shape).ravel().astype(np.float64)
    if np.ptp(reduced) <= _FLAT:
        return DarkLevel(0.0, "assumed")
    darkest = np.sort(np.concatenate([summary["darkest"] for summary in summaries]))
    sampled = sum(int(summary["sampled"]) for summary in summaries)
    bound = float(darkest[min(len(darkest) - 1, int(_QUANTILE * sampled))])
    dim = smooth(np.percentile(means, _PERCENTILE, axis=0)).ravel().astype(np.float64)
    centred = reduced - reduced.mean()
    slope = float(centred @ dim) / float(centred @ centred)
    return DarkLevel(float(np.clip(dim.mean() - slope * reduced.mean(), 0, bound)), "estimate")
