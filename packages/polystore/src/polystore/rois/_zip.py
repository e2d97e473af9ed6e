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

__all__ = ["COMMENT_MOST_BYTES", "read_roi_zip", "read_set", "write_roi_zip", "write_set"]

COMMENT_MOST_BYTES = zipfile.ZIP_MAX_COMMENT
"""The longest comment that a zip file has."""
_ENTRY_NAME_MOST = 100
_UNSAFE = re.compile(r"[^\w .+()-]|^\.+")
_DRIVE = re.compile(r"[A-Za-z]:")
_UTF_8 = 0x800
_LOCAL = struct.Struct("<4s5H3L2H")
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
        If a region cannot be a ROI, or there is more than would be read again; nothing was written
        then.
    MissingExtraError
        If roifile is not installed.
    """
    write_set(regions, file, where)


def write_set(
    regions: Regions,
    file: IO[bytes],
    where: Components | None = None,
    *,
    limits: RoiLimits | None = None,
    comment: bytes = b"",
) -> None:
    """Write a ROI set, and something else as the comment of the zip file.

    No program takes a comment for a ROI. It may have `COMMENT_MOST_BYTES`.

    Raises
    ------
    RoiError
        As `write_roi_zip`.
    MissingExtraError
        If roifile is not installed.
    """
    rois = to_rois(regions, where)
    _check_room(regions, rois, limits or RoiLimits())
    names = regions.properties.get("name")
    taken: dict[str, int] = {}
    with zipfile.ZipFile(file, "w") as archive:
        for number, (label, data) in enumerate(zip(regions.labels.tolist(), rois, strict=True)):
            name = (names[number] if isinstance(names, tuple) else "") or str(label)
            # a time of its own, so that the same regions are the same file
            info = zipfile.ZipInfo(_entry_name(name, taken), (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)
        archive.comment = comment


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
        If it is no zip file, is damaged, encrypted or over a limit, an entry is no region or its
        name leads out of the file; the message names the entry.
    MissingExtraError
        If roifile is not installed.
    """
    return read_set(file, limits=limits, others=others)[0]


def read_set(
    file: IO[bytes] | bytes | memoryview,
    *,
    limits: RoiLimits | None = None,
    others: Others = "error",
) -> tuple[Regions, bytes]:
    """Read a ROI set, and the comment of the zip file.

    Raises
    ------
    RoiError
        As `read_roi_zip`.
    MissingExtraError
        If roifile is not installed.
    """
    most = limits or RoiLimits()
    stream: IO[bytes] = io.BytesIO(file) if isinstance(file, bytes | memoryview) else file
    read = []
    try:
        count = _check_directory(stream, most)
        with zipfile.ZipFile(stream) as archive:
            for info in _entries(archive, stream, count, most):
                with archive.open(info) as entry:  # read() without a length expands all there is
                    data = entry.read(info.file_size)
                one = read_one(data, f"entry {info.filename!r}", others)
                if one is not None:
                    read.append(one)
            comment = archive.comment
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
    return assembled(read, most), comment


def _check_room(regions: Regions, rois: list[bytes], limits: RoiLimits) -> None:
    """Refuse to write what would not be read again."""
    advice = "keep the regions as JSON, or in several files"
    for number, data in enumerate(rois):
        if len(data) > limits.roi_bytes:
            raise RoiError(
                f"region {number}, of label {regions.labels[number]}, is a ROI of {len(data)} "
                f"bytes, and {limits.roi_bytes} are read: {advice}"
            )
    total = sum(map(len, rois))
    if len(rois) > limits.rois or max(total, len(regions.bits)) > limits.total_bytes:
        raise RoiError(
            f"{len(rois)} regions are {total} bytes of ROIs and {len(regions.bits)} of masks; "
            f"{limits.rois} ROIs and {limits.total_bytes} bytes are read: {advice}"
        )


def _check_directory(stream: IO[bytes], limits: RoiLimits) -> int:
    """Compare the length of the directory with what it may be before all of it is read.

    Gives the number of entries that there are said to be.
    """
    size = stream.seek(0, io.SEEK_END)
    reach = min(size, 2**16 + _END.size + _LOCATOR_64.size)
    stream.seek(size - reach)
    tail = stream.read(reach)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise RoiError(f"no ROI set: {size} bytes without the end of a zip file")
    count: int
    *_, count, directory, _, comment = _END.unpack_from(tail, at)
    if len(tail) - at - _END.size != comment:
        raise RoiError(
            f"the ROI set is cut off, or something follows it: a comment of {comment} bytes is to "
            f"be its end, and {len(tail) - at - _END.size} are there"
        )
    if at >= _LOCATOR_64.size and tail[at - _LOCATOR_64.size :].startswith(b"PK\x06\x07"):
        place = _LOCATOR_64.unpack_from(tail, at - _LOCATOR_64.size)[2]
        if place > size - _END_64.size:
            raise RoiError("no ROI set: the end of the zip file is not where it says")
        stream.seek(place)
        *_, count, directory, _ = _END_64.unpack(stream.read(_END_64.size))
    if directory > limits.rois * _DIRECTORY_ENTRY_BYTES:
        raise RoiError(
            f"the directory of the ROI set has {directory} bytes, more than {limits.rois} ROIs need"
        )
    return count


def _entries(
    archive: zipfile.ZipFile, stream: IO[bytes], count: int, limits: RoiLimits
) -> list[zipfile.ZipInfo]:
    """Give the entries that are ROIs, when all that is said of them can be."""
    if len(archive.infolist()) != count:
        raise RoiError(
            f"the ROI set is damaged: {count} entries are said to be in it, and "
            f"{len(archive.infolist())} are"
        )
    entries = []
    for info in archive.infolist():
        _check_name(info)
        if info.filename.lower().endswith(".roi") and not info.filename.startswith("__MACOSX/"):
            entries.append(info)
        else:
            _check_twice_named(stream, info)
    if len(entries) > limits.rois:
        raise RoiError(f"the ROI set has {len(entries)} ROIs, and may have {limits.rois}")
    for info in entries:
        _check_entry(info, limits)
    total = sum(info.file_size for info in entries)
    if total > limits.total_bytes:
        raise RoiError(
            f"the ROI set has {total} bytes when expanded, and may have {limits.total_bytes}"
        )
    return entries


def _check_entry(info: zipfile.ZipInfo, limits: RoiLimits) -> None:
    if info.header_offset < 0:
        raise RoiError(f"entry {info.filename!r} is said to be before the file")
    if info.flag_bits & 1:
        raise RoiError(f"entry {info.filename!r} is encrypted: save it without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RoiError(f"entry {info.filename!r} is packed by other means than deflate")
    if info.file_size > limits.roi_bytes:
        raise RoiError(
            f"entry {info.filename!r} has {info.file_size} bytes, and may have {limits.roi_bytes}"
        )


def _check_name(info: zipfile.ZipInfo) -> None:
    # nothing is written under these names here; but programs that unpack the file would do so
    name = info.orig_filename.replace("\\", "/")
    if name.startswith("/") or _DRIVE.match(name) or ".." in name.split("/"):
        raise RoiError(
            f"entry {info.orig_filename!r} has a name that leads out of the file: this is no set "
            "that ImageJ made; do not unpack it"
        )


def _check_twice_named(stream: IO[bytes], info: zipfile.ZipInfo) -> None:
    """Compare both names of an entry that is left alone: a damaged one may have been a ROI."""
    stream.seek(max(0, info.header_offset))
    header = stream.read(_LOCAL.size)
    if len(header) == _LOCAL.size and header.startswith(b"PK\x03\x04"):
        _, _, flags, *_, length, _ = _LOCAL.unpack(header)
        raw = stream.read(length)
        name = raw.decode("utf-8" if flags & _UTF_8 else "cp437", "replace")
        if name == info.orig_filename:
            return
    raise RoiError(f"entry {info.orig_filename!r} is damaged: it has another name where it begins")


def _entry_name(name: str, taken: dict[str, int]) -> str:
    """Give a name that is none of a folder, and of no other entry."""
    plain = _UNSAFE.sub("_", name)[:_ENTRY_NAME_MOST] or "_"
    made = plain
    while made in taken:
        taken[plain] += 1
        made = f"{plain}-{taken[plain]}"
    taken[made] = 0
    return f"{made}.roi"
