"""Readers of vendors' layouts, and what one has to be."""

from __future__ import annotations

from openhcs.plates.formats._protocol import Format, Lack, Match, Reading, SizedFormat
from openhcs.plates.formats._registry import FORMATS

__all__ = ["FORMATS", "Format", "Lack", "Match", "Reading", "SizedFormat"]
