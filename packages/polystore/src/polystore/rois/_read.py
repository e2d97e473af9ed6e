"""ImageJ ROIs to regions."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

import numpy as np

from polystore._errors import PayloadError, RoiError
from polystore._tables import Table
from polystore.regions._region import Region, RegionKind
from polystore.regions._regions import Regions
from polystore.rois._corners import AREA_SHIFT, CORNERS, read_corners
from polystore.rois._limits import RoiLimits
from polystore.rois._names import (
    COLUMN,
    GROUP,
    KIND,
    LABEL,
    POSITIONS,
    Cell,
    column_of,
    plain_name,
    read_cell,
    read_lines,
    roifile,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from polystore._tables import Column

__all__ = ["Others", "ReadRoi", "assembled", "from_rois", "read_one"]

Others = Literal["error", "skip"]

_CLOSE = 4
_STEPS: dict[float, int] = {2: 5, 3: 7, _CLOSE: 1}
"""Numbers of a step of a path: of curves of two and of three degrees, of the end of a ring."""
_CURVE = np.linspace(0, 1, 17)[1:, None]
_WIDE = frozenset({"i4", "u4", "i8", "u8", "f8"})
"""Types that hold every place."""
_MASK = re.compile(r"mask (-?\d{1,8}) (-?\d{1,8}) (\d{1,8}) (\d{1,8})")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_NAME = re.compile(r"0*[1-9][0-9]{0,18}")
_LABEL_MOST = 2**63 - 1


def from_rois(
    rois: Iterable[bytes | memoryview],
    *,
    limits: RoiLimits | None = None,
    others: Others = "error",
) -> Regions:
    """Read ImageJ ROIs.

    Parameters
    ----------
    rois
        The bytes of each.
    limits
        How much memory masks may take.
    others
        What to do with what is no region, text and pictures of an overlay: ``"error"`` or
        ``"skip"``.

    Returns
    -------
    Regions
        In the same order. ``name`` is a property, and so are ``t``, ``z``, ``channel`` and
        ``group`` where a ROI has one; planes count from 0, the position in a plain stack is z.
        Corners are those that `to_rois` was given, to the last bit, unless somebody moved them in
        ImageJ. The label is the one that `to_rois` wrote; else the name, where that is a whole
        number above 0; all others are numbered on from the highest. Properties of ours have the
        types, units and order that they had, with what was changed in ImageJ; those of other
        programs are text.

        Polygon, freehand and traced selections become polygons, composites polygons of several
        rings with their curves in 16 parts, every line, arrow and angle a line. Colours, widths
        of strokes, rounded corners, splines and counters of points are left out.

    Raises
    ------
    RoiError
        If bytes are no ROI, are cut off or contradict themselves, or something is no region; the
        message says which.
    MissingExtraError
        If roifile is not installed.
    """
    module = roifile()
    read: list[ReadRoi] = []
    for number, data in enumerate(rois):
        one = _read(module, bytes(data), f"ROI {number}", others)
        if one is not None:
            read.append(one)
    return assembled(read, limits or RoiLimits())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRoi:
    """One ROI that was read.

    Attributes
    ----------
    region
        Its shape; the label counts for nothing.
    label
        The one that it states.
    cells
        What it holds in columns, in their order.
    box
        Top, left, height and width of the mask that it was.
    """

    region: Region
    label: int | None
    cells: dict[str, Cell]
    box: tuple[int, int, int, int] | None


def read_one(data: bytes, what: str, others: Others) -> ReadRoi | None:
    """Read one ROI; None where it is no region and is to be skipped."""
    return _read(roifile(), data, what, others)


def assembled(read: list[ReadRoi], limits: RoiLimits) -> Regions:
    """Put what was read together, and number what has no label."""
    pixels = sum(one.box[2] * one.box[3] for one in read if one.box is not None)
    if pixels > 8 * limits.total_bytes:
        raise RoiError(
            f"the masks among the ROIs have {pixels} pixels, and may have {8 * limits.total_bytes}"
        )
    following = max((one.label or 0 for one in read), default=0) + 1
    regions = []
    for one in read:
        label = one.label
        if label is None:
            label, following = following, following + 1
        region = one.region if one.box is None else _mask(one.region, one.box)
        regions.append(replace(region, label=label))
    try:
        return Regions.from_regions(regions, properties=_properties(read))
    except PayloadError as error:
        raise RoiError(f"the ROIs are no regions: {error}") from error


def _properties(read: list[ReadRoi]) -> Table:
    columns: dict[str, Column] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    units: dict[str, str] = {}
    for name in dict.fromkeys(key for one in read for key in one.cells):
        cells = [one.cells.get(name) for one in read]
        columns[name], missing[name] = column_of(cells)
        if unit := next((cell[1] for cell in cells if cell is not None and cell[1]), ""):
            units[name] = unit
    return Table(columns, units, missing)


def _read(module: ModuleType, data: bytes, what: str, others: Others) -> ReadRoi | None:
    try:
        roi = module.ImagejRoi.frombytes(data)
    except (ValueError, TypeError, IndexError, OverflowError, AssertionError, struct.error) as bad:
        raise RoiError(f"{what} is no ImageJ ROI, or damaged: {bad}") from bad
    lines = read_lines(roi.props)
    try:
        region = _region(module, roi)
    except (ValueError, OverflowError, FloatingPointError) as error:
        raise RoiError(f"{what} cannot be read: {error}") from error
    if region is None:
        if others == "skip":
            return None
        raise RoiError(
            f"{what}, {roi.name!r}, is {roi.subtype.name.lower()} of type "
            f"{roi.roitype.name.lower()}, which is no region: remove it, or say others='skip'"
        )
    try:
        return _said(roi, region, lines)
    except RoiError as error:
        raise RoiError(f"{what}, {roi.name!r}: {error}") from error


def _said(roi: Any, region: Region, lines: dict[str, str]) -> ReadRoi:
    label = _label(lines.get(LABEL), roi.name)
    ours = {
        unquote(key[len(COLUMN) :], errors="replace"): read_cell(value)
        for key, value in lines.items()
        if key.startswith(COLUMN)
    }
    cells: dict[str, Cell] = {}
    for name, cell in _imagejs_own(roi, ours, str(label) if LABEL in lines else ""):
        (ours if name in ours else cells)[name] = cell
    cells |= ours
    for key, value in lines.items():
        if key not in (LABEL, KIND, CORNERS) and not key.startswith(COLUMN):
            cells.setdefault(key, ("text", "", value))
    if CORNERS in lines and (rings := read_corners(lines[CORNERS], region)) is not None:
        region = replace(region, rings=rings)
    box = None if region.kind is not RegionKind.POLYGON else _box(region, lines.get(KIND, ""))
    return ReadRoi(region=region, label=label, cells=cells, box=box)


def _imagejs_own(roi: Any, ours: dict[str, Cell], label: str) -> Iterator[tuple[str, Cell]]:
    """Give name, planes and group where ImageJ has one and ours do not say the same."""
    said = ours.get("name")
    stated = label if said is None or said[2] is None else plain_name(said[2])
    if roi.name and roi.name != stated:
        yield "name", ("text", said[1] if said else "", roi.name)
    places = {key: getattr(roi, field) - 1 for key, field in POSITIONS.items()}
    if max(places.values()) < 0 < roi.position:
        places["z"] = roi.position - 1
    if roi.group:
        places[GROUP] = roi.group
    for key, place in places.items():
        said = ours.get(key)
        if place >= 0 and (said is None or said[2] != str(place)):
            kind, unit = (said[0], said[1]) if said else ("i4", "")
            if kind == "b1" or (kind not in _WIDE and place > 127):  # set there, does not fit
                kind = "i4"
            yield key, (kind, unit, str(place))


def _box(region: Region, said: str) -> tuple[int, int, int, int] | None:
    """Give the box of the mask that a polygon was, unless it was changed so as not to fit."""
    found = _MASK.fullmatch(said)
    corners = np.concatenate(region.rings) if region.rings else np.zeros((0, 2))
    if found is None or not len(corners):
        return None
    top, left, height, width = map(int, found.groups())
    low, high = corners.min(axis=0), corners.max(axis=0)
    inside = low[0] >= top - 0.5 and low[1] >= left - 0.5
    if not inside or high[0] > top + height - 0.5 or high[1] > left + width - 0.5:
        return None
    return top, left, height, width


def _mask(region: Region, box: tuple[int, int, int, int]) -> Region:
    top, left, height, width = box
    rings = tuple(ring - np.array([top, left], np.float32) for ring in region.rings)
    whole = Regions.from_regions([replace(region, label=1, rings=rings)])
    return Region.from_mask(0, whole.to_labels((height, width), np.uint8), top=top, left=left)


def _region(module: ModuleType, roi: Any) -> Region | None:
    kinds, subtypes = module.ROI_TYPE, module.ROI_SUBTYPE
    if roi.subtype in (subtypes.TEXT, subtypes.IMAGE):
        return None
    kind = roi.roitype
    if kind == kinds.RECT and roi.composite:
        return _composite(roi.multi_coordinates)
    if kind in (kinds.RECT, kinds.OVAL):
        found = RegionKind.RECTANGLE if kind == kinds.RECT else RegionKind.ELLIPSE
        return _made(found, _bounds(roi), AREA_SHIFT)
    if kind == kinds.LINE:
        return _made(RegionKind.LINE, [[roi.x1, roi.y1], [roi.x2, roi.y2]], 0)
    if kind == kinds.FREEHAND and roi.subtype in (subtypes.ELLIPSE, subtypes.ROTATED_RECT):
        return _turned(roi, is_round=roi.subtype == subtypes.ELLIPSE)
    if kind in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED):
        return _made(RegionKind.POLYGON, _coordinates(roi), AREA_SHIFT)
    if kind in (kinds.POLYLINE, kinds.FREELINE, kinds.ANGLE):
        return _made(RegionKind.LINE, _coordinates(roi), 0)
    if kind == kinds.POINT:
        return _made(RegionKind.POINT, _coordinates(roi), 0)
    return None


def _made(kind: RegionKind, corners: Any, shift: float) -> Region:
    ring = np.asarray(corners, dtype=np.float32)[:, ::-1] - np.float32(shift)
    least = {RegionKind.POINT: 1, RegionKind.LINE: 2}.get(kind, 0)
    if len(ring) < least:
        raise ValueError(f"a {kind} needs {least} corners, and has {len(ring)}")
    if not np.isfinite(ring).all():
        raise ValueError("its corners are not finite")
    return Region(kind=kind, label=0, rings=(ring,))


def _composite(path: NDArray[np.float32]) -> Region:
    corners, starts = _path(path)
    whole = _made(RegionKind.POLYGON, corners, AREA_SHIFT)
    rings = tuple(whole.rings[0][a:b] for a, b in pairwise([*starts, len(corners)]))
    return replace(whole, rings=rings)


def _path(path: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[int]]:
    """Read moves, lines, curves and closings: corners of all rings, and where each starts."""
    values: list[float] = path.tolist()
    flat: list[float] = []
    starts: list[int] = []
    at, count = 0, len(values)
    while at < count:
        step = values[at]
        end = at + (3 if step in (0, 1) else _STEPS.get(step, count + 1))
        if end > count:
            raise ValueError(f"the path has a step {step} that it cannot have")
        if step == 0:
            starts.append(len(flat) // 2)
        elif not starts:
            raise ValueError("the path does not start with a move")
        if step in (0, 1):
            flat += values[at + 1 : end]
        elif step != _CLOSE:
            points = np.array([*flat[-2:], *values[at + 1 : end]]).reshape(-1, 2)
            flat += _curve(points).ravel().tolist()
        at = end
    return np.array(flat, dtype=np.float32).reshape(-1, 2), starts


def _curve(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give points on a Bézier curve of two or three degrees, by de Casteljau's construction."""
    level: list[NDArray[np.float64]] = list(points)
    while len(level) > 1:
        level = [one + _CURVE * (other - one) for one, other in pairwise(level)]
    return level[0]


def _bounds(roi: Any) -> list[list[float]]:
    if roi.subpixelrect:
        left, top = roi.xd, roi.yd
        right, bottom = left + roi.widthd, top + roi.heightd
    else:
        left, top, right, bottom = roi.left, roi.top, roi.right, roi.bottom
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _turned(roi: Any, *, is_round: bool) -> Region:
    (width,) = struct.unpack(
        ">f",
        struct.pack(
            ">BBh",
            roi.arrow_style_or_aspect_ratio,
            roi.arrow_head_size,
            roi.rounded_rect_arc_size,
        ),
    )
    one, other = np.array([roi.x1, roi.y1]), np.array([roi.x2, roi.y2])
    axis = other - one
    length = float(np.hypot(*axis))
    if not np.isfinite([length, width]).all():
        raise ValueError("its axis is not finite")
    across = np.array([-axis[1], axis[0]]) / 2
    across = across * width if is_round else across * (width / length if length else 0)
    corners = [one - across, other - across, other + across, one + across]
    return _made(RegionKind.ELLIPSE if is_round else RegionKind.RECTANGLE, corners, AREA_SHIFT)


def _coordinates(roi: Any) -> NDArray[np.float32]:
    if roi.subpixel_coordinates is not None:
        found = roi.subpixel_coordinates
    elif roi.integer_coordinates is not None:
        found = roi.integer_coordinates + np.array([roi.left, roi.top])
    else:
        raise ValueError("it has no coordinates")
    return np.asarray(found, dtype=np.float32)


def _label(stated: str | None, name: str) -> int | None:
    for text, pattern in ((stated, _NUMBER), (name, _NAME)):
        if text is not None and pattern.fullmatch(text) and abs(int(text)) <= _LABEL_MOST:
            return int(text)
    return None
