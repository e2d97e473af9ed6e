"""Planes as they were measured, coloured where they are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import TileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Contrast", "Lane", "LaneChoice", "choose_lane", "composite"]


class Lane(StrEnum):
    """What is sent of a view."""

    RENDERED = "rendered"
    """The picture, as it was drawn."""
    RAW = "raw"
    """Each channel as it was measured; contrast, colours and values are the receiver's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneChoice:
    """What is sent of a view, and why.

    Attributes
    ----------
    lane
        What was chosen.
    text
        Why, with the figures.
    """

    lane: Lane
    text: str


def choose_lane(
    *,
    raw_bytes: float,
    still_bytes: float,
    bytes_per_s: float | None,
    contrast_moves: bool = False,
    flat: bool = True,
    most_s: float = 0.2,
) -> LaneChoice:
    """Choose between the picture and the planes that it was drawn from.

    Parameters
    ----------
    raw_bytes
        What the planes in view take, encoded.
    still_bytes
        What the picture takes, encoded exactly.
    bytes_per_s
        What the link carries; None while that is not known.
    contrast_moves
        Whether somebody is changing contrast or colours.
    flat
        Whether the view shows planes; a volume is drawn by the sender alone.
    most_s
        How long the planes may be under way.
    """
    if not flat:
        return LaneChoice(lane=Lane.RENDERED, text="rendered: the view is not flat")
    if bytes_per_s is None or bytes_per_s <= 0:
        return LaneChoice(lane=Lane.RENDERED, text="rendered: the link is not measured yet")
    needed_s = raw_bytes / bytes_per_s
    if needed_s > most_s:
        return LaneChoice(
            lane=Lane.RENDERED,
            text=f"rendered: planes would be {needed_s * 1e3:.0f} ms under way, more than "
            f"{most_s * 1e3:.0f}",
        )
    if contrast_moves:
        return LaneChoice(lane=Lane.RAW, text="raw: contrast is being changed")
    if still_bytes > raw_bytes:
        return LaneChoice(
            lane=Lane.RAW,
            text=f"raw: {raw_bytes / 1e6:.2f} MB of planes are less than "
            f"{still_bytes / 1e6:.2f} MB of picture",
        )
    return LaneChoice(
        lane=Lane.RENDERED,
        text=f"rendered: {still_bytes / 1e6:.2f} MB of picture are no more than "
        f"{raw_bytes / 1e6:.2f} MB of planes",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How the values of a channel are shown.

    Attributes
    ----------
    limits
        Values that are shown as black and as `color`.
    gamma
        Exponent of the brightness between them.
    color
        Red, green and blue of the upper limit, 0 to 255.

    Raises
    ------
    ValueError
        If the limits do not rise, gamma is not above 0, or a colour is out of range.
    """

    limits: tuple[float, float]
    gamma: float = 1.0
    color: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        if not (
            np.isfinite(self.limits).all()
            and self.limits[0] < self.limits[1]
            and 0 < self.gamma < np.inf
            and len(self.color) == 3
            and all(0 <= part <= 255 for part in self.color)
        ):
            raise ValueError(f"limits rise, gamma is above 0 and colours are 0 to 255: {self}")

    def table(self, dtype: np.dtype[Any]) -> NDArray[np.uint8]:
        """Colours of all values of an unsigned type of 8 or 16 bits, of shape (values, 3).

        Raises
        ------
        TileError
            If the type is another.
        """
        if dtype.kind != "u" or dtype.itemsize > 2:
            raise TileError(f"there is no table of all values of type {dtype}: use u1 or u2")
        values = np.arange(2 ** (8 * dtype.itemsize), dtype=np.float32)
        low, high = self.limits
        share = np.clip((values - low) / (high - low), 0, 1) ** self.gamma
        return np.rint(share[:, None] * np.asarray(self.color, np.float32)).astype(np.uint8)


def composite(planes: Sequence[NDArray[Any]], contrasts: Sequence[Contrast]) -> NDArray[np.uint8]:
    """Colour planes and add them up.

    Parameters
    ----------
    planes
        Channels of one shape (y, x), unsigned and of 8 or 16 bits.
    contrasts
        One for each.

    Returns
    -------
    ndarray
        Shape (y, x, 3), red, green and blue; sums above 255 are 255.

    Raises
    ------
    TileError
        If there is no plane, or they do not fit each other.
    """
    if not planes or len(planes) != len(contrasts) or len({plane.shape for plane in planes}) > 1:
        raise TileError(
            f"{len(planes)} planes of shapes {sorted({plane.shape for plane in planes})} and "
            f"{len(contrasts)} contrasts do not fit each other"
        )
    colored: NDArray[np.uint8] | None = None
    for plane, contrast in zip(planes, contrasts, strict=True):
        one = contrast.table(plane.dtype)[plane]
        if colored is None:
            colored = one
        else:
            np.add(colored, np.minimum(one, 255 - colored), out=colored)
    assert colored is not None
    return colored
