"""What steps would learn from the plate, learned from tiny images instead."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import StepError
from openhcs.pipeline._tiny import SIDE_PX, tiny_plane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.pipeline._plan import Plan, PlannedStep
    from openhcs.pipeline._tiny import Prepared

__all__ = ["lessons_of"]

_FEW = 8
"""Tiny planes that are made for a step to learn from; they are repeated where more are wanted."""

_ENOUGH = 16
"""No more summaries are combined: what a step learns from tiny planes is true of none."""


def lessons_of(plan: Plan, side_px: int = SIDE_PX) -> tuple[Prepared, Sequence[StepError]]:
    """Let each step learn from tiny planes what it would learn from the plate.

    Parameters
    ----------
    plan
        The plan.
    side_px
        Side of the tiny planes.

    Returns
    -------
    tuple
        What was learned, by step and channel, and an error for each that could not be.
    """
    learned: dict[str, dict[str, Mapping[str, NDArray[Any]]]] = {}
    problems: list[StepError] = []
    for step in plan.steps:
        preparation = step.spec.preparation
        if preparation is None:
            continue
        # Channels of one kind would learn the same from the same tiny planes.
        alike: dict[tuple[int, bool, float | None], Mapping[str, NDArray[Any]]] = {}
        for channel in step.channels or tuple(plan.channels[n] for n in plan.index.channels):
            number = plan.channels.index(channel)
            vendor = plan.index.vendor_profile(number) is not None
            dark = plan.index.vendor_dark(number)
            planes = plan.index.select(channels=[number], kind=None)
            columns = (planes.column(name).tolist() for name in ("well", "field", "t"))
            fields = len(set(zip(*columns, strict=True)))
            files = preparation.reads(step.parameters)
            try:
                wanted = preparation.wanted(
                    step.parameters, vendor=vendor, vendor_dark=dark, available=fields
                )
                if (wanted, vendor, dark) not in alike:
                    alike[wanted, vendor, dark] = (
                        _read(plan, step, number, side_px)
                        if files
                        else _lesson(plan, step, wanted, side_px, vendor=vendor, dark=dark)
                    )
            except Exception as error:  # noqa: BLE001  # a plug-in's failure is a problem to list
                reason = str(error) or type(error).__name__
                problems.append(StepError(f"{step.name}, channel {channel}: {reason}", step.name))
            else:
                learned.setdefault(step.name, {})[channel] = alike[wanted, vendor, dark]
    return learned, problems


def _read(plan: Plan, step: PlannedStep, channel: int, side_px: int) -> Mapping[str, NDArray[Any]]:
    """Combine what files hold at the size of the plate's planes, and cut that to tiny ones."""
    preparation = step.spec.preparation
    assert preparation is not None  # asked for steps that have one
    planes = plan.index.select(channels=[channel], kind=None)
    sizes = zip(planes.column("height").tolist(), planes.column("width").tolist(), strict=True)
    known = Counter(size for size in sizes if size[0] > 0)
    shape = known.most_common(1)[0][0] if known else (side_px, side_px)
    arrays = preparation.combine(
        [], step.parameters, shape=shape, vendor=None, vendor_dark=None
    ).arrays
    return {
        name: array[:side_px, :side_px] if array.shape == shape else array
        for name, array in arrays.items()
    }


def _lesson(
    plan: Plan,
    step: PlannedStep,
    wanted: int,
    side_px: int,
    *,
    vendor: bool,
    dark: float | None,
) -> Mapping[str, NDArray[Any]]:
    preparation = step.spec.preparation
    assert preparation is not None  # asked for steps that have one
    few = min(wanted, _FEW)
    tiny = [tiny_plane(plan.index.dtype, seed, side_px) for seed in range(few)]
    summaries = [preparation.summarise(plane, step.parameters) for plane in tiny]
    return preparation.combine(
        [summaries[number % few] for number in range(min(wanted, _ENOUGH))],
        step.parameters,
        shape=(side_px, side_px),
        vendor=np.ones((side_px, side_px), np.float32) if vendor else None,
        vendor_dark=dark,
    ).arrays
