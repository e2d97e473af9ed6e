"""The layouts by the name of their format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.testing.formats._imagexpress import ImageXpressDatabase, ImageXpressExport
from openhcs.testing.formats._phenix import Phenix

if TYPE_CHECKING:
    from openhcs.testing._spec import PlateFormat
    from openhcs.testing.formats._layout import Layout

__all__ = ["layout_of"]


def layout_of(name: PlateFormat) -> Layout:
    """Give the layout of a format."""
    match name:
        case "imagexpress":
            return ImageXpressExport()
        case "imagexpress-database":
            return ImageXpressDatabase()
        case "phenix":
            return Phenix()
        case _:
            raise ValueError(f"{name!r} is no format of synthetic plates")
