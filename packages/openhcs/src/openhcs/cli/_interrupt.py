"""Ctrl-C while a run lasts: it is asked to stop, and what is finished is kept."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from types import FrameType

    from rich.console import Console

    from openhcs.cli._progress import RunDisplay

__all__ = ["cancel_on_interrupt"]


@contextmanager
def cancel_on_interrupt(
    cancel: threading.Event,
    console: Console,
    display: RunDisplay,
    *,
    unheard: threading.Event | None = None,
) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a request to stop, for as long as a run lasts.

    Further ones change nothing: stopping takes 10 s at most, and keeps what is finished. While
    `unheard` is set, because who does the run cannot be asked, the next one ends the program.
    """

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the shape that signal asks for
        if unheard is not None and unheard.is_set():
            raise KeyboardInterrupt
        if not cancel.is_set() and not console.is_terminal:
            # A handler may interrupt a print, which cannot be entered twice; the system's can.
            os.write(1, b"Stopping: what is finished is kept.\n")
        cancel.set()
        display.stop()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
