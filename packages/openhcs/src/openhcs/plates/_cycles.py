"""Cycles: a plate that was stained and taken again, as one acquisition with more channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openhcs.plates._index import PlateIndex
from openhcs.plates._rows import COLUMNS

__all__ = ["merged_cycles"]

_ORDER = ("z", "t", "kind", "channel", "field", "col", "row")
"""Columns that rows are sorted by; the last comes first."""


def merged_cycles(index: PlateIndex) -> PlateIndex:
    """Give the acquisitions of an index as channels of one.

    Parameters
    ----------
    index
        With any number of acquisitions.

    Returns
    -------
    PlateIndex
        Channels of the first acquisition as they were; those of the n-th after them, named
        ``DAPI (n)``.
    """
    columns = {name: index.column(name) for name in COLUMNS}
    cycles = index.acquisitions
    cycle = np.searchsorted(np.array(cycles), columns["acquisition"])
    count = len(index.channel_names)
    channel = columns["channel"].astype(np.int64) + cycle * count
    names = [
        f"{name} ({number + 1})" if number else name
        for number in range(len(cycles))
        for name in index.channel_names
    ]
    columns["channel"] = channel.astype(columns["channel"].dtype)
    columns["acquisition"] = np.zeros_like(columns["acquisition"])
    columns["channel_name"] = np.array([names[n] for n in channel.tolist()], np.str_).astype(
        columns["channel_name"].dtype
    )
    order = np.lexsort([columns[name] for name in _ORDER])
    columns = {name: values[order] for name, values in columns.items()}
    for values in columns.values():
        values.setflags(write=False)
    profiles = {
        channel + number * count: profile
        for number in range(len(cycles))
        for channel, profile in index.facts.profiles.items()
    }
    facts = replace(index.facts, channel_names=tuple(names), profiles=profiles)
    return PlateIndex(facts, columns)
