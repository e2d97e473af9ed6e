"""One object of a plane: what it is, its number, its corners or pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import PayloadError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["KIND_CODES", "Region", "RegionKind", "check_region"]

_LABEL_MOST = 2**63 - 1


class RegionKind(StrEnum):
    """What a region is, and so what its corners mean."""

    POINT = "point"
    """One place or several; each corner is one."""
    LINE = "line"
    """Two corners or more, joined in their order and not closed."""
    POLYGON = "polygon"
    """Closed rings; inside is what an odd number of them surround, so that holes are rings too."""
    RECTANGLE = "rectangle"
    """Its four corners, in order; it may be turned."""
    ELLIPSE = "ellipse"
    """The four corners of the rectangle that it touches, which may be turned."""
    MASK = "mask"
    """Two opposite corners, on corners of pixels, and for each pixel between them yes or no."""


KIND_CODES = tuple(RegionKind)
"""`Regions.kinds` holds positions in this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """One object.

    Attributes
    ----------
    kind
        What it is.
    label
        Its number.
    rings
        Corners, float32, each of shape (corners, 2), columns y and x in pixels; a polygon has any
        number of rings, the others one.
    mask
        Truth values of shape (height, width), of a mask; else None.
    """

    kind: RegionKind
    label: int
    rings: tuple[NDArray[np.float32], ...]
    mask: NDArray[np.bool_] | None = None

    @classmethod
    def rectangle(
        cls, label: int, *, top: float, left: float, bottom: float, right: float
    ) -> Region:
        """Make a rectangle that is not turned; edges in pixels, -0.5 being the image's edge."""
        corners = [[top, left], [top, right], [bottom, right], [bottom, left]]
        return cls(kind=RegionKind.RECTANGLE, label=label, rings=(_corners(corners),))

    @classmethod
    def ellipse(cls, label: int, *, y: float, x: float, height: float, width: float) -> Region:
        """Make an ellipse that is not turned, of a centre and whole axes in pixels."""
        top, left, bottom, right = y - height / 2, x - width / 2, y + height / 2, x + width / 2
        corners = [[top, left], [top, right], [bottom, right], [bottom, left]]
        return cls(kind=RegionKind.ELLIPSE, label=label, rings=(_corners(corners),))

    @classmethod
    def from_mask(cls, label: int, mask: ArrayLike, *, top: int = 0, left: int = 0) -> Region:
        """Make a mask of which the first pixel is that of row `top` and column `left`.

        Parameters
        ----------
        label
            Number of the object.
        mask
            Truth values, shape (height, width), both at least 1.
        top, left
            Row and column of the first pixel.
        """
        bits = np.array(mask, dtype=np.bool_)
        if bits.ndim != 2 or not bits.size:
            raise PayloadError(f"a mask has to be (height, width), at least 1 each: {bits.shape}")
        edge = [[top - 0.5, left - 0.5], [top - 0.5 + len(bits), left - 0.5 + bits.shape[1]]]
        bits.flags.writeable = False
        return cls(kind=RegionKind.MASK, label=label, rings=(_corners(edge),), mask=bits)


def check_region(region: Region) -> None:
    """Refuse a region that cannot be one, whatever its kind asks of its corners.

    Raises
    ------
    PayloadError
        If its label is no whole number of 64 bits, a ring is of another shape than (corners, 2),
        or it has pixels and is no mask, or the other way round.
    """
    if int(region.label) != region.label or abs(int(region.label)) > _LABEL_MOST:
        raise PayloadError(f"a label has to be a whole number of 64 bits: {region.label!r}")
    for ring in region.rings:
        if ring.ndim != 2 or ring.shape[1] != 2:
            raise PayloadError(f"a ring has to be (corners, 2), not {ring.shape}")
    if (region.kind is RegionKind.MASK) != (region.mask is not None):
        raise PayloadError(f"a {region.kind} has {'no ' * (region.mask is None)}pixels")
    if region.mask is not None:
        mask, box = region.mask, np.asarray(region.rings[0] if region.rings else (), np.float64)
        if box.shape != (2, 2) or (box[1] - box[0]).tolist() != list(mask.shape):
            raise PayloadError(f"a mask of shape {mask.shape} does not fit corners {box.tolist()}")


def _corners(values: ArrayLike) -> NDArray[np.float32]:
    made = np.asarray(values, dtype=np.float32)
    made.flags.writeable = False
    return made
