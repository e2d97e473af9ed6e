"""LivenessWatch: feeds the liveness machine of a client, and asks while somebody wants to know."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import LoopStoppedError, PeerError, RequestError
from zmqruntime._typed import from_plain
from zmqruntime.control._handshake import Work
from zmqruntime.control._liveness import LivenessMachine

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zmqruntime.control._client import ControlClient
    from zmqruntime.control._liveness import Liveness
    from zmqruntime.control._messages import Reply
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["LivenessWatch"]

logger = logging.getLogger(__name__)

_ANSWER_S = 3600.0  # a service that holds its interpreter for long answers the old question last


class LivenessWatch:
    """Keeps the verdict of one client.

    Parameters
    ----------
    control
        Its connection.

    Notes
    -----
    Events come on the loop; `verdict` may be read by any thread. Nothing is asked, and no timer
    runs, before the first `watch`.
    """

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._loop = control.loop
        self._lock = threading.Lock()
        self._machine = LivenessMachine()
        self._callbacks: list[Callable[[Liveness], object]] = []
        self._told: Liveness | None = None
        self._every: float | None = None
        self._timer: TimerHandle | None = None
        self._due: TimerHandle | None = None
        self._asking = False
        control.on_push("work", self._on_work)
        control.on_lost(self.lost)

    @property
    def verdict(self) -> Liveness:
        """How the service is now."""
        with self._lock:
            return self._machine.verdict

    def watch(self, callback: Callable[[Liveness], object], every: float) -> None:
        """Ask every so many seconds, and call a function on the loop when the verdict changes."""
        self._callbacks.append(callback)
        self._every = every if self._every is None else min(self._every, every)
        if self._loop.running:
            self._loop.call_soon(self._begin)

    # What follows runs on the loop.

    def welcomed(self, work: Work, *, watched: bool) -> None:
        """Note a welcome, and whether the end of the service's process will be seen."""
        with self._lock:
            self._machine.connected(watched=watched)
            self._machine.answered(work)
        self._tell()
        self._begin()

    def lost(self, reason: str) -> None:
        """Note that the connection is down."""
        with self._lock:
            self._machine.disconnected(reason)
        self._tell()

    def process_ended(self, reason: str) -> None:
        """Note that the process has ended."""
        with self._lock:
            self._machine.process_ended(reason)
        self._tell()

    def close(self) -> None:
        """Ask no more."""
        for timer in (self._timer, self._due):
            if timer is not None:
                timer.cancel()

    def _begin(self) -> None:
        if self._every is not None and self._timer is None:
            self._ask()

    def _ask(self) -> None:
        if self._every is None or self._control.closed:
            return
        self._timer = self._loop.call_later(self._every, self._ask)
        if self._asking or not self._control.connected:
            return
        try:
            future = self._control.request_nowait("ping", timeout=_ANSWER_S)
        except (PeerError, LoopStoppedError):
            return
        self._asking = True
        with self._lock:
            self._machine.asked()
        self._await_due()
        future.add_done_callback(self._on_pong)

    def _on_pong(self, future: Future[Reply]) -> None:
        self._asking = False
        try:
            body = future.result().body
        except (PeerError, RequestError):
            return  # lost, which is told by itself, or closed
        with self._lock:
            self._machine.answered(_read_work(body.get("work")))
        self._tell()

    def _on_work(self, body: dict[str, Any]) -> None:
        work = _read_work(body)
        if work is not None:
            with self._lock:
                self._machine.working(work)
            self._tell()

    def _tell(self) -> None:
        self._await_due()
        if not self._callbacks:
            return
        verdict = self.verdict
        if self._told is not None and _same(verdict, self._told):
            return
        self._told = verdict
        for callback in self._callbacks:
            self._loop.call_soon(callback, verdict)

    def _await_due(self) -> None:
        """Look again when time alone will have changed the verdict."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        with self._lock:
            seconds = self._machine.due()
        if seconds is not None and self._callbacks and self._loop.running:
            self._due = self._loop.call_later(seconds, self._tell)


def _same(one: Liveness, other: Liveness) -> bool:
    silent = (one.silent_since is None) == (other.silent_since is None)
    return silent and (one.state, one.work, one.detail) == (other.state, other.work, other.detail)


def _read_work(value: object) -> Work | None:
    if value is None:
        return None
    try:
        return from_plain(value, Work)
    except msgspec.ValidationError:
        logger.debug("a service says of its work what cannot be")
        return None
