"""All readers, in the order in which messages list them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.plates.formats.cellomics import Cellomics
from openhcs.plates.formats.described import Described
from openhcs.plates.formats.harmony import Harmony
from openhcs.plates.formats.hcs_ai import HcsAi
from openhcs.plates.formats.imagexpress import ImageXpressDatabase, ImageXpressExport
from openhcs.plates.formats.incell import InCell
from openhcs.plates.formats.numbered import NumberedChannels
from openhcs.plates.formats.ome_tiff import OmeTiff
from openhcs.plates.formats.ome_zarr import OmeZarr
from openhcs.plates.formats.scanr import ScanR
from openhcs.plates.formats.yokogawa import Yokogawa

if TYPE_CHECKING:
    from openhcs.plates.formats._protocol import Format

__all__ = ["FORMATS"]

FORMATS: tuple[Format, ...] = (
    OmeZarr(),
    OmeTiff(),
    Harmony(),
    ImageXpressExport(),
    ImageXpressDatabase(),
    HcsAi(),
    Yokogawa(),
    InCell(),
    ScanR(),
    Cellomics(),
    NumberedChannels(),
    Described(),
)
"""Every reader; a folder is offered to all of them."""
