"""The offset of ScanR: a driver stored signed pixels as unsigned ones, 32,768 counts too high."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._headers import read_headers
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._tiff import TiffHeader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import ScannedFile

__all__ = ["take_off_offset"]

_OFFSET = 32_768
_DRIVER = "National Instruments IMAQ"
_PER_CHANNEL = 6


def take_off_offset(
    root: Path, rows: Sequence[Row], files: dict[str, ScannedFile], findings: FindingLog
) -> int:
    """Decide for the whole plate whether its pixels carry the offset, and note it in the rows.

    Parameters
    ----------
    root
        The plate's folder.
    rows
        All rows; usable ones of 16 bits are given the offset.
    files
        Files by path.
    findings
        Takes ``OFFSET_SUBTRACTED``, or ``OFFSET_UNCERTAIN`` when planes disagree.

    Returns
    -------
    int
        The offset in counts; 0 without.

    Notes
    -----
    Six planes of each channel, spread over the wells, are opened. The offset is taken off where
    all of them are tagged by the driver that added it and none has a pixel below 32,768: a camera
    of fewer than 16 bits never comes so high without it. What holds is the same for every plane of
    the plate, so that wells stay comparable.
    """
    by_channel: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.status == PlaneStatus.OK and row.dtype == "uint16":
            by_channel[row.channel].append(row)
    sampled: list[Row] = []
    for members in by_channel.values():
        count = min(_PER_CHANNEL, len(members))
        sampled += [members[place * len(members) // count] for place in range(count)]
    headers = read_headers(root, [files[row.path] for row in sampled])
    tagged = [
        row
        for row in sampled
        if isinstance(header := headers[row.path], TiffHeader)
        and header.software.startswith(_DRIVER)
        and header.dtype == "uint16"
    ]
    if not tagged:
        return 0
    least = {row.path: value for row in tagged if (value := _least(root / row.path)) is not None}
    high = [path for path, value in least.items() if value >= _OFFSET]
    if not high:
        return 0
    readable = [row for row in sampled if isinstance(headers[row.path], TiffHeader)]
    if len(high) < len(least) or len(tagged) < len(readable):
        findings.add(
            "OFFSET_UNCERTAIN",
            f"{len(high)} of {len(readable)} planes that were opened have no pixel below "
            f"{_OFFSET:,}, others have or were not written by {_DRIVER}; nothing was taken off: "
            f"{some(high, 3)}.",
            path=high[0],
        )
        return 0
    for row in rows:
        if row.dtype == "uint16":
            row.offset_counts = _OFFSET
    findings.add(
        "OFFSET_SUBTRACTED",
        f"Pixels carry {_OFFSET:,} counts that the driver {_DRIVER} added, as {len(high)} planes "
        "show; they are taken off when planes are read.",
    )
    return _OFFSET


def _least(path: Path) -> int | None:
    """Give the lowest pixel of a file; None when it cannot be decoded."""
    import tifffile

    try:
        return int(tifffile.imread(path, key=0).min())
    except (ValueError, RuntimeError, OSError, KeyError, TypeError, IndexError):
        return None  # the reading of the plate names it
