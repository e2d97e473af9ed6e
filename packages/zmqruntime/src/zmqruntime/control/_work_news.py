"""WorkNews: what a service is doing, and telling that to those who said hello."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import LoopStoppedError
from zmqruntime.control._handshake import Work

if TYPE_CHECKING:
    from zmqruntime.control._server import ControlServer
    from zmqruntime.loop._loop import IOThread

__all__ = ["WorkNews"]

_EVERY_S = 0.05


class WorkNews:
    """Tells peers the newest work, at most 20 times a second; any thread.

    Parameters
    ----------
    loop
        On which they are told.
    control
        Whose peers.
    """

    def __init__(self, loop: IOThread, control: ControlServer) -> None:
        self._loop = loop
        self._control = control
        self._telling = False
        self.work = Work()

    def tell(self, work: Work) -> None:
        """Replace the work, and tell it soon."""
        self.work = work
        if not self._telling and self._loop.running and self._control.peers:
            self._telling = True
            with contextlib.suppress(LoopStoppedError):
                self._loop.call_later(_EVERY_S, self._tell)

    def _tell(self) -> None:
        self._telling = False
        body = msgspec.to_builtins(self.work)
        for peer in self._control.peers:
            self._control.push(peer.id, "work", body)
