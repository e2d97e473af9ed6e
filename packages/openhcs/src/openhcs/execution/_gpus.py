"""The GPU of this computer, as the steps of a plan need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from openhcs._errors import DeviceError
from openhcs.functions import device_problem, gpu_free_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.pipeline import Plan, PlannedStep

__all__ = ["check_devices", "gpu_workers"]

_PROCESS_BYTES = 600_000_000
"""What a process takes of a GPU before it sends anything there."""
_PER_PIXEL = 64
"""Bytes for each pixel of a plane: it, its filtered copies, their spectra and distances."""


def check_devices(steps: Sequence[PlannedStep]) -> None:
    """Refuse steps that are to compute on a GPU where this computer has none for them.

    Raises
    ------
    DeviceError
        If it has none; the message names the steps, what was looked for, and what to do.
    """
    packages = {step.name: step.spec.gpu for step in steps if step.device == "gpu"}
    for package in dict.fromkeys(packages.values()):
        problem = device_problem(package)
        if problem is not None:
            named = ", ".join(name for name, needed in packages.items() if needed == package)
            message = (
                f"{named}: to compute on a GPU, but {problem}. "
                "Leave device='gpu' out to compute in the processor, with the same results"
            )
            raise DeviceError(message)


def gpu_workers(plan: Plan, workers: int) -> tuple[int, str | None]:
    """Say how many workers the GPU of this computer has room for.

    Parameters
    ----------
    plan
        The plan.
    workers
        How many there should be.

    Returns
    -------
    tuple
        At least one, and one sentence when they are fewer than were asked for, else None. As many
        as were asked for where nothing computes on a GPU, or its memory is not told.

    Notes
    -----
    Every process has a part of the memory for itself, whatever it computes. What planes take is a
    guess, rather too high than too low; a GPU that is full all the same is an error of the well.
    """
    steps = [step for step in plan.steps if step.device == "gpu"]
    told = {package: gpu_free_bytes(package) for package in {step.spec.gpu for step in steps}}
    free = [each for each in told.values() if each is not None]
    if not free:
        return workers, None
    sides = (plan.index.column(name).astype(np.int64) for name in ("height", "width"))
    height, width = (int(side.max()) for side in sides)
    need = _PROCESS_BYTES + _PER_PIXEL * max(0, height) * max(0, width)
    need += sum(
        step.spec.weights.holds_bytes(step.parameters)
        for step in steps
        if step.spec.weights is not None
    )
    most = max(1, min(free) // need)
    if most >= workers:
        return workers, None
    return most, (
        f"{most} of {workers} workers are used: each may take {decimal(need)} of the GPU's memory, "
        f"of which {decimal(min(free))} are free"
    )
