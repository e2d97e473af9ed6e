"""The command line: ``zmqruntime``."""

from __future__ import annotations

from zmqruntime._cli._main import main

__all__ = ["main"]
