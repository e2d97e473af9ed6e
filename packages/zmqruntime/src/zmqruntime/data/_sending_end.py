"""SendingEnd: what a producer sends with, whether it goes to its receiver or they come to it."""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from zmqruntime._errors import NotAttachedError
from zmqruntime.carriers._lender import SLOTS, SlotLender
from zmqruntime.carriers._negotiate import HostIdentity, shared_memory_available
from zmqruntime.data._dispatch import Dispatch
from zmqruntime.data._gap_reports import GapReports
from zmqruntime.data._lanes import Lanes
from zmqruntime.data._sharing import Sharing
from zmqruntime.services._sweeping import Sweeping

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.data._dispatch import Frames
    from zmqruntime.data._gaps import Gap
    from zmqruntime.data._lane import Lane
    from zmqruntime.loop._loop import IOThread

__all__ = ["SendingEnd"]

_TOTALS = ("sent", "bytes", "arena", "inline", "superseded", "lost")


class SendingEnd(ABC):
    """Has the runs of one producer, the memory that it shares, and the way to its socket.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    name
        What this is, for people: ``the publisher to tcp://…``.
    forked
        What a forked worker, which cannot use it, does instead.
    use_shared_memory, arena_bytes, lease_ttl, directory, checksums, limits
        As for `Publisher`.
    slots
        Most payloads in one arena.
    """

    _sharing: Sharing
    _dispatch: Dispatch
    """Both made by `_lead`, since who carries messages needs the runs first."""

    def __init__(
        self,
        loop: IOThread,
        *,
        name: str,
        forked: str,
        use_shared_memory: bool,
        arena_bytes: int,
        lease_ttl: float,
        directory: Path,
        checksums: bool,
        limits: InlineLimits,
        slots: int = SLOTS,
    ) -> None:
        self._loop = loop
        self._name = name
        self._forked = forked
        self._pid = os.getpid()
        self._limits = limits
        self._directory = directory
        self._host = HostIdentity.mine()
        self._shared_memory = use_shared_memory and shared_memory_available(directory)
        self._sweeping: Sweeping | None = None
        self._lender = SlotLender(
            budget_bytes=arena_bytes,
            ttl=lease_ttl,
            directory=directory,
            slots=slots,
            checksums=checksums,
        )
        self._changed = threading.Condition()  # guards what follows
        self._lanes = Lanes(
            lender=self._lender, host=self._host, limits=limits, clock=time.monotonic
        )
        self._gap_reports = GapReports(loop, self._lanes)

    def _lead(
        self,
        *,
        announce: Callable[[Lane, str], Future[object]],
        send: Callable[[Lane, Frames], object],
        on_arena: Callable[[Lane], object],
    ) -> None:
        """Make the way from a payload to the socket.

        Parameters
        ----------
        announce
            Tells a receiver the name of a segment; the future is done when it has opened it.
        send
            Sends one message; called on the loop.
        on_arena
            Called with a receiver when it has opened a segment, or payloads go on inline.
        """
        self._sharing = Sharing(
            lender=self._lender, changed=self._changed, announce=announce, on_arena=on_arena
        )
        self._dispatch = Dispatch(
            self._loop,
            lanes=self._lanes,
            lender=self._lender,
            changed=self._changed,
            limits=self._limits,
            send=send,
            on_loss=self._gap_reports.report,
        )

    def _sweep(self) -> None:
        """Remove what killed processes left in shared memory, from now on until it is closed."""
        if self._shared_memory:
            self._sweeping = Sweeping(self._loop, self._directory)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What receivers have lost, the last 1000 gaps."""
        with self._changed:
            return self._gap_reports.recent

    def on_gap(self, callback: Callable[[Gap], object]) -> None:
        """Call a function with every gap of any receiver."""
        self._gap_reports.callbacks.append(callback)

    @abstractmethod
    def close(self) -> None:
        """Send no more; a second call does nothing. Nothing stays in shared memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put_away(self) -> None:
        """Close everything, once nothing new can be sent; any thread."""
        if self._sweeping is not None:
            self._sweeping.stop()
        if self._loop.running:
            self._loop.submit(self._leave).result()
        self._lender.close()

    @abstractmethod
    def _leave(self) -> None:
        """Send what was handed over, and take leave of every receiver; on the loop."""

    def _totals(self) -> dict[str, int]:
        """Count what was sent, lost and failed since the start, in runs that are over too."""
        with self._changed:
            totals = self._lanes.counters
        counts = {name: totals[name] for name in _TOTALS}
        return {**counts, "failed_callbacks": self._loop.failed_callbacks}

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:  # a forked child has the memory, but not the thread
            raise NotAttachedError(
                f"{self._name} belongs to process {self._pid}; a forked worker {self._forked}"
            )

    def _closed_error(self) -> NotAttachedError:
        return NotAttachedError(f"{self._name} is closed")
