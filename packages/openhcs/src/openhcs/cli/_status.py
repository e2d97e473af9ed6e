"""What a command tells the shell."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitStatus"]


class ExitStatus(IntEnum):
    """What a command tells the shell."""

    DONE = 0
    """Done and whole."""
    FAILED = 1
    """Done, but something failed, which was named."""
    MISUSED = 2
    """Wrong use: nothing was done."""
    STOPPED = 130
    """Stopped by the user."""
