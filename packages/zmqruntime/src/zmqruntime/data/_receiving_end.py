"""ReceivingEnd: what an application takes, whether its producers come to it or it goes to them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from zmqruntime.data._inbox import Inbox

if TYPE_CHECKING:
    from typing import Self

    from zmqruntime.data._gaps import Gap
    from zmqruntime.data._intake import Intake
    from zmqruntime.data._item import Item
    from zmqruntime.data._lane_state import LaneState

__all__ = ["ReceivingEnd"]


class ReceivingEnd(ABC):
    """Hands out what has arrived, to whichever thread asks."""

    _intake: Intake
    """Set by who knows where the messages come from."""

    def __init__(self) -> None:
        self._inbox = Inbox()

    def fileno(self) -> int:
        """Return a descriptor that is readable while something can be received.

        Returns
        -------
        int
            To be watched, not read; valid until `close`.

        Raises
        ------
        ValueError
            If it is closed.
        """
        return self._inbox.fileno()

    def receive(self, limit: int | None = None) -> list[Item | Gap]:
        """Take what has arrived, without waiting.

        Parameters
        ----------
        limit
            At most so many, None for all.

        Returns
        -------
        list[Item | Gap]
            Items to be released, and gaps where items are missing, in the order of each stream.
        """
        return self._inbox.take(limit)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something can be received.

        Parameters
        ----------
        timeout
            Longest wait in seconds, None for ever.

        Returns
        -------
        bool
            Whether there is something.
        """
        return self._inbox.wait(timeout)

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The streams that are received now, as they stand."""
        now = time.monotonic()
        receptions = self._intake.receptions
        return tuple(reception.state(now=now) for reception in receptions if not reception.closed)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, streams that are over included.

        ``items``, ``bytes``, ``bytes_copied``, ``gaps`` (payloads missing), ``dropped`` (messages
        refused or repeated), ``foreign`` (messages that belong to no stream) and
        ``failed_callbacks`` (functions that raised on the I/O thread, the application's among
        them).
        """
        return self._intake.counters

    @abstractmethod
    def close(self) -> None:
        """Receive no more; a second call does nothing. Items that were handed out stay valid."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
