"""IN Cell: the plates of IN Cell Analyzer 1000, 2000 and 6000."""

from __future__ import annotations

from openhcs.plates.formats.incell._reader import InCell

__all__ = ["InCell"]
