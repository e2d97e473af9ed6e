"""Pending: a request that has no answer yet, and who waits for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zmqruntime.control._messages import Reply
    from zmqruntime.loop._polling import Backoff, Deadline
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["Pending"]


@dataclass(slots=True, eq=False)
class Pending:
    """A request that has no answer yet.

    The thread that asked looks at `outcome` while it has the sockets, and else sleeps until the
    loop opens `latch`. A future would do but for Ctrl-C, which could leave its lock taken, and
    then the loop would wait for ever.

    Attributes
    ----------
    id, type, frames
        Its name, what it asks, and the whole message.
    deadline, timeout
        Until when an answer is of use, and how many seconds that was from the beginning.
    again
        Whether it may be sent twice.
    future, latch, outcome
        Who is told, and what came of it.
    sent
        Whether it is under way on the present connection.
    backoff
        Waits between tries, after the first refusal.
    timer
        The call that ends the wait, once the loop goes on with it.
    """

    id: str
    type: str
    frames: tuple[bytes, ...]
    deadline: Deadline
    again: bool
    timeout: float
    future: Future[Reply] | None = None
    latch: threading.Lock | None = None
    outcome: Reply | Exception | None = None
    sent: bool = False
    backoff: Backoff | None = None
    timer: TimerHandle | None = None

    @property
    def settled(self) -> bool:
        """Whether it is known what came of it, or nobody wants to know."""
        return self.outcome is not None or (self.future is not None and self.future.done())

    @property
    def handed_over(self) -> bool:
        """Whether the loop goes on with it, and not the thread that asked."""
        return self.latch is not None or self.future is not None

    def hand_over(self) -> None:
        """Let the loop go on with it, and be woken by the outcome."""
        latch = threading.Lock()
        latch.acquire()
        self.latch = latch

    def settle(self, outcome: Reply | Exception) -> None:
        """Say what came of it, unless whoever asked has turned away."""
        self.outcome = outcome
        if self.latch is not None:
            self.latch.release()
        if self.future is None or not self.future.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
