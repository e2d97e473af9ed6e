"""ScanR: the plates of Olympus, now Evident, ScanR screening stations."""

from __future__ import annotations

from openhcs.plates.formats.scanr._reader import ScanR

__all__ = ["ScanR"]
