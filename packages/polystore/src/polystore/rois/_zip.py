"""ROI sets: zip files of ROIs."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from polystore._errors import RoiError
from polystore.rois._limits import RoiLimits
from polystore.rois._read import Others, assembled, read_one
from polystore.rois._write import to_rois

if TYPE_CHECKING:
    from polystore._components import Components
    from polystore.regions._regions import Regions

__all__ = ["read_roi_zip", "write_roi_zip"]

_ENTRY_NAME_MOST = 100
_UNSAFE = re.compile(r"[^\w .+()-]|^\.+")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_DIRECTORY_ENTRY_BYTES = 46 + 512


def write_roi_zip(regions: Regions, file: IO[bytes], where: Components | None = None) -> None:
    """Write regions as a ROI set, which ImageJ's ROI manager opens.

    Parameters
    ----------
    regions
        See `to_rois` for what becomes of them. Equal regions make equal bytes.
    file
        Open for writing; it need not be seekable, and stays open.
    where
        Says t, z and channel of all, where a region does not say so itself.

    Raises
    ------
    RoiError
        If a region cannot be a ROI; nothing was written then.
    MissingExtraError
        If roifile is not installed.
    """
    rois = to_rois(regions, where)
    names = regions.properties.get("name")
    taken: dict[str, int] = {}
    with zipfile.ZipFile(file, "w") as archive:
        for number, (label, data) in enumerate(zip(regions.labels.tolist(), rois, strict=True)):
            name = (names[number] if isinstance(names, tuple) else "") or str(label)
            # a time of its own, so that the same regions are the same file
            info = zipfile.ZipInfo(_entry_name(name, taken), (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)


def read_roi_zip(
    file: IO[bytes] | bytes | memoryview,
    *,
    limits: RoiLimits | None = None,
    others: Others = "error",
) -> Regions:
    """Read a ROI set: all entries whose names end in ``.roi``, in their order.

    Parameters
    ----------
    file
        Seekable, or the bytes themselves; it stays open.
    limits
        How much it may hold.
    others
        See `from_rois`, also for what comes back.

    Raises
    ------
    RoiError
        If it is no zip file, is damaged, encrypted or over a limit, or an entry is no region; the
        message names the entry.
    MissingExtraError
        If roifile is not installed.
    """
    most = limits or RoiLimits()
    stream: IO[bytes] = io.BytesIO(file) if isinstance(file, bytes | memoryview) else file
    read = []
    try:
        _check_directory(stream, most)
        with zipfile.ZipFile(stream) as archive:
            entries = _entries(archive, most)
            for info in entries:
                with archive.open(info) as entry:  # read() without a length expands all there is
                    data = entry.read(info.file_size)
                one = read_one(data, f"entry {info.filename!r}", others)
                if one is not None:
                    read.append(one)
    except RoiError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        ValueError,
    ) as error:
        raise RoiError(f"the ROI set is no zip file, or damaged: {error}") from error
    return assembled(read, most)


def _check_directory(stream: IO[bytes], limits: RoiLimits) -> None:
    """Compare the length of the directory with what it may be before all of it is read."""
    size = stream.seek(0, io.SEEK_END)
    reach = min(size, 2**16 + _END.size + _LOCATOR_64.size)
    stream.seek(size - reach)
    tail = stream.read(reach)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise RoiError(f"no ROI set: {size} bytes without the end of a zip file")
    directory = _END.unpack_from(tail, at)[5]
    if at >= _LOCATOR_64.size and tail[at - _LOCATOR_64.size :].startswith(b"PK\x06\x07"):
        place = _LOCATOR_64.unpack_from(tail, at - _LOCATOR_64.size)[2]
        if place > size - _END_64.size:
            raise RoiError("no ROI set: the end of the zip file is not where it says")
        stream.seek(place)
        directory = _END_64.unpack(stream.read(_END_64.size))[8]
    if directory > limits.rois * _DIRECTORY_ENTRY_BYTES:
        raise RoiError(
            f"the directory of the ROI set has {directory} bytes, more than {limits.rois} ROIs need"
        )


def _entries(archive: zipfile.ZipFile, limits: RoiLimits) -> list[zipfile.ZipInfo]:
    entries = [
        info
        for info in archive.infolist()
        if info.filename.lower().endswith(".roi") and not info.filename.startswith("__MACOSX/")
    ]
    if len(entries) > limits.rois:
        raise RoiError(f"the ROI set has {len(entries)} ROIs, and may have {limits.rois}")
    total = 0
    for info in entries:
        total += info.file_size
        if info.header_offset < 0:
            raise RoiError(f"entry {info.filename!r} is said to be before the file")
        if info.flag_bits & 1:
            raise RoiError(f"entry {info.filename!r} is encrypted: save it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RoiError(f"entry {info.filename!r} is packed by other means than deflate")
        if info.file_size > limits.roi_bytes:
            raise RoiError(
                f"entry {info.filename!r} has {info.file_size} bytes, and may have "
                f"{limits.roi_bytes}"
            )
    if total > limits.total_bytes:
        raise RoiError(
            f"the ROI set has {total} bytes when expanded, and may have {limits.total_bytes}"
        )
    return entries


def _entry_name(name: str, taken: dict[str, int]) -> str:
    """Give a name that is none of a folder, and of no other entry."""
    plain = _UNSAFE.sub("_", name)[:_ENTRY_NAME_MOST] or "_"
    made = plain
    while made in taken:
        taken[plain] += 1
        made = f"{plain}-{taken[plain]}"
    taken[made] = 0
    return f"{made}.roi"
