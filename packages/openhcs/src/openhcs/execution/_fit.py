"""How many workers a plan may have at once, and whether its results fit on the disk."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from openhcs._errors import CompileError
from openhcs.execution._forecast import forecast
from openhcs.pipeline import estimate, process_bytes

if TYPE_CHECKING:
    from openhcs.execution._forecast import Forecast
    from openhcs.execution._resume import Resume
    from openhcs.pipeline import Estimate, Plan

__all__ = ["Fit", "available_bytes", "bounded_workers", "fit"]

_SHARE = 0.8
_PLENTY = 12
"""Bytes for each byte of a well's planes that are plenty for any step that holds them all."""
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),  # version 2
    (  # version 1
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a plan may use.

    Attributes
    ----------
    workers
        How many worker processes work at once.
    memory_bytes
        What all of them may hold together.
    free_bytes
        Room on the disk of the results.
    """

    workers: int
    memory_bytes: int
    free_bytes: int


def fit(
    need: Estimate,
    will: Forecast,
    out: str | Path,
    *,
    workers: int,
    memory_bytes: int | None = None,
) -> Fit:
    """Say how many workers there may be.

    Parameters
    ----------
    need
        What the plan needs.
    will
        What of it is still to be done. What is finished needs nothing, and what is replaced no
        more room.
    out
        The result folder; need not exist.
    workers
        How many there should be.
    memory_bytes
        What all of them may hold together; four fifths of what is available by default.

    Raises
    ------
    CompileError
        If one worker alone needs more memory than there is, or the results more room than the disk
        has; the message says what to do.
    """
    allowed = round(_SHARE * available_bytes()) if memory_bytes is None else memory_bytes
    free = shutil.disk_usage(_existing(Path(out).absolute())).free
    problems: list[str] = []
    if will.to_do and need.peak_bytes > allowed:
        problems.append(
            f"well {need.largest} needs {decimal(need.peak_bytes)} of memory, and there are "
            f"{decimal(allowed)}: use fewer fields or channels at a time, or a computer with more"
        )
    room = need.disk_bytes * len(will.new) // max(1, need.wells)
    if room > free:
        problems.append(
            f"the results need about {decimal(room)} more, and the disk of {out} has "
            f"{decimal(free)} free: make room, choose another disk, or run fewer wells at a time"
        )
    if problems:
        raise CompileError(problems)
    return Fit(
        workers=max(1, min(workers, allowed // need.peak_bytes)),
        memory_bytes=allowed,
        free_bytes=free,
    )


def bounded_workers(
    plan: Plan,
    out: str | Path,
    *,
    workers: int,
    memory_bytes: int | None = None,
    resume: Resume = True,
) -> tuple[int, str | None]:
    """Say how many workers a run may have, and why it has fewer than it was to have.

    A plan whose needs are plainly small, or that is finished, is not looked at closely.

    Parameters
    ----------
    plan
        The plan.
    out, workers, memory_bytes
        As in `fit`.
    resume
        Whether the run takes over what is finished and unchanged, or of which runs.

    Returns
    -------
    tuple
        Number of workers, and one sentence when they are fewer than were asked for, else None.

    Raises
    ------
    CompileError
        As `fit`.
    ResultFolderError
        If `out` holds the results of another plate.
    """
    allowed = round(_SHARE * available_bytes()) if memory_bytes is None else memory_bytes
    index = plan.index
    pixels = (index.column("height").astype(np.int64) * index.column("width")).clip(min=0)
    planes = pixels * np.dtype(index.dtype).itemsize
    wells = np.unique(index.column("well").astype(str), return_inverse=True)[1]
    plenty = _PLENTY * float(np.bincount(wells, planes).max(initial=0)) + process_bytes(plan)
    room = shutil.disk_usage(_existing(Path(out).absolute())).free
    if (planes > 0).all() and workers * plenty < allowed and _PLENTY * planes.sum() < room:
        return workers, None
    will = forecast(plan, out, resume=resume)
    if not will.to_do:
        return workers, None
    found = fit(estimate(plan), will, out, workers=workers, memory_bytes=allowed)
    if found.workers == workers:
        return workers, None
    return found.workers, (
        f"{found.workers} of {workers} workers are used, so that they hold no more than "
        f"{decimal(allowed)} of memory"
    )


def available_bytes() -> int:
    """Say how much memory this process and its children may still take.

    Returns
    -------
    int
        What the computer has available, or what is left of the limit of a container, whichever is
        less.
    """
    import psutil

    return min([int(psutil.virtual_memory().available), *_left_in_container()])


def _left_in_container(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Give what the limits of Linux's control groups leave, where there are any."""
    left: list[int] = []
    for limit, used, statistics, cached in _CGROUPS:
        try:
            most, now = (root / limit).read_text().strip(), (root / used).read_text().strip()
            lines = (root / statistics).read_text().splitlines()
        except OSError:
            continue
        counts = dict(line.split(maxsplit=1) for line in lines if " " in line)
        if most.isdecimal() and now.isdecimal():
            # Files that were read count as used, and are given up when memory is wanted.
            left.append(max(0, int(most) - int(now) + int(counts.get(cached, 0))))
    return left


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
