"""Results of a run as a program uses them: wells, tables, and images that are read when sliced."""

from __future__ import annotations

from openhcs.results._image import LazyImage
from openhcs.results._results import Results, open_results

__all__ = ["LazyImage", "Results", "open_results"]
