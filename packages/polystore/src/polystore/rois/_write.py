"""Regions to ImageJ ROIs."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import quote

import numpy as np

from polystore._components import Components
from polystore._errors import PayloadError, RoiError
from polystore._region import RegionKind
from polystore._regions import Regions
from polystore.rois._names import (
    GROUP,
    KIND,
    LABEL,
    NAME,
    POSITIONS,
    places,
    plain_name,
    roifile,
    write_cells,
)

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from polystore._region import Region

__all__ = ["to_rois"]

_INTEGER_MOST = 2**15 - 1
_CORNERS_MOST = 2**24
_ROUND = np.linspace(0, 2 * np.pi, 72, endpoint=False)


def to_rois(regions: Regions, where: Components | None = None) -> list[bytes]:
    """Write regions as ImageJ ROIs.

    Parameters
    ----------
    regions
        Their properties ``name``, ``t``, ``z``, ``channel`` and ``group`` become ImageJ's own;
        positions count from 0 here and from 1 there. All others are kept as properties of the
        ROI, with type and unit, and so is the label; the name is the label where there is none.
    where
        Says t, z and channel of all, where a region does not say so itself.

    Returns
    -------
    list of bytes
        One for each region, in their order. Corners on corners of pixels are integers, all others
        floats. A polygon of one ring is a traced or polygon selection, of several a composite; a
        rectangle or an ellipse that is turned is one in ImageJ too; a line of two corners is a
        straight line, of more a polyline; a mask is the outline of its pixels, and knows that it
        was one.

    Raises
    ------
    RoiError
        If a polygon has no corner, a mask no pixel, or text is not Unicode.
    MissingExtraError
        If roifile is not installed.

    Notes
    -----
    ImageJ counts from the corner of the upper left pixel where a selection has an area, and from
    its centre for points and lines. The format is that of ``ij.io.RoiEncoder`` of ImageJ 1.
    """
    module = roifile()
    table = regions.properties
    lines = write_cells(table) if table else [""] * len(regions)
    own = {name: table[name] for name in ("name", GROUP, *POSITIONS) if places(table, name)}
    at = {name: (where or Components()).get(name) for name in POSITIONS}
    made = []
    for number, region in enumerate(regions):
        roi = module.ImagejRoi(name=str(region.label))
        roi.props = f"{LABEL}: {region.label}\n{lines[number]}"
        _draw(module, roi, region)
        for name, attribute in POSITIONS.items():
            place = at[name]
            if name in own and not _absent(table.missing, name, number):
                place = int(own[name][number])
            if place is not None:
                setattr(roi, attribute, int(place) + 1)
        if GROUP in own:
            roi.group = int(own[GROUP][number])
        if "name" in own and not _absent(table.missing, "name", number):
            _name(roi, str(own["name"][number]), region.label)
        try:
            made.append(roi.tobytes())
        except UnicodeEncodeError as error:
            raise RoiError(f"region {region.label} has text that is not Unicode") from error
    return made


def _absent(missing: Any, name: str, row: int) -> bool:
    return name in missing and bool(missing[name][row])


def _name(roi: Any, name: str, label: int) -> None:
    """Name a ROI.

    The name is kept apart as well where it has characters beyond 16 bits, whose length roifile
    miscounts, where it is empty, and where it would be taken for one that only says the label.
    """
    roi.name = plain_name(name)
    if roi.name != name or name in ("", str(label)):
        roi.props += f"{NAME}: {quote(name, safe='', errors='surrogatepass')}\n"


def _draw(module: ModuleType, roi: Any, region: Region) -> None:
    kinds = module.ROI_TYPE
    match region.kind:
        case RegionKind.POINT:
            _corners(module, roi, kinds.POINT, kinds.POINT, _xy(region.rings[0], 0), line=True)
        case RegionKind.LINE:
            _line(module, roi, _xy(region.rings[0], 0))
        case RegionKind.POLYGON:
            _polygon(module, roi, region.label, region.rings)
        case RegionKind.RECTANGLE | RegionKind.ELLIPSE:
            _box(module, roi, region.kind, _xy(region.rings[0], 0.5).astype(np.float64))
        case RegionKind.MASK:
            assert region.mask is not None
            top, left = (region.rings[0][0] + 0.5).astype(int).tolist()
            height, width = region.mask.shape
            if not region.mask.any():
                raise RoiError(f"the mask {region.label} has no pixel, and ImageJ no such ROI")
            rings = tuple(
                ring + np.array([top, left], np.float32)
                for ring in next(iter(Regions.from_labels(region.mask))).rings
            )
            _polygon(module, roi, region.label, rings)
            roi.props += f"{KIND}: {region.kind} {top} {left} {height} {width}\n"
        case _:
            assert_never(region.kind)


def _xy(ring: NDArray[np.float32], shift: float) -> NDArray[np.float32]:
    return ring[:, ::-1] + np.float32(shift)


def _line(module: ModuleType, roi: Any, corners: NDArray[np.float32]) -> None:
    kinds = module.ROI_TYPE
    if len(corners) > 2:
        _corners(module, roi, kinds.POLYLINE, kinds.POLYLINE, corners, line=True)
        return
    roi.roitype = kinds.LINE
    roi.x1, roi.y1, roi.x2, roi.y2 = corners.ravel().tolist()
    _bound(roi, corners, line=True)


def _polygon(
    module: ModuleType, roi: Any, label: int, rings: tuple[NDArray[np.float32], ...]
) -> None:
    kinds = module.ROI_TYPE
    there = [_xy(ring, 0.5) for ring in rings if len(ring)]
    if not there:
        raise RoiError(f"the polygon {label} has no corner, and ImageJ no such ROI")
    if len(there) == 1:
        _corners(module, roi, kinds.TRACED, kinds.POLYGON, there[0], line=False)
        return
    path = []
    for ring in there:
        steps = np.ones((len(ring), 3), np.float32)
        steps[0, 0] = 0
        steps[:, 1:] = ring
        path += [steps.ravel(), np.array([4], np.float32)]
    roi.roitype = kinds.RECT
    roi.multi_coordinates = np.concatenate(path)
    roi.shape_roi_size = len(roi.multi_coordinates)
    _bound(roi, np.concatenate(there), line=False)


def _box(module: ModuleType, roi: Any, kind: RegionKind, corners: NDArray[np.float64]) -> None:
    kinds, round_ = module.ROI_TYPE, kind is RegionKind.ELLIPSE
    along, across = corners[1] - corners[0], corners[3] - corners[0]
    if not along.all() and not across.all():
        roi.roitype = kinds.OVAL if round_ else kinds.RECT
        _bound(roi, corners, line=False)
        if not _whole(corners):
            roi.options |= module.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            low = corners.min(axis=0)
            roi.xd, roi.yd = low.tolist()
            roi.widthd, roi.heightd = (corners.max(axis=0) - low).tolist()
        return
    middle = corners.mean(axis=0)
    longer, shorter = (along, across) if np.hypot(*along) >= np.hypot(*across) else (across, along)
    length, width = float(np.hypot(*longer)), float(np.hypot(*shorter))
    shape = corners
    if round_:
        shape = middle + np.outer(np.cos(_ROUND), along / 2) + np.outer(np.sin(_ROUND), across / 2)
    # older readers see these corners, ImageJ the axis and the width or the aspect ratio
    _corners(module, roi, kinds.FREEHAND, kinds.FREEHAND, shape.astype(np.float32), line=False)
    roi.subtype = module.ROI_SUBTYPE.ELLIPSE if round_ else module.ROI_SUBTYPE.ROTATED_RECT
    roi.x1, roi.y1 = (middle - longer / 2).tolist()
    roi.x2, roi.y2 = (middle + longer / 2).tolist()
    parameter = struct.pack(">f", width / length if round_ else width)
    # one float where roifile has the fields of arrows and of rounded corners
    roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size = struct.unpack(
        ">BBh", parameter
    )


def _corners(
    module: ModuleType,
    roi: Any,
    whole: Any,
    fractional: Any,
    corners: NDArray[np.float32],
    *,
    line: bool,
) -> None:
    if len(corners) > _CORNERS_MOST:
        raise PayloadError(f"a ROI of {len(corners)} corners is too long for ImageJ")
    _bound(roi, corners, line=line)
    roi.n_coordinates = len(corners)
    origin = np.array([roi.left, roi.top])
    rounded = np.clip(np.floor(corners) - origin, 0, 2**16 - 1).astype(np.int32)
    roi.integer_coordinates = rounded
    roi.roitype = whole
    if not _whole(corners):
        roi.roitype = fractional
        roi.options |= module.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.subpixel_coordinates = corners


def _whole(corners: NDArray[Any]) -> bool:
    return bool(
        (corners == np.floor(corners)).all()
        and corners.min() >= 0
        and corners.max() <= _INTEGER_MOST
    )


def _bound(roi: Any, corners: NDArray[Any], *, line: bool) -> None:
    """Set the bounds as ImageJ does: around areas, and around the pixels of lines and points."""
    shift = 0.5 if line else 0.0
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    roi.left, roi.top = (_bounded(math.floor(edge + shift)) for edge in low)
    roi.right, roi.bottom = (
        _bounded(math.floor(edge + 1.5) if line else math.ceil(edge)) for edge in high
    )


def _bounded(edge: int) -> int:
    return min(max(edge, -(2**15)), 2**16 - 1)
