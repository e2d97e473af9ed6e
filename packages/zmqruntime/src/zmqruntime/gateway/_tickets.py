"""Ticket: a word that opens the lane of one session once, and soon."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TicketOffice"]


class TicketOffice:
    """Issues tickets and takes them in; any thread.

    Parameters
    ----------
    life_s
        How long a ticket is good.
    most
        Most tickets that are out at a time; the oldest is void first.
    clock
        Monotonic seconds.

    Examples
    --------
    >>> office = TicketOffice()
    >>> ticket = office.issue("srv-1")
    >>> office.redeem(ticket), office.redeem(ticket)
    ('srv-1', None)
    """

    def __init__(
        self,
        *,
        life_s: float = 30.0,
        most: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._life_s = life_s
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._out: dict[str, tuple[str, float]] = {}

    def issue(self, session_id: str) -> str:
        """Make a ticket for a session."""
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            now = self._clock()
            for old in [name for name, (_, until) in self._out.items() if until <= now]:
                del self._out[old]
            while len(self._out) >= self._most:
                del self._out[next(iter(self._out))]
            self._out[ticket] = (session_id, now + self._life_s)
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """Take a ticket in.

        Returns
        -------
        str or None
            Session that it was issued for; None when it is unknown, used or too old.
        """
        with self._lock:
            session_id, until = self._out.pop(ticket, ("", 0.0))
            return session_id if session_id and self._clock() < until else None

    def void(self, session_id: str) -> None:
        """Make the tickets of a session that has ended worthless."""
        with self._lock:
            for ticket in [name for name, (owner, _) in self._out.items() if owner == session_id]:
                del self._out[ticket]
