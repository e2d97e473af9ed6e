"""Regions as entries of a header and buffers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import WireHeaderError
from polystore._tables import Table
from polystore.regions._region import KIND_CODES, RegionKind
from polystore.regions._regions import Regions
from polystore.wire._arrays import read_array, read_table, write_array, write_table
from polystore.wire._header import PLAIN_REGIONS, ArrayEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_regions", "write_regions"]

_REGIONS = (
    ("vertices", "f4"),
    ("offsets", "i8"),
    ("rings", "i8"),
    ("kinds", "u1"),
    ("labels", "i8"),
    ("bits", "u1"),
)


def write_regions(regions: Regions, buffers: list[memoryview]) -> tuple[ArrayEntry, ...]:
    """Append regions: three arrays where older readers know them, else six and the properties."""
    arrays = PLAIN_REGIONS if regions.are_plain else _REGIONS
    entries = tuple(write_array(name, getattr(regions, name), buffers) for name, _ in arrays)
    return entries + write_table(regions.properties, buffers)


def read_regions(entries: Sequence[ArrayEntry], views: Sequence[memoryview]) -> Regions:
    """Give regions.

    Raises
    ------
    WireHeaderError
        If the arrays are not those of regions.
    PayloadError
        If they contradict each other.
    """
    arrays = PLAIN_REGIONS if len(entries) == len(PLAIN_REGIONS) else _REGIONS
    own = entries[: len(arrays)]
    if [(entry.name, entry.dtype[1:]) for entry in own] != list(arrays):
        raise WireHeaderError(
            f"regions have to be {', '.join(name for name, _ in _REGIONS)} and then properties, "
            f"or {', '.join(name for name, _ in PLAIN_REGIONS)} alone"
        )
    if any(entry.missing or entry.unit is not None for entry in own):
        raise WireHeaderError("only properties of regions have units and may be missing")
    found = {entry.name: read_array(entry, view) for entry, view in zip(own, views, strict=False)}
    if arrays is PLAIN_REGIONS:
        found["rings"] = np.arange(max(found["labels"].size, 0) + 1)
        found["kinds"] = np.full(
            found["labels"].size, KIND_CODES.index(RegionKind.POLYGON), np.uint8
        )
    properties = entries[len(own) :]
    table = read_table(properties, iter(views[len(own) :])) if properties else Table({})
    return Regions(**found, properties=table)
