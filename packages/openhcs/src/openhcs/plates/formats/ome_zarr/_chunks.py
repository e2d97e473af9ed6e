"""What a deep look finds of the chunks of an OME-Zarr plate, without decoding any."""

from __future__ import annotations

import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._zarr_planes import member_of_page
from openhcs.plates.formats.ome_zarr._plate import THREADS
from polystore.omezarr import ImageReader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row

__all__ = ["check_chunks"]

_BLOSC = 2
_BLOSC_HEADER = struct.Struct("<BBBBIII")


def check_chunks(root: Path, rows: Sequence[Row], findings: FindingLog) -> None:
    """Look at the files of all planes.

    Parameters
    ----------
    root
        The listed folder.
    rows
        All rows; those with a file of 0 bytes become ``empty``, those with one that was cut short
        ``unreadable``.
    findings
        Takes ``EMPTY_FILE`` and ``UNREADABLE``, one for each file, and at most one
        ``CHUNK_ABSENT``.

    Notes
    -----
    A chunk that was cut short is known where chunks are stored as they are, or where Blosc says
    how long they are; a damaged one only when it is read.
    """
    images: dict[str, list[Row]] = {}
    for row in rows:
        if row.status == PlaneStatus.OK:
            images.setdefault(row.path, []).append(row)
    with ThreadPoolExecutor(THREADS, "openhcs-chunks") as pool:
        found = pool.map(lambda item: _look(root, *item), images.items())
        looked = [each for image in found for each in image]
    absent: Counter[str] = Counter()
    said: set[str] = set()
    for row, file, what in looked:
        if what == "absent":
            absent[row.path] += 1
            continue
        empty = what == "empty"
        row.status = (PlaneStatus.EMPTY if empty else PlaneStatus.UNREADABLE).value
        if file not in said:
            said.add(file)
            findings.add_for(
                row,
                "EMPTY_FILE" if empty else "UNREADABLE",
                f"{file} has 0 bytes." if empty else f"{file} cannot be read: {what}.",
                path=file,
            )
    if absent:
        findings.add(
            "CHUNK_ABSENT",
            f"{absent.total()} planes of {len(absent)} images lack files for some of their chunks, "
            f"which read as 0: {some(absent)}.",
            path=next(iter(absent)),
        )


def _look(root: Path, path: str, rows: Sequence[Row]) -> list[tuple[Row, str, str]]:
    """Give rows with something odd: the file, and what it is."""
    reader = ImageReader(root / path)
    folder = reader.level_path(0)
    length = reader.plain_chunk_bytes
    blosc = reader.codecs[-1:] == ("blosc",) and "sharding_indexed" not in reader.codecs
    known: dict[str, str] = {}
    odd: list[tuple[Row, str, str]] = []
    for row in rows:
        place = member_of_page(reader, row.page)
        for name in reader.plane_files(t=place.t, c=place.c, z=place.z):
            if name not in known:
                known[name] = _what(folder / name, length, blosc=blosc)
            if known[name]:
                odd.append((row, (folder / name).relative_to(root).as_posix(), known[name]))
                break
    return odd


def _what(file: Path, length: int | None, *, blosc: bool) -> str:
    """Say what is odd about a file; empty when nothing is."""
    try:
        size = file.stat().st_size
        if size == 0:
            return "empty"
        if length is not None and size != length:
            return f"it has {size} bytes, not {length}"
        if blosc:
            with file.open("rb") as stream:
                header = stream.read(_BLOSC_HEADER.size)
            if len(header) < _BLOSC_HEADER.size or header[0] != _BLOSC:
                return "it is not what Blosc makes"
            stated = _BLOSC_HEADER.unpack(header)[-1]
            if stated != size:
                return f"it has {size} bytes, and says that it has {stated}"
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return error.strerror or str(error)
    return ""
