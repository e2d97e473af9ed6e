"""StopRequest: that a service should end, asked once, and heard by everybody who waits for it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.loop._loop import IOThread

__all__ = ["StopRequest"]

logger = logging.getLogger(__name__)


class StopRequest:
    """Any thread asks, any thread waits, and callbacks run on the loop.

    Parameters
    ----------
    loop
        Of the service.
    who
        The service, for the log.
    """

    def __init__(self, loop: IOThread, who: str) -> None:
        self._loop = loop
        self._who = who
        self._lock = threading.Lock()  # guards the next two
        self._reason: str | None = None
        self._callbacks: list[Callable[[str], object]] = []
        self._asked = threading.Event()

    def ask(self, reason: str) -> None:
        """Ask, for a reason; only the first time counts."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks = tuple(self._callbacks)
        logger.info("%s: %s", self._who, reason)
        if self._loop.running:
            for callback in callbacks:
                self._loop.call_soon(callback, reason)
        self._asked.set()

    def on_asked(self, callback: Callable[[str], object]) -> None:
        """Call a function with the reason; soon, if it was asked already."""
        with self._lock:
            self._callbacks.append(callback)
            reason = self._reason
        if reason is not None and self._loop.running:
            self._loop.call_soon(callback, reason)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is asked, and say whether it was."""
        return self._asked.wait(timeout)
