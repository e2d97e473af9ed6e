"""Watch: the events of one job, handed to a function at its own pace."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from zmqruntime.execution._record import JobEvent, JobRecord

__all__ = ["Mailbox", "Watch"]

logger = logging.getLogger(__name__)


class Mailbox:
    """Events of one job that nobody has looked at yet; any thread.

    Of each unit and phase only the latest is held, so it does not grow with a slow reader. States
    are all held, and the last of them comes last.

    Parameters
    ----------
    after
        Number of the last event that is not wanted.
    """

    def __init__(self, *, after: int = 0) -> None:
        self.seen = after
        """Number of the last event that was put in."""
        self._changed = threading.Condition()
        self._events: dict[tuple[str, str, str], JobEvent] = {}
        self._over = False

    def put(self, events: Sequence[JobEvent], *, over: bool = False) -> None:
        """Put events in; those that were in before, by their number, are left out.

        Parameters
        ----------
        events
            In order.
        over
            Nothing comes after these.
        """
        with self._changed:
            for event in events:
                if event.seq > self.seen and not self._over:
                    self.seen = event.seq
                    self._events.pop(event.place, None)
                    self._events[event.place] = event
            self._over = self._over or over
            self._changed.notify_all()

    @property
    def ready(self) -> bool:
        """Whether `take` would not wait."""
        with self._changed:
            return bool(self._events) or self._over

    def take(self, timeout: float | None = None) -> list[JobEvent] | None:
        """Wait for events and take them, in order; None when there will be no more.

        Parameters
        ----------
        timeout
            Longest wait in seconds; the list is empty when it is over.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._over, timeout)
            events = list(self._events.values())
            self._events.clear()
            return events if events or not self._over else None

    def close(self) -> None:
        """Throw away what is in it, and take nothing more; twice is harmless."""
        with self._changed:
            self._events.clear()
            self._over = True
            self._changed.notify_all()


class Watch:
    """Hands the events of a job to a function, on a thread of its own.

    A slow function gets fewer events, each the latest of its unit and phase, and makes nobody
    else wait. The end of the job is always handed over, last.

    Made by `ZMQExecutionClient.watch`.
    """

    def __init__(
        self,
        id_: str,
        callback: Callable[[JobEvent], object],
        *,
        after: int,
        on_close: Callable[[Watch], object],
    ) -> None:
        self.id = id_
        self.mailbox = Mailbox(after=after)
        self.record: JobRecord | None = None
        """The job once it is over; None before."""
        self._callback = callback
        self._on_close = on_close
        self._thread = threading.Thread(target=self._run, name=f"watch-{id_}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the last event was handed over.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether it was.
        """
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Hand nothing more over; the job goes on. Twice is harmless."""
        self.mailbox.close()
        self._on_close(self)

    def _run(self) -> None:
        while (events := self.mailbox.take()) is not None:
            for event in events:
                try:
                    self._callback(event)
                except Exception:
                    logger.exception("callback for job %s failed", self.id)
