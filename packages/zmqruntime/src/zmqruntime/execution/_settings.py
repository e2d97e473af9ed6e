"""Settings: how an execution server runs its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.execution._record import JobRecord

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How jobs are run.

    Parameters
    ----------
    workers
        How many processes there are, and so how many jobs run at once.
    grace
        Seconds that a job has to stop by itself; after that its process is ended.
    attempts
        Most attempts of a job that may be run again.
    waiting
        Most jobs that may wait.
    waiting_each
        Most jobs of one client that may wait; None for as many as of all.
    env
        Variables to add to the environment of the workers.
    recover
        Called at the start with each job that a former server left running; True puts it back
        into the line although it did not say that it may be run again, because its function
        can find what is left of it.

    Raises
    ------
    ValueError
        If a number is too small.
    """

    workers: int = 1
    grace: float = 5.0
    attempts: int = 3
    waiting: int = 10_000
    waiting_each: int | None = None
    env: Mapping[str, str] | None = None
    recover: Callable[[JobRecord], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "attempts", "waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.waiting_each is not None and self.waiting_each < 1:
            raise ValueError(f"waiting_each is {self.waiting_each}: expected at least 1")
        if self.grace < 0:
            raise ValueError(f"grace is {self.grace}: expected at least 0")
