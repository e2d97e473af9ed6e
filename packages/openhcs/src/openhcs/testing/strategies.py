"""Hypothesis strategies for synthetic plates. Needs hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from openhcs.testing._spec import Hole, well_name

if TYPE_CHECKING:
    from openhcs.testing.formats import Layout

__all__ = ["ragged_plates"]


@st.composite
def ragged_plates(draw: st.DrawFn, layout: Layout) -> dict[str, Any]:
    """Plates with gaps: arguments of `synthetic_plate`, without the format.

    Parameters
    ----------
    draw
        Given by hypothesis.
    layout
        Whose axes the plates have.

    Returns
    -------
    dict
        Of a small plate without cells: sparse wells, unequal fields, channels of one plane beside
        stacks, channels of some time points only, planes never acquired. The first well has
        everything that there is, so that the numbers of a sound reader are those of the truth.
    """
    rows, columns = draw(st.sampled_from([(2, 3), (8, 12), (16, 24), (32, 48)]))
    places = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    wells = tuple(
        well_name(*place) for place in sorted(draw(st.sets(places, min_size=2, max_size=4)))
    )
    channels = ("DAPI", "GFP", "TRITC")[: draw(st.integers(1, 3))]
    grid = draw(st.sampled_from([(1, 1), (1, 2), (2, 2)])) if "field" in layout.axes else (1, 1)
    z = draw(st.integers(1, 3)) if "z" in layout.axes else 1
    t = draw(st.integers(1, 3)) if "t" in layout.axes else 1
    fields = grid[0] * grid[1]
    others = wells[1:]
    later = st.sampled_from(channels[1:]) if channels[1:] else st.nothing()
    times = st.sets(st.integers(0, t - 1), min_size=1).map(sorted)
    holes = st.builds(
        Hole,
        well=st.sampled_from(others),
        field=st.integers(0, fields - 1),
        channel=st.none() | st.integers(0, len(channels) - 1),
        z=st.none() | st.integers(0, z - 1),
        t=st.none() | st.integers(0, t - 1),
    )
    return {
        "wells": wells,
        "plate_rows": rows,
        "plate_columns": columns,
        "channels": channels,
        "grid": grid,
        "z": z,
        "t": t,
        "well_fields": draw(st.dictionaries(st.sampled_from(others), st.integers(1, fields))),
        "channel_times": draw(st.dictionaries(later, times)),
        "single_plane": tuple(sorted(draw(st.sets(later)))),
        "holes": tuple(draw(st.lists(holes, max_size=4))),
        "projections": bool(layout.projections) and draw(st.booleans()),
        "size_px": (32, 40),
        "cells_per_field": 0.0,
        "texture": 0.0,
        "noise": False,
        "vignetting": 1.0,
        "stamp": True,
        "seed": draw(st.integers(0, 2**24 - 1)),
    }
