"""Harmony: the measurements of Operetta, Opera Phenix and Sonata."""

from __future__ import annotations

from openhcs.plates.formats.harmony._reader import Harmony

__all__ = ["Harmony"]
