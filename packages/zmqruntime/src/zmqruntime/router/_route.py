"""Routes: which servers a stream passes through, so that none passes it on in a circle."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from zmqruntime._errors import ConflictError
from zmqruntime.router._messages import MOST_HOPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["RelayState", "Routed", "check_route", "follow_route"]


class RelayState(StrEnum):
    """How a relay stands: asking its source, passing on, switched off, or refused."""

    WAITING = "waiting"
    LIVE = "live"
    DISABLED = "disabled"
    REFUSED = "refused"


class Routed(Protocol):
    """A stream that can say which way it takes."""

    def route(self, via: Sequence[str], timeout: float) -> list[str]:
        """Say through which servers it comes, the origin first; without this one."""


def check_route(own: str, path: Sequence[str]) -> None:
    """Check that a stream with a path may be passed on.

    Parameters
    ----------
    own
        Id of the server that would.
    path
        Servers it came through.

    Raises
    ------
    ConflictError
        If that would be a circle, or too many.
    """
    if own in path:
        raise ConflictError(f"the stream has been here before: its way is {' > '.join(path)}")
    if len(path) >= MOST_HOPS:
        raise ConflictError(
            f"the stream has passed through {len(path)} servers, and may through {MOST_HOPS}"
        )


def follow_route(
    streams: Callable[[str], Routed | None],
    own: str,
    name: str,
    via: Sequence[str],
    timeout: float,
) -> list[str]:
    """Answer the question which way a stream takes.

    Parameters
    ----------
    streams
        Gives a stream of this server that comes from elsewhere, or None where it begins here.
    own
        Id of this server.
    name
        Name of the stream.
    via
        Servers the question came through.
    timeout
        Longest wait in seconds.

    Returns
    -------
    list[str]
        Servers it comes through, the origin first, this one last.

    Raises
    ------
    ConflictError
        If the way is a circle, or too long.
    NotFoundError
        If there is no such stream.
    UnavailableError
        If a server on the way is not there.
    """
    check_route(own, via)
    relay = streams(name)
    path = [] if relay is None else relay.route([*via, own], timeout)
    return [*path, own]
