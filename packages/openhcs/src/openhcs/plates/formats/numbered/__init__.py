"""Numbered channels: TIFF files called by channel, running number, row and column."""

from __future__ import annotations

from openhcs.plates.formats.numbered._reader import NumberedChannels

__all__ = ["NumberedChannels"]
