"""Yokogawa: measurements of CellVoyager CV7000 and CV8000, and of CQ1 and CQ3K."""

from __future__ import annotations

from openhcs.plates.formats.yokogawa._reader import Yokogawa

__all__ = ["Yokogawa"]
