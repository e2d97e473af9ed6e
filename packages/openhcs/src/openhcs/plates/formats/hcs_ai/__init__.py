"""ImageXpress HCS.ai: acquisitions of MetaXpress Acquire."""

from __future__ import annotations

from openhcs.plates.formats.hcs_ai._reader import HcsAi

__all__ = ["HcsAi"]
