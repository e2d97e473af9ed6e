"""Quantiles of the brightness of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import MinLen

from openhcs.functions._checks import checked_labels, plane_like
from openhcs.functions._pixels import ObjectPixels, in_order, quantile
from openhcs.functions._quantities import Fraction
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns

__all__ = ["measure_intensity_quantiles"]

Quantiles: TypeAlias = Annotated[tuple[Fraction, ...], MinLen(1)]


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("intensity_quantiles", Kind.TABLE),),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_intensity_quantiles(
    channels: ChannelPlanes,
    *,
    labels: NDArray[Any],
    pixel_um: tuple[float, float],
    quantiles: Quantiles = (0.05, 0.1, 0.9, 0.95),
) -> Columns:
    """Measure quantiles of the brightness of every object, and its median absolute deviation.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; loaded one at a time.
    labels
        Shape (y, x), integer: 0 is background.
    pixel_um
        Size of a pixel (y, x) in µm; only asked whether it is one.
    quantiles
        From 0 to 1; `measure_objects` has the quartiles and the median.

    Returns
    -------
    Columns
        One row per object: ``ObjectNumber`` and, for each channel, ``Intensity_Quantile5`` for 0.05
        and so on, and ``Intensity_MADIntensity``, not scaled, in the plane's units.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), or a quantile is not from 0 to 1.

    Notes
    -----
    Between two values quantiles are interpolated, as ``numpy.quantile`` does.
    """
    for each in quantiles:
        if not 0 <= each <= 1:
            raise ValueError(f"quantiles: {each} is not from 0 to 1")
    pixels = ObjectPixels.of(checked_labels(labels, pixel_um))
    table: dict[str, NDArray[Any]] = {"ObjectNumber": pixels.numbers}
    for name in channels:
        plane = plane_like(channels, name, labels.shape, "the labels")
        values = plane.ravel()[pixels.flat]
        ordered, starts = in_order(values, pixels)
        for each in quantiles:
            table[f"Intensity_Quantile{100 * each:g}_{name}"] = quantile(
                ordered, starts, pixels.areas, each
            )
        middle = quantile(ordered, starts, pixels.areas, 0.5)
        away = np.abs(values - middle[pixels.objects])
        table[f"Intensity_MADIntensity_{name}"] = quantile(
            *in_order(away, pixels), pixels.areas, 0.5
        )
    return table
