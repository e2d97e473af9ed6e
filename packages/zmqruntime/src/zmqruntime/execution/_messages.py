"""Bodies of the requests about jobs, as they cross the socket."""

from __future__ import annotations

from typing import Annotated

import msgspec

from zmqruntime.execution._status import ExecutionStatus

__all__ = ["About", "Acknowledged", "ListJobs", "Piece"]

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
