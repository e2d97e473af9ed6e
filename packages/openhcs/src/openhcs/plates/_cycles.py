"""Cycles: a plate that was stained and taken again, as one acquisition with more channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from openhcs.plates._facts import PlateFacts

__all__ = ["merged_cycles"]

_ORDER = ("z", "t", "kind", "channel", "field", "col", "row")
"""Columns that rows are sorted by; the last comes first."""


def merged_cycles(
    facts: PlateFacts, columns: Mapping[str, NDArray[Any]]
) -> tuple[PlateFacts, dict[str, NDArray[Any]]]:
    """Give the acquisitions of a plate as channels of one.

    Parameters
    ----------
    facts
        What is true of the plate.
    columns
        Of its planes.

    Returns
    -------
    tuple
        Facts and columns of the same planes. Channels of the first acquisition are as they were,
        those of the n-th come after them and are named ``DAPI (n)``.
    """
    cycles, cycle = np.unique(columns["acquisition"], return_inverse=True)
    count = len(facts.channel_names)
    channel = columns["channel"].astype(np.int64) + cycle * count
    names = [
        f"{name} ({number + 1})" if number else name
        for number in range(len(cycles))
        for name in facts.channel_names
    ]
    merged = {
        **columns,
        "channel": channel.astype(columns["channel"].dtype),
        "acquisition": np.zeros_like(columns["acquisition"]),
        "channel_name": np.array([names[n] for n in channel.tolist()], np.str_).astype(
            columns["channel_name"].dtype
        ),
    }
    order = np.lexsort([merged[name] for name in _ORDER])
    merged = {name: values[order] for name, values in merged.items()}
    for values in merged.values():
        values.setflags(write=False)
    profiles = {
        channel + number * count: profile
        for number in range(len(cycles))
        for channel, profile in facts.profiles.items()
    }
    return replace(facts, channel_names=tuple(names), profiles=profiles), merged
