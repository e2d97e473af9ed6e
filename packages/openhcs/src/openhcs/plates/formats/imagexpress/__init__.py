"""ImageXpress: exports of MetaXpress, and the folders of its database."""

from __future__ import annotations

from openhcs.plates.formats.imagexpress._reader import ImageXpressDatabase, ImageXpressExport

__all__ = ["ImageXpressDatabase", "ImageXpressExport"]
