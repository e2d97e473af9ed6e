"""One plane out of a z stack: projections, and the plane in best focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from annotated_types import Interval, Unit

from openhcs.functions._convert import to_dtype
from openhcs.functions._finite import finite
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import Columns, PlaneArray, Stack

__all__ = [
    "BestFocus",
    "best_focus",
    "project_max",
    "project_mean",
    "project_min",
    "project_std",
    "project_sum",
]

FocusPx: TypeAlias = Annotated[float, Interval(ge=0.5, le=10), Unit("px")]


@function(axes=Axes.ZSTACK)
def project_max(stack: Stack) -> PlaneArray:
    """Keep the brightest value of each pixel along z.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; one of them is held at a time.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the stack.

    Raises
    ------
    ValueError
        If the stack is empty or its planes differ in shape.
    """
    first, rest = _first(stack)
    largest = first.copy()
    for plane in rest:
        np.maximum(largest, _like(plane, first), out=largest)
    return largest


@function(axes=Axes.ZSTACK)
def project_min(stack: Stack) -> PlaneArray:
    """Keep the darkest value of each pixel along z.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; one of them is held at a time.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the stack.

    Raises
    ------
    ValueError
        If the stack is empty or its planes differ in shape.
    """
    first, rest = _first(stack)
    smallest = first.copy()
    for plane in rest:
        np.minimum(smallest, _like(plane, first), out=smallest)
    return smallest


@function(axes=Axes.ZSTACK)
def project_mean(stack: Stack) -> PlaneArray:
    """Average each pixel along z.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; one of them is held at a time.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the stack; integers are rounded half to even.

    Raises
    ------
    ValueError
        If the stack is empty or its planes differ in shape.

    Notes
    -----
    Sums are kept in float64, exact for integer pixels of up to 32 bits.
    """
    first, rest = _first(stack)
    total = first.astype(np.float64)
    for plane in rest:
        with np.errstate(invalid="ignore"):  # of infinite pixels of either sign
            total += _like(plane, first)
    total /= len(stack)
    return to_dtype(total, first.dtype).pixels


@function(axes=Axes.ZSTACK)
def project_sum(stack: Stack) -> PlaneArray:
    """Add each pixel up along z.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; one of them is held at a time.

    Returns
    -------
    ndarray
        Shape (y, x). Integers of 8 and 16 bits give 32 bits, wider ones 64; floats keep their type.

    Raises
    ------
    ValueError
        If the stack is empty or its planes differ in shape.
    """
    first, rest = _first(stack)
    if first.dtype.kind == "f":
        total = first.astype(np.float64)
    else:
        total = first.astype(f"{first.dtype.kind}{4 if first.dtype.itemsize <= 2 else 8}")
    for plane in rest:
        with np.errstate(invalid="ignore"):  # of infinite pixels of either sign
            total += _like(plane, first)
    return to_dtype(total, first.dtype).pixels if first.dtype.kind == "f" else total


@function(axes=Axes.ZSTACK)
def project_std(stack: Stack) -> NDArray[np.float32]:
    """Give the standard deviation of each pixel along z.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; one of them is held at a time.

    Returns
    -------
    ndarray
        Shape (y, x), float32; of the planes themselves (ddof 0), so 0 for a single plane. NaN
        where a pixel is not finite.

    Raises
    ------
    ValueError
        If the stack is empty or its planes differ in shape.

    Notes
    -----
    Welford, Technometrics 4 (1962) 419-420, in float64: one pass, no difference of large sums.
    """
    first, rest = _first(stack)
    mean = first.astype(np.float64)
    squares = np.zeros_like(mean)
    for count, plane in enumerate(rest, start=2):
        with np.errstate(invalid="ignore"):  # of infinite pixels
            step = _like(plane, first) - mean
            mean += step / count
            squares += step * (plane - mean)
    squares /= len(stack)
    return np.sqrt(squares, out=squares).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BestFocus:
    """What `best_focus` gives.

    Attributes
    ----------
    image
        The sharpest plane, as it is.
    focus_curve
        One row per plane: ``z``, ``z_um`` and ``score``.
    focus
        ``z`` and ``z_um`` of the plane, its ``score``, and the ``verdict``: ``clear``; ``tie``
        when another plane scores within 1 %; ``flat`` when the best scores less than 10 % above
        the median; ``single`` when there was no choice.
    """

    image: PlaneArray
    focus_curve: Columns
    focus: Mapping[str, float | int | str]


@function(
    axes=Axes.ZSTACK,
    outputs=(
        Output("image", Kind.IMAGE),
        Output("focus_curve", Kind.TABLE),
        Output("focus", Kind.RECORD),
    ),
)
def best_focus(stack: Stack, *, sigma_px: FocusPx = 1.0) -> BestFocus:
    """Take the plane in best focus, and say how clear the choice was.

    Parameters
    ----------
    stack
        At least one plane, all of one shape; two of them are held at a time.
    sigma_px
        Smoothing before the Laplacian, 0.5 to 10 px: larger sees through noise, smaller sees finer
        detail.

    Raises
    ------
    ValueError
        If the stack is empty, its planes differ in shape, or `sigma_px` is out of range.

    Notes
    -----
    The score is the variance of the Laplacian of Gaussian over the mean: photon noise adds the
    same to every plane, however bright. Pixels that are not finite have no say; a plane without any
    other scores 0. About 25 ms for 1080 by 1080 px.
    """
    if not 0.5 <= sigma_px <= 10:
        message = f"sigma_px is {sigma_px}, expected 0.5 to 10"
        raise ValueError(message)
    first, rest = _first(stack)
    best, scores = first, [_score(first, sigma_px)]
    for plane in rest:
        scores.append(_score(_like(plane, first), sigma_px))
        if scores[-1] > max(scores[:-1]):
            best = plane
    at = int(np.argmax(scores))
    return BestFocus(
        image=best,
        focus_curve={
            "z": np.arange(len(scores)),
            "z_um": np.asarray(stack.coordinates, dtype=np.float64),
            "score": np.asarray(scores, dtype=np.float64),
        },
        focus={
            "z": at,
            "z_um": float(stack.coordinates[at]),
            "score": scores[at],
            "verdict": _verdict(scores),
        },
    )


def _score(plane: PlaneArray, sigma_px: float) -> float:
    from scipy.ndimage import gaussian_laplace

    plane = finite(plane)
    curvature = gaussian_laplace(plane.astype(np.float32), sigma_px)
    mean = float(plane.mean(dtype=np.float64))
    return float(curvature.var(dtype=np.float64)) / mean if mean > 0 else 0.0


def _verdict(scores: list[float]) -> str:
    if len(scores) == 1:
        return "single"
    best, second = sorted(scores, reverse=True)[:2]
    if best <= 1.1 * float(np.median(scores)):
        return "flat"
    return "tie" if second >= 0.99 * best else "clear"


def _first(stack: Stack) -> tuple[PlaneArray, Stack]:
    """Load the first plane and leave the others for later."""
    if len(stack) == 0:
        message = "the z stack is empty, expected at least one plane"
        raise ValueError(message)
    return stack[0], stack[1:]


def _like(plane: PlaneArray, first: PlaneArray) -> PlaneArray:
    if plane.shape != first.shape or plane.dtype != first.dtype:
        message = (
            f"planes of one z stack differ: {plane.shape} {plane.dtype} after "
            f"{first.shape} {first.dtype}"
        )
        raise ValueError(message)
    return plane
