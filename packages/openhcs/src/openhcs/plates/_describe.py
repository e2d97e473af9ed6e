"""A plate in words and numbers, for people and scripts."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from openhcs._errors import PlaneUnreadableError
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._positions import position_grid
from openhcs.plates._profile import ImageProfile

if TYPE_CHECKING:
    from openhcs.plates._index import PlateIndex
    from openhcs.plates._profile import Profile

__all__ = ["describe"]


def describe(index: PlateIndex) -> dict[str, Any]:
    """Say what a plate holds, as plain JSON values.

    Parameters
    ----------
    index
        The plate.

    Returns
    -------
    dict
        ``format``, ``wells``, ``fields``, ``channels``, ``z``, ``t`` (lists of what is present;
        channels by name, fields, z and t by number from 0), ``planes`` (usable images),
        ``pixel_size_um`` ([y, x] or null), ``dtype``, ``findings`` (each with ``code``,
        ``severity``, ``message``, ``remedy`` and what it concerns: ``well``, ``field``,
        ``channel``, ``z``, ``t``, ``file``); and ``name``, ``root``, ``format_version``, ``why``,
        ``identity``, ``plate`` (rows, columns), ``acquisitions``, ``shapes``, ``kinds`` and
        ``statuses`` (counts), ``expected`` and ``found`` (images), ``illumination`` (channels with
        a profile of the vendor), ``files`` (counts by class) and
        ``grids`` (by well: rows, columns, step in µm (y, x), whether regular, places of fields).
    """
    statuses = Counter(index.column("status").tolist())
    copies = statuses[PlaneStatus.DUPLICATE_CONTENT.value]
    files = index.files
    return {
        "name": index.name,
        "root": str(index.root),
        "format": index.format,
        "format_version": index.format_version,
        "why": index.why,
        "identity": index.identity,
        "plate": {"rows": index.rows, "columns": index.columns},
        "wells": list(index.wells),
        "fields": list(index.fields),
        "channels": [index.channel_names[number] for number in index.channels],
        "z": list(index.z),
        "t": list(index.t),
        "acquisitions": list(index.acquisitions),
        "planes": statuses[PlaneStatus.OK.value],
        "expected": len(index) - copies,
        "found": _found(index),
        "kinds": dict(Counter(index.column("kind").tolist())),
        "statuses": dict(statuses),
        "pixel_size_um": list(index.pixel_um) if index.pixel_um else None,
        "dtype": _dtype(index),
        "shapes": _shapes(index),
        "illumination": [
            index.channel_names[number]
            for number in index.channels
            if _is_shaped(index.facts.profiles.get(number))
        ],
        "grids": _grids(index),
        "files": {
            "planes": files.planes,
            "metadata": files.metadata,
            "thumbnails": files.thumbnails,
            "ignored": files.ignored,
            "named": files.named,
            "total": files.total,
        },
        "findings": [
            {
                name: value
                for name, value in (
                    ("code", finding.code),
                    ("severity", finding.severity),
                    ("message", finding.message),
                    ("remedy", finding.remedy),
                    ("well", finding.well),
                    ("field", finding.field),
                    ("channel", _channel(index, finding.channel)),
                    ("z", finding.z),
                    ("t", finding.t),
                    ("file", finding.path),
                )
                if value is not None
            }
            for finding in index.findings
        ],
    }


def _found(index: PlateIndex) -> int:
    """Count the images that have a file; of a failure there may be none."""
    left_out = (PlaneStatus.DUPLICATE_CONTENT, PlaneStatus.MISSING)
    rows = zip(index.column("status").tolist(), index.column("path").tolist(), strict=True)
    return sum(bool(path) and status not in left_out for status, path in rows)


def _is_shaped(profile: Profile | None) -> bool:
    """Whether there is more of a profile than the dark level."""
    dark_alone = isinstance(profile, ImageProfile) and profile.shading is None
    return profile is not None and not dark_alone


def _channel(index: PlateIndex, number: int | None) -> str | None:
    """Give the name of a channel; one that the plate does not name keeps its number."""
    if number is None:
        return None
    known = 0 <= number < len(index.channel_names)
    return index.channel_names[number] if known else str(number)


def _dtype(index: PlateIndex) -> str | None:
    try:
        return index.dtype.name
    except PlaneUnreadableError:
        return None


def _shapes(index: PlateIndex) -> list[list[int]]:
    pairs = set(zip(index.column("height").tolist(), index.column("width").tolist(), strict=True))
    return [[height, width] for height, width in sorted(pairs) if height > 0]


def _grids(index: PlateIndex) -> dict[str, Any]:
    names = ("well", "field", "x_um", "y_um", "width", "pixel_um_x")
    places: dict[str, dict[int, tuple[float, float]]] = {}
    tile_um = math.nan
    for well, field, x, y, width, pixel in zip(
        *(index.column(name).tolist() for name in names), strict=True
    ):
        places.setdefault(well, {}).setdefault(field, (x, y))
        if width > 0 and pixel > 0:
            tile_um = width * pixel
    grids: dict[str, Any] = {}
    for well in index.wells:
        grid = position_grid(places[well], tile_um)
        if grid is not None:
            grids[well] = {
                "rows": grid.rows,
                "columns": grid.columns,
                "step_um": [None if math.isnan(step) else step for step in grid.step_um],
                "regular": grid.regular,
                "cells": {str(field): list(cell) for field, cell in grid.cells.items()},
            }
    return grids
