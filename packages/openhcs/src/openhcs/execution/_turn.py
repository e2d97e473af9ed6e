"""Whose turn a result folder is: one run at a time, of which tasks elsewhere may outlive it.

A task on another computer cannot be ended from here, and may not hear that it should: its worker
was taken for lost, or the scheduler between is gone. So each task looks into the folder, between
planes and before its results take their places, whether its run is still the one, and goes on.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from polystore.files import write_bytes

if TYPE_CHECKING:
    from openhcs.execution._folder import ResultFolder

__all__ = ["Stopped", "Turn", "begin_turn", "end_turn", "is_turn"]

_LOOK_S = 0.5
"""Between two looks at the file: less than a plane takes, more than a network's file system."""


class Stopped(BaseException):
    """The run was cancelled; no function that catches its own errors may catch this."""


def begin_turn(folder: ResultFolder, run_id: str) -> None:
    """Make the folder that of a run; tasks of all others stop.

    Raises
    ------
    NotWrittenError
        If that cannot be written.
    """
    write_bytes(folder.turn, _text(run_id, going=True))


def end_turn(folder: ResultFolder, run_id: str) -> None:
    """Have the tasks of a run stop, wherever they are.

    Raises
    ------
    OSError
        If that cannot be written.
    """
    # In place and as long as before: it works on a full disk, and half of it is whole.
    with folder.turn.open("r+b", buffering=0) as stream:
        stream.write(_text(run_id, going=False))


def is_turn(folder: ResultFolder, run_id: str) -> bool:
    """Say whether a run is the one, and goes on.

    Raises
    ------
    OSError
        If the folder cannot be read here.
    """
    return folder.turn.read_bytes() == _text(run_id, going=True)


class Turn:
    """What a task of a run sees of it.

    Parameters
    ----------
    folder
        The result folder.
    run_id
        The task's run.
    """

    def __init__(self, folder: ResultFolder, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id
        self._next = 0.0

    def check(self) -> None:
        """Stop the task unless its run goes on.

        Raises
        ------
        Stopped
            If it was stopped, or another run has begun.
        """
        if not is_turn(self._folder, self._run_id):
            raise Stopped
        self._next = time.monotonic() + _LOOK_S

    def glance(self) -> None:
        """Do as `check`, unless that was done just now."""
        if time.monotonic() >= self._next:
            self.check()


def _text(run_id: str, *, going: bool) -> bytes:
    return (json.dumps({"going": int(going), "run_id": run_id}) + "\n").encode()
