"""Described folders: read by a pattern or a table that a person gives."""

from __future__ import annotations

from openhcs.plates.formats.described._reader import Described

__all__ = ["Described"]
