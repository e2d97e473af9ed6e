"""The command line: ``openhcs``."""

from openhcs.cli._main import main

__all__ = ["main"]
