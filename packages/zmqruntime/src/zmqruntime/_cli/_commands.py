"""The types of what commands are added to and what they return, which argparse does not name."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

__all__ = ["Commands", "ExitStatus"]

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"


class ExitStatus(IntEnum):
    """What a command tells the shell."""

    DONE = 0
    """Done and whole."""
    FAILED = 1
    """Something failed, and was named."""
    MISUSED = 2
    """Wrong use: nothing was done."""
    STOPPED = 130
    """Stopped by the user."""
