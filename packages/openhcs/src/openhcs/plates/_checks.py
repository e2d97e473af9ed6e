"""Checks that every reader makes of its rows: copied, mixed and unplaced planes."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from openhcs.plates._absurd import forget_absurd
from openhcs.plates._findings import some
from openhcs.plates._plane import PlaneKind, PlaneStatus
from openhcs.plates._positions import outliers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row

__all__ = [
    "check_contents",
    "check_dimensions",
    "check_metadata",
    "check_mixes",
    "report_white",
]

_PIECE = 4096


def check_mixes(rows: Sequence[Row], names: Sequence[str], findings: FindingLog) -> None:
    """Name planes whose element type or size is not that of their channel and acquisition.

    Parameters
    ----------
    rows
        All rows; those without a header do not count.
    names
        Channel names.
    findings
        Takes ``DTYPE_MIX`` and ``SHAPE_MIX``, one for each odd value of a channel.
    """
    for code, thing, value_of in (
        ("DTYPE_MIX", "element type", lambda row: row.dtype),
        ("SHAPE_MIX", "size", lambda row: f"{row.height} x {row.width}"),
    ):
        by_channel: dict[tuple[int, int], dict[str, list[Row]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in rows:
            if row.status == PlaneStatus.OK and row.height > 0:
                by_channel[row.acquisition, row.channel][value_of(row)].append(row)
        for (_, channel), by_value in sorted(by_channel.items()):
            usual, *odd = sorted(by_value.items(), key=lambda item: -len(item[1]))
            for value, planes in odd:
                first = planes[0] if len(planes) == 1 else None
                findings.add(
                    code,
                    f"Channel {names[channel]} has {thing} {usual[0]}, but {value} in "
                    f"{some((plane.path for plane in planes), 3)}.",
                    well=first.well if first else None,
                    field=first.field if first else None,
                    channel=channel,
                    z=first.z if first else None,
                    t=first.t if first else None,
                    path=planes[0].path,
                )


def check_contents(root: Path, rows: Sequence[Row], findings: FindingLog) -> None:
    """Name files that are the same byte for byte; images of one value only do not count.

    Parameters
    ----------
    root
        The plate's folder.
    rows
        All rows.
    findings
        Takes one ``DUPLICATE_CONTENT`` for each set of identical files.

    Notes
    -----
    Two pieces of each file are read, and the whole of those only that agree in size and pieces.
    """
    by_size: dict[int, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.status == PlaneStatus.OK:
            by_size[row.file_size].setdefault(row.path, row)
    alike: dict[bytes, list[Row]] = defaultdict(list)
    for same_size in by_size.values():
        if len(same_size) > 1:
            for row in same_size.values():
                alike[_digest(root / row.path, pieces=True)].append(row)
    for candidates in alike.values():
        if len(candidates) < 2 or _is_constant(root / candidates[0].path):
            continue
        equal: dict[bytes, list[Row]] = defaultdict(list)
        for row in candidates:
            equal[_digest(root / row.path, pieces=False)].append(row)
        for same in equal.values():
            if len(same) > 1:
                last = same[-1]
                findings.add_for(
                    last,
                    "DUPLICATE_CONTENT",
                    f"{len(same)} files are identical: {some((row.path for row in same), 4)}.",
                )


def check_dimensions(rows: Sequence[Row], names: Sequence[str], findings: FindingLog) -> None:
    """Say which channels have stacks, single planes or projections only, where they differ.

    Parameters
    ----------
    rows
        All rows.
    names
        Channel names.
    findings
        Takes at most one ``MIXED_DIMENSIONS``.
    """
    stacks: dict[int, set[int]] = defaultdict(set)
    times: dict[int, set[int]] = defaultdict(set)
    kinds: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if row.status != PlaneStatus.DUPLICATE_CONTENT:
            times[row.channel].add(row.t)
            kinds[row.channel].add(row.kind)
            if row.kind == PlaneKind.PLANE:
                stacks[row.channel].add(row.z)
    shapes = {c: (len(stacks[c]), len(times[c]), tuple(sorted(kinds[c]))) for c in sorted(times)}
    if len(set(shapes.values())) > 1:
        parts = [
            f"{names[c]}: {z} z, {t} t" + "".join(f", {k}" for k in ks if k != PlaneKind.PLANE)
            for c, (z, t, ks) in shapes.items()
        ]
        findings.add("MIXED_DIMENSIONS", f"Channels differ in extent ({'; '.join(parts)}).")


def check_metadata(
    rows: Sequence[Row], tile_um: Mapping[tuple[int, int], float], findings: FindingLog
) -> None:
    """Name what is not known of usable planes: position, pixel size, and positions far off.

    Parameters
    ----------
    rows
        All rows.
    tile_um
        Extent of a tile, µm, by acquisition and channel; NaN when unknown.
    findings
        Takes at most one ``POSITION_MISSING``, ``PIXEL_SIZE_MISSING`` and ``PIXEL_SIZE_MIX``, an
        ``OUTLIER_POSITION`` for each field far from the others of its well, and a ``TIME_ORDER``
        for each well in which a plane was taken before that of the time point before it.
    """
    forget_absurd(rows, findings)
    usable = [row for row in rows if row.status == PlaneStatus.OK]
    unplaced = Counter(row.well for row in usable if math.isnan(row.x_um) or math.isnan(row.y_um))
    if unplaced:
        findings.add(
            "POSITION_MISSING",
            f"{unplaced.total()} planes have no stage position (wells {some(unplaced)}).",
        )
    unsized = Counter(row.well for row in usable if math.isnan(row.pixel_um_x))
    if unsized:
        findings.add(
            "PIXEL_SIZE_MISSING",
            f"{unsized.total()} planes have no pixel size (wells {some(unsized)}).",
        )
    sizes = {f"{row.pixel_um_y:.6g} x {row.pixel_um_x:.6g}" for row in usable if row.pixel_um_x > 0}
    if len(sizes) > 1:
        findings.add("PIXEL_SIZE_MIX", f"Pixel sizes differ: {some(sorted(sizes))} µm.")
    places: dict[tuple[int, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    extent: dict[tuple[int, str], float] = {}
    for row in usable:
        if not math.isnan(row.x_um):
            places[row.acquisition, row.well].setdefault(row.field, (row.x_um, row.y_um))
            extent[row.acquisition, row.well] = tile_um.get(
                (row.acquisition, row.channel), math.nan
            )
    for key, fields in places.items():
        for field in outliers(fields, extent[key]):
            x, y = fields[field]
            findings.add(
                "OUTLIER_POSITION",
                f"Field {field} of well {key[1]} lies far from the others, "
                f"at ({x:.0f}, {y:.0f}) µm.",
                well=key[1],
                field=field,
            )
    _check_times(usable, findings)


def _check_times(rows: Sequence[Row], findings: FindingLog) -> None:
    series: dict[tuple[int, str, int, int, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        if not math.isnan(row.time_s):
            key = (row.acquisition, row.well, row.field, row.channel, row.kind, row.z)
            series[key].append(row)
    early: dict[str, list[Row]] = defaultdict(list)
    for planes in series.values():
        planes.sort(key=lambda row: row.t)
        for before, after in pairwise(planes):
            if after.t > before.t and after.time_s < before.time_s:
                early[after.well].append(after)
    for well, planes in early.items():
        first = planes[0]
        more = f" ({len(planes)} planes of the well were)" if len(planes) > 1 else ""
        findings.add_for(
            first,
            "TIME_ORDER",
            f"{first.path}, time point {first.t} of field {first.field} of well {well}, was taken "
            f"before the time point before it{more}.",
        )


def report_white(paths: Sequence[str], findings: FindingLog) -> None:
    """Name files in which white is stored as 0.

    Parameters
    ----------
    paths
        Of the files; may be empty.
    findings
        Takes at most one ``WHITE_IS_ZERO``.
    """
    if paths:
        findings.add(
            "WHITE_IS_ZERO",
            f"In {len(paths)} files that were opened white is stored as 0; values of such "
            f"files are turned round when they are read: {some(paths, 3)}.",
            path=paths[0],
        )


def _digest(path: Path, *, pieces: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if not pieces:
                return hashlib.file_digest(file, "blake2b").digest()
            start = file.read(_PIECE)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size // 2))
            middle = file.read(_PIECE)
            file.seek(max(0, size - _PIECE))
            return hashlib.blake2b(b"%d:" % size + start + middle + file.read()).digest()
    except OSError:
        return str(path).encode("utf-8", "surrogateescape")  # like no other file


def _is_constant(path: Path) -> bool:
    import tifffile

    try:
        # the first image: as a series, those of an OME-TIFF may be in other files
        pixels = tifffile.imread(path, key=0)
    except (ValueError, RuntimeError, OSError):
        return False
    return bool(pixels.size == 0 or (pixels == pixels.flat[0]).all())
