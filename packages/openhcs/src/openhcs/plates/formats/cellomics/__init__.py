"""Cellomics ArrayScan: plates that say all in the names of files."""

from __future__ import annotations

from openhcs.plates.formats.cellomics._reader import Cellomics

__all__ = ["Cellomics"]
