"""Which planes are too poor for their objects to count: a rule that a pipeline states."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # annotations are read when compiling
from typing import Any, Literal, TypeAlias

from openhcs.functions._inputs import PlaneArray  # noqa: TC001  # annotations are read when compiling
from openhcs.functions._registry import Kind, Output, function

__all__ = ["exclude_fields"]

Bounds: TypeAlias = dict[str, float] | None


@function(
    outputs=(Output("exclusion", Kind.RECORD),),
    inputs={"quality": (Kind.RECORD, "image_quality")},
)
def exclude_fields(
    plane: PlaneArray,  # noqa: ARG001  # what it says is measured already
    *,
    quality: Mapping[str, Any],
    at_least: Bounds = None,
    at_most: Bounds = None,
    stacks: Literal["any", "all"] = "any",  # noqa: ARG001  # of planes, by who sums up
) -> Mapping[str, bool | str]:
    """Leave fields out of the table of wells whose image quality is out of bounds.

    The plane passes on unchanged, and so does everything that is made of it: what is left out is
    measured and stored, and does not count in ``wells.parquet``.

    Parameters
    ----------
    plane
        Shape (y, x).
    quality
        What `measure_image_quality` said of this plane.
    at_least, at_most
        Bounds by column of ``image_quality``, such as ``at_least={"snr": 5.0}`` and
        ``at_most={"saturated_fraction": 0.01}``, in that column's units; truth values are 0 and 1.
        NaN is out of every bound.
    stacks
        Whether ``any`` plane of a z stack that is out of bounds leaves out what was made of the
        stack, or only ``all`` of them together, as for bounds of focus.

    Returns
    -------
    Mapping[str, bool | str]
        ``excluded``, and ``because``: the bounds that are not kept, in words; empty without.

    Raises
    ------
    ValueError
        If there are no bounds, or ``image_quality`` has no number of that name.
    """
    low, high = at_least or {}, at_most or {}
    if not low and not high:
        message = "state at_least or at_most: without bounds nothing is left out"
        raise ValueError(message)
    numbers = {name: value for name, value in quality.items() if not isinstance(value, str)}
    for name in (*low, *high):
        if name not in numbers:
            message = f"image_quality has no number {name!r}; it has {', '.join(numbers)}"
            raise ValueError(message)
    reasons = [
        *(
            _reason(name, numbers[name], "below", bound)
            for name, bound in low.items()
            if not float(numbers[name]) >= bound
        ),
        *(
            _reason(name, numbers[name], "above", bound)
            for name, bound in high.items()
            if not float(numbers[name]) <= bound
        ),
    ]
    return {"excluded": bool(reasons), "because": "; ".join(reasons)}


def _reason(name: str, value: float, side: str, bound: float) -> str:
    told = f"{float(value):.4g}"
    return f"{name} {told}, {side} {bound:g}"
