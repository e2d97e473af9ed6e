"""Plans for those who have submitted nothing yet: each made by a process of its own, in bounds."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from openhcs._typed import from_plain
from openhcs.server._messages import Order, PlanAnswer, PlanTask
from openhcs.server._settings import TABLES
from zmqruntime import BusyError, DeadlineError, InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.server._settings import ServerSettings
    from zmqruntime import Peer

__all__ = ["PLAN_S", "Plans", "plan_command"]

logger = logging.getLogger(__name__)

PLAN_S: Final = 300.0
"""Longest time for a plan, from its turn."""
_AT_ONCE: Final = 2
_MOST: Final = 32
_MOST_EACH: Final = 4
_MOST_BYTES: Final = 8 << 20
"""Of what a plan says; no plate has so much of it."""
_PREFIX: Final = "plan-"
_TRIED: Final = "TMPDIR"


@dataclass(eq=False)
class _Asked:
    peer: Peer
    task: PlanTask
    future: Future[dict[str, Any]] = field(default_factory=Future)
    process: subprocess.Popen[bytes] | None = None
    over: str = ""
    """Why its process was ended; empty where it was not."""


class Plans:
    """Has plans made, some at once and at a lower priority than runs.

    Parameters
    ----------
    settings
        What is allowed, and where plans may put their files down.
    command
        What makes a plan: reads a `PlanTask` and writes a `PlanAnswer`, in msgpack.

    Notes
    -----
    A plan that takes too long, or whose asker is gone, is ended; one server's plans take no thread
    of those that answer others.
    """

    def __init__(self, settings: ServerSettings, command: tuple[str, ...]) -> None:
        self._settings = settings
        self._command = command
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="plan")
        self._lock = threading.Lock()  # guards what follows
        self._asked: list[_Asked] = []

    def ask(self, order: Mapping[str, Any], *, width: int, as_json: bool, peer: Peer) -> Any:
        """Have a plan made.

        Parameters
        ----------
        order
            An `Order` in plain form.
        width, as_json
            As in `PlanTask`.
        peer
            Who asks.

        Returns
        -------
        Future
            Holds a `PlanAnswer` in plain form.

        Raises
        ------
        BusyError
            If too many wait, of all or of this one.
        """
        task = PlanTask(order=from_plain(order, Order), width=width, as_json=as_json)
        asked = _Asked(peer, task)
        with self._lock:
            own = sum(each.peer.client == peer.client for each in self._asked)
            if len(self._asked) >= _MOST or own >= _MOST_EACH:
                raise BusyError(
                    f"{own} plans of yours are being made or wait already: ask again when they "
                    "are there",
                    retryable=True,
                )
            self._asked.append(asked)
        self._pool.submit(self._work, asked)
        return asked.future

    def forget(self, peer: Peer) -> None:
        """End the plans of a peer that is gone."""
        with self._lock:
            for asked in self._asked:
                if asked.peer.id == peer.id:
                    self._end(asked, "whoever asked for it is gone")

    def clear(self) -> None:
        """Remove what plans of a former server have left."""
        for folder in self._settings.state.glob(f"{_PREFIX}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End all plans."""
        with self._lock:
            for asked in self._asked:
                self._end(asked, "the server is about to stop")
        self._pool.shutdown(cancel_futures=True)

    def _end(self, asked: _Asked, why: str) -> None:
        """End a plan, or see to it that it does not begin; under the lock."""
        asked.over = asked.over or why
        if asked.process is not None:
            asked.process.kill()

    def _end_late(self, asked: _Asked) -> None:
        with self._lock:
            self._end(asked, f"it takes more than {PLAN_S:g} s: choose fewer wells")

    def _work(self, asked: _Asked) -> None:
        answer: dict[str, Any] | Exception
        try:
            with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._settings.state) as folder:
                answer = self._made(asked, folder)
        except Exception as error:  # whoever asked waits for an answer all the same
            logger.exception("a plan could not be made")
            answer = InternalError(f"the plan could not be made: {error}")
        with self._lock:
            self._asked.remove(asked)
        if asked.future.set_running_or_notify_cancel():
            if isinstance(answer, Exception):
                asked.future.set_exception(answer)
            else:
                asked.future.set_result(answer)

    def _made(self, asked: _Asked, folder: str) -> dict[str, Any] | Exception:
        with self._lock:
            if asked.over or asked.future.cancelled():
                return DeadlineError(f"the plan was not made: {asked.over}")
            asked.process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # what a plan tries is put down where it is removed again, however it ends
                env=os.environ | self._settings.to_environment() | {TABLES: folder, _TRIED: folder},
                cwd=folder,
            )
        process = asked.process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(PLAN_S, self._end_late, [asked])
        late.daemon = True
        late.start()
        try:
            try:
                packed = msgspec.msgpack.encode(asked.task)
                process.stdin.write(len(packed).to_bytes(8, "little") + packed)
                process.stdin.flush()  # and stays open: its end tells the process of ours
            except BrokenPipeError:
                pass  # it ended before; its status says so
            told = process.stdout.read(_MOST_BYTES + 1)
            if len(told) > _MOST_BYTES:
                process.kill()
            with suppress(BrokenPipeError):  # what was not written before is tried again
                process.stdin.close()
            status = process.wait()
        finally:
            late.cancel()
            process.kill()
            process.stdout.close()
        if asked.over:
            return DeadlineError(f"the plan was not made: {asked.over}")
        if len(told) > _MOST_BYTES:
            return InternalError(f"the plan says more than {_MOST_BYTES >> 20} MB")
        if status != 0:
            return InternalError(
                f"the process that made the plan ended with status {status}: the server's log "
                "tells more"
            )
        answer: dict[str, Any] = msgspec.to_builtins(msgspec.msgpack.decode(told, type=PlanAnswer))
        return answer


def plan_command() -> tuple[str, ...]:
    """Give what makes a plan: the command's own words, so that there are no second ones."""
    return (sys.executable, "-P", "-m", "openhcs.cli._served_plan")
