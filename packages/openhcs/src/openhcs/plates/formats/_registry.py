"""All readers, in the order in which messages list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.plates.formats.harmony import Harmony
from openhcs.plates.formats.imagexpress import ImageXpressDatabase, ImageXpressExport

if TYPE_CHECKING:
    from openhcs.plates.formats._protocol import Format

__all__ = ["FORMATS"]

FORMATS: tuple[Format, ...] = (Harmony(), ImageXpressExport(), ImageXpressDatabase())
"""Every reader; a folder is offered to all of them."""
