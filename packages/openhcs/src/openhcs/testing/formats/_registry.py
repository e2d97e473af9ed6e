"""All layouts, in the order in which messages list them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from openhcs.testing.formats._harmony import Phenix
from openhcs.testing.formats._hcs_ai import HcsAi
from openhcs.testing.formats._imagexpress import ImageXpressDatabase, ImageXpressExport
from openhcs.testing.formats._incell import InCell
from openhcs.testing.formats._named import Cellomics, NumberedChannels
from openhcs.testing.formats._ome_tiff import OmeTiffCompanion
from openhcs.testing.formats._ome_zarr import OmeZarr04, OmeZarr05
from openhcs.testing.formats._scanr import ScanR, ScanRDescriptor
from openhcs.testing.formats._yokogawa import CQ1, CV8000

if TYPE_CHECKING:
    from openhcs.testing._spec import PlateSpec
    from openhcs.testing.formats._layout import Layout

__all__ = ["LAYOUTS", "as_layout", "layout_of", "quirks_of"]

LAYOUTS: tuple[type[Layout], ...] = (
    ImageXpressExport,
    ImageXpressDatabase,
    HcsAi,
    Phenix,
    CV8000,
    CQ1,
    InCell,
    ScanR,
    ScanRDescriptor,
    Cellomics,
    NumberedChannels,
    OmeTiffCompanion,
    OmeZarr04,
    OmeZarr05,
)
"""Every layout that a plate can be written in."""


def as_layout(wanted: str | Layout) -> Layout:
    """Find a layout by its name.

    Parameters
    ----------
    wanted
        A name, or a layout, which is given back.

    Returns
    -------
    Layout
        As most instruments write it.

    Raises
    ------
    ValueError
        If there is no such name; the message lists them.
    """
    if not isinstance(wanted, str):
        return wanted
    for layout in LAYOUTS:
        if layout.name == wanted:
            return layout()
    names = ", ".join(layout.name for layout in LAYOUTS)
    raise ValueError(f"{wanted!r} is no format of synthetic plates; they are {names}")


def layout_of(spec: PlateSpec) -> Layout:
    """Give the layout of a plate, with its quirks.

    Parameters
    ----------
    spec
        The plate.

    Returns
    -------
    Layout
        The one that it was made with.

    Raises
    ------
    ValueError
        If there is none of that name: a layout of somebody's own is not kept with a plate.
    """
    if spec.layout is not None:
        return spec.layout
    layout = as_layout(spec.format)
    return dataclasses.replace(layout, **dict(spec.quirks))  # type: ignore[type-var]  # all are dataclasses


def quirks_of(layout: Layout) -> tuple[tuple[str, object], ...]:
    """Give what a layout was made with, for a `PlateSpec`."""
    fields = dataclasses.fields(layout)  # type: ignore[arg-type]  # all are dataclasses
    return tuple((field.name, getattr(layout, field.name)) for field in fields)
