"""Bodies of the messages about jobs, as they cross the socket."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from zmqruntime.execution._record import JobEvent, JobRecord
from zmqruntime.execution._status import ExecutionStatus

__all__ = ["About", "Acknowledged", "JobNews", "ListJobs", "News", "Piece"]

_Id = Annotated[str, msgspec.Meta(max_length=64)]
_Number = Annotated[int, msgspec.Meta(ge=0)]
_Limit = Annotated[int, msgspec.Meta(ge=1, le=500)]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``status``, ``cancel``, ``follow`` and ``unfollow``; an empty id means all jobs."""

    id: _Id = ""
    after: _Number = 0


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``result``, ``events`` and ``logs``: where to go on, and how much of it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    after: _Number = 0
    limit: _Limit = 500


class ListJobs(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``list``."""

    before: _Number | None = None
    limit: _Limit = 50
    state: ExecutionStatus | None = None
    mine: bool = False


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``follow_ack``."""

    n: _Number


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``execution``, which a follower is told.

    Attributes
    ----------
    n
        Number of the message, to be acknowledged.
    jobs
        A `JobNews` each; read one by one, so that one that cannot be read keeps no other back.
    """

    n: _Number
    jobs: tuple[Any, ...]


class JobNews(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of one job.

    Attributes
    ----------
    record
        The job; it may be ahead of the events.
    events
        What happened, in order.
    whole
        Whether the events go as far as the record.
    """

    record: JobRecord
    events: tuple[JobEvent, ...]
    whole: bool
