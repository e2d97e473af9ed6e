"""Vendors' layouts that synthetic plates can be written in."""

from __future__ import annotations

from openhcs.testing.formats._layout import Layout
from openhcs.testing.formats._registry import layout_of

__all__ = ["Layout", "layout_of"]
