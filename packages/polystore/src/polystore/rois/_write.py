"""Regions to ImageJ ROIs."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

from polystore._components import Components
from polystore._errors import RoiError
from polystore.regions._region import KIND_CODES, RegionKind
from polystore.regions._regions import Regions
from polystore.rois._corners import CORNERS, Corners, corners_of
from polystore.rois._names import (
    GROUP,
    KIND,
    LABEL,
    POSITIONS,
    places,
    plain_name,
    plane_of,
    roifile,
    write_cells,
)

if TYPE_CHECKING:
    from types import ModuleType

    from polystore.regions._region import Region

__all__ = ["refusal", "to_rois"]

_CORNERS_MOST = 2**24
_LABEL_MOST = 2**63 - 1
_POLYGON, _MASK = (KIND_CODES.index(kind) for kind in (RegionKind.POLYGON, RegionKind.MASK))
_CLOSE = np.array([4], np.float32)
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
        was one. Where ImageJ's corners are not the same to the last bit, because it counts them in
        float32 from another place, or by an axis, they are kept as a property as well.

    Raises
    ------
    RoiError
        If a polygon has no corner, a mask no pixel, or text is not Unicode; the message says which
        region and what to do.
    MissingExtraError
        If roifile is not installed.

    Notes
    -----
    ImageJ counts from the corner of the upper left pixel where a selection has an area, and from
    its centre for points and lines. The format is that of ``ij.io.RoiEncoder`` of ImageJ 1.
    """
    module = roifile()
    if reason := refusal(regions):
        raise RoiError(reason)
    table = regions.properties
    lines = write_cells(table) if table else [""] * len(regions)
    own = {name: table[name] for name in ("name", GROUP, *POSITIONS) if places(table, name)}
    at = {name: plane_of((where or Components()).get(name)) for name in POSITIONS}
    made = []
    for number, (region, corners) in enumerate(zip(regions, corners_of(regions), strict=True)):
        roi = module.ImagejRoi(name=str(region.label))
        roi.props = f"{LABEL}: {region.label}\n{lines[number]}"
        _draw(module, roi, region, corners)
        if corners.text:
            roi.props += f"{CORNERS}: {corners.text}\n"
        for name, attribute in POSITIONS.items():
            place = at[name]
            if name in own and not _absent(table.missing, name, number):
                place = int(own[name][number])
            if place is not None:
                setattr(roi, attribute, int(place) + 1)
        if GROUP in own:
            roi.group = int(own[GROUP][number])
        if "name" in own and not _absent(table.missing, "name", number):
            roi.name = plain_name(str(own["name"][number]))
        made.append(roi.tobytes())
    return made


def refusal(regions: Regions) -> str | None:
    """Say which region cannot be a ROI, why, and what to do; None where all can."""
    counts = np.diff(regions.offsets[regions.rings])
    for number in np.flatnonzero((regions.kinds == _POLYGON) & (counts == 0)).tolist():
        return _refused(regions, number, "is a polygon without corners")
    for number in np.flatnonzero(counts > _CORNERS_MOST).tolist():
        return _refused(regions, number, f"has {counts[number]} corners")
    for number in np.flatnonzero(regions.labels < -_LABEL_MOST).tolist():
        return _refused(regions, number, "has the least label that there is")
    if (regions.kinds == _MASK).any():
        for number, region in enumerate(regions):
            if region.mask is not None and not region.mask.any():
                return _refused(regions, number, "is a mask without pixels")
    return None


def _refused(regions: Regions, number: int, why: str) -> str:
    return (
        f"region {number}, of label {regions.labels[number]}, {why}, which no ROI can be: leave it "
        "out, as with Regions.take, or keep the regions as JSON"
    )


def _absent(missing: Any, name: str, row: int) -> bool:
    return name in missing and bool(missing[name][row])


def _draw(module: ModuleType, roi: Any, region: Region, corners: Corners) -> None:
    kinds = module.ROI_TYPE
    match region.kind:
        case RegionKind.POINT:
            _put(module, roi, kinds.POINT, corners, line=True)
        case RegionKind.LINE if len(corners.rings[0]) > 2:
            _put(module, roi, kinds.POLYLINE, corners, line=True)
        case RegionKind.LINE:
            roi.roitype = kinds.LINE
            roi.x1, roi.y1, roi.x2, roi.y2 = corners.rings[0].ravel().tolist()
            _bound(roi, corners, line=True)
        case RegionKind.POLYGON:
            _polygon(module, roi, corners)
        case RegionKind.RECTANGLE | RegionKind.ELLIPSE:
            _box(module, roi, region.kind, corners)
        case RegionKind.MASK:
            _mask(module, roi, region)
        case _:
            assert_never(region.kind)


def _polygon(module: ModuleType, roi: Any, corners: Corners) -> None:
    kinds = module.ROI_TYPE
    if len(corners.rings) == 1:
        kind = kinds.TRACED if corners.are_whole else kinds.POLYGON
        _put(module, roi, kind, corners, line=False)
        return
    path = []
    for ring in corners.rings:
        steps = np.ones((len(ring), 3), np.float32)
        steps[0, 0] = 0
        steps[:, 1:] = ring
        path += [steps.ravel(), _CLOSE]
    roi.roitype = kinds.RECT
    roi.multi_coordinates = np.concatenate(path)
    roi.shape_roi_size = len(roi.multi_coordinates)
    _bound(roi, corners, line=False)


def _mask(module: ModuleType, roi: Any, region: Region) -> None:
    """Outline the pixels, and say that they were a mask."""
    mask = region.mask
    assert mask is not None
    place = (region.rings[0][0] + np.float32(0.5)).astype(int)
    outline = Regions.from_labels(mask)
    placed = replace(outline, vertices=outline.vertices + place.astype(np.float32))
    _polygon(module, roi, next(corners_of(placed)))
    box = (*place.tolist(), *mask.shape)
    roi.props += f"{KIND}: {region.kind} {' '.join(map(str, box))}\n"


def _box(module: ModuleType, roi: Any, kind: RegionKind, corners: Corners) -> None:
    kinds, is_round = module.ROI_TYPE, kind is RegionKind.ELLIPSE
    four = corners.rings[0].astype(np.float64)
    along, across = four[1] - four[0], four[3] - four[0]
    if not along.all() and not across.all():
        roi.roitype = kinds.OVAL if is_round else kinds.RECT
        _bound(roi, corners, line=False)
        if not corners.are_whole:
            roi.options |= module.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            (roi.xd, roi.yd), (right, bottom) = corners.low, corners.high
            roi.widthd, roi.heightd = right - roi.xd, bottom - roi.yd
        return
    middle = four.mean(axis=0)
    longer, shorter = (along, across) if np.hypot(*along) >= np.hypot(*across) else (across, along)
    length, width = float(np.hypot(*longer)), float(np.hypot(*shorter))
    shape = four
    if is_round:
        shape = middle + np.outer(np.cos(_ROUND), along / 2) + np.outer(np.sin(_ROUND), across / 2)
    # older readers see these corners, ImageJ the axis and the width or the aspect ratio
    low, high = shape.min(axis=0).tolist(), shape.max(axis=0).tolist()
    drawn = Corners([shape.astype(np.float32)], low, high, are_whole=False)
    _put(module, roi, kinds.FREEHAND, drawn, line=False)
    roi.subtype = module.ROI_SUBTYPE.ELLIPSE if is_round else module.ROI_SUBTYPE.ROTATED_RECT
    roi.x1, roi.y1 = (middle - longer / 2).tolist()
    roi.x2, roi.y2 = (middle + longer / 2).tolist()
    parameter = struct.pack(">f", width / length if is_round else width)
    # one float where roifile has the fields of arrows and of rounded corners
    roi.arrow_style_or_aspect_ratio, roi.arrow_head_size, roi.rounded_rect_arc_size = struct.unpack(
        ">BBh", parameter
    )


def _put(module: ModuleType, roi: Any, kind: Any, corners: Corners, *, line: bool) -> None:
    """Give a ROI its corners: integers beside the bounds, and floats where those do not do."""
    xy = corners.rings[0]
    roi.roitype = kind
    _bound(roi, corners, line=line)
    roi.n_coordinates = len(xy)
    if corners.are_whole:
        roi.integer_coordinates = xy.astype(np.int32) - np.array([roi.left, roi.top], np.int32)
        return
    near = np.clip(np.floor(xy) - np.array([roi.left, roi.top]), 0, 2**16 - 1)
    roi.integer_coordinates = near.astype(np.int32)
    roi.options |= module.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.subpixel_coordinates = xy


def _bound(roi: Any, corners: Corners, *, line: bool) -> None:
    """Set the bounds as ImageJ does: around areas, and around the pixels of lines and points."""
    shift = 0.5 if line else 0.0
    roi.left, roi.top = (_bounded(math.floor(edge + shift)) for edge in corners.low)
    roi.right, roi.bottom = (
        _bounded(math.floor(edge + 1.5) if line else math.ceil(edge)) for edge in corners.high
    )


def _bounded(edge: int) -> int:
    return min(max(edge, -(2**15)), 2**16 - 1)
