"""The pipeline that is run when none is given: from raw planes to objects measured per well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openhcs.functions import (
    correct_illumination,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline._pipeline import Pipeline
from openhcs.pipeline._planes import unique_channels
from openhcs.pipeline._step import Step

if TYPE_CHECKING:
    from openhcs.plates import PlateIndex

__all__ = ["default_pipeline", "nuclear_channel", "nuclear_doubts"]

_NUCLEAR = re.compile(r"dapi|hoechst|draq|nuclei|nuclear|nucleus", re.IGNORECASE)


def default_pipeline(index: PlateIndex | None = None) -> Pipeline:
    """Make the default pipeline, for a plate or as an example.

    Parameters
    ----------
    index
        The plate; its nuclear channel is the one stitched by and segmented. Without a plate the
        channel is called ``DAPI``.

    Returns
    -------
    Pipeline
        Image quality, illumination, maximum over z (which leaves a single plane as it is), stitched
        wells, nuclei, objects.
    """
    channel = "DAPI" if index is None else nuclear_channel(index)[0]
    return Pipeline(
        Step(measure_image_quality),
        Step(correct_illumination),
        Step(project_max),
        Step(stitch, reference=channel),
        Step(segment_nuclei, channel=channel),
        Step(measure_objects),
    )


def nuclear_channel(index: PlateIndex) -> tuple[str, str]:
    """Choose the channel that shows nuclei, and say why it was chosen.

    By name; else by the shortest emission, else excitation wavelength, as nuclear stains are mostly
    blue; else the first.

    Returns
    -------
    tuple
        Name of the channel, and one sentence.
    """
    names = unique_channels(index.channel_names)
    present = [number for number in index.channels if number < len(names)]
    for number in present:
        if _NUCLEAR.search(names[number]):
            return names[number], f"{names[number]} is taken for the nuclei because of its name"
    for column, what in (("emission_nm", "emission"), ("excitation_nm", "excitation")):
        shortest = _shortest(index, column)
        if shortest is not None:
            name = names[shortest]
            return name, f"{name} is taken for the nuclei because its {what} is the shortest"
    name = names[present[0]] if present else names[0]
    return name, f"{name} is taken for the nuclei because it is the first channel"


def nuclear_doubts(index: PlateIndex) -> tuple[str, ...]:
    """Say what speaks against the channel that the default pipeline takes for the nuclei.

    Parameters
    ----------
    index
        The plate.

    Returns
    -------
    tuple of str
        Nothing where the name of the channel says that it shows nuclei.
    """
    name, why = nuclear_channel(index)
    if _NUCLEAR.search(name):
        return ()
    return (
        f"{why}, and no channel is named after nuclei: look whether it shows them before you trust "
        "counts and objects; if it does not, name another one in a pipeline of your own, such as "
        "the one that openhcs pipeline show prints",
    )


def _shortest(index: PlateIndex, column: str) -> int | None:
    """Give the channel with the smallest known value of a column, if any is known."""
    known = [
        (wavelength, channel)
        for wavelength, channel in zip(
            index.column(column).tolist(), index.column("channel").tolist(), strict=True
        )
        if wavelength == wavelength and wavelength > 0  # NaN differs from itself
    ]
    return min(known)[1] if known else None
