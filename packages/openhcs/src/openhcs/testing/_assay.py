"""The assay of a synthetic plate: what is in a well, and what the controls should show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from openhcs.testing._scene import BRIGHTNESS_CV
from openhcs.testing._spec import Condition, well_position

if TYPE_CHECKING:
    from openhcs.testing._spec import PlateSpec

__all__ = ["default_condition", "expected_assay"]


def default_condition(well: str, *, plate_columns: int = 12) -> Condition:
    """Say what is in a well when nothing else is said.

    Parameters
    ----------
    well
        Its name.
    plate_columns
        Columns of the plate.

    Returns
    -------
    Condition
        The first column is the negative control, the last one the positive with threefold
        intensity; between them a compound per row in doses that rise threefold by column.
    """
    row, col = well_position(well)
    if col == 0:
        return Condition(role="negative", compound="DMSO", dose_um=math.nan, effect=1.0)
    if col == plate_columns - 1:
        return Condition(role="positive", compound="control", dose_um=10.0, effect=3.0)
    dose = 0.01 * 3.0 ** (col - 1)
    return Condition(
        role="sample",
        compound=f"compound {row + 1}",
        dose_um=round(dose, 4),
        effect=1.0 + 2.0 / (1.0 + (0.8 + 0.2 * row) / dose),
    )


def expected_assay(spec: PlateSpec) -> dict[str, float]:
    """Compute what the controls of a plate should show in the second channel.

    Parameters
    ----------
    spec
        The plate.

    Returns
    -------
    dict
        ``z_prime`` and ``ssmd`` of the wells' mean intensities, for many wells and without
        effects of the layout; empty where there is no second channel, or where one of the two
        kinds of control is absent.

    Notes
    -----
    Wells vary by the plate's `well_cv`, and by the mean of their cells, whose brightness varies
    by 15 %.
    """
    effects = {condition.role: condition.effect for condition in spec.conditions}
    cells = spec.cells_per_field * spec.fields
    if len(spec.channels) < 2 or not {"negative", "positive"} <= effects.keys() or cells == 0:
        return {}
    low, high = effects["negative"], effects["positive"]
    variation = math.sqrt(spec.well_cv**2 + BRIGHTNESS_CV**2 / cells)
    apart = abs(high - low)
    if apart == 0 or variation == 0:
        return {}
    return {
        "z_prime": 1.0 - 3.0 * variation * (low + high) / apart,
        "ssmd": (high - low) / (variation * math.hypot(low, high)),
    }
