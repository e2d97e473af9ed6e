"""StopSignals: SIGTERM and SIGINT as requests to stop."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.loop._loop import IOThread

__all__ = ["StopSignals"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Heeds the signals in one program; once nothing is left to stop, they are ignored.

    Parameters
    ----------
    loop
        Reads the pipe to which the interpreter writes a signal's number.
    ask
        Called on the loop with what was received.
    """

    def __init__(self, loop: IOThread, ask: Callable[[str], object]) -> None:
        self._loop = loop
        self._ask = ask
        self._installed = False

    def install(self) -> None:
        """Heed them from now on; main thread only. Twice is harmless.

        Raises
        ------
        ValueError
            If called outside the main thread.
        """
        if self._installed:
            return
        receive, send = os.pipe()
        for descriptor in (receive, send):
            os.set_blocking(descriptor, False)
        for number in _NUMBERS:
            signal.signal(number, _leave_it_to_the_pipe)
        signal.set_wakeup_fd(send, warn_on_full_buffer=False)
        self._installed = True

        def on_signal() -> None:
            for number in os.read(receive, 64):
                if number in _NUMBERS:
                    self._ask(f"received {signal.Signals(number).name}")

        self._loop.submit(self._loop.register, receive, on_signal).result()

    def ignore(self) -> None:
        """Ignore them from now on, if they were heeded and this is the main thread."""
        if self._installed and threading.current_thread() is threading.main_thread():
            # an interpreter that ends gives signals their default action back, which kills;
            # those that are ignored it leaves alone
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)


def _leave_it_to_the_pipe(number: int, frame: object) -> None:
    """Do nothing: the interpreter has written the number to the wake pipe."""
