"""Single planes in TIFF files."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from polystore._errors import FormatError, MissingExtraError, NotStoredError, UnreadableError
from polystore.files._atomic import atomic_file
from polystore.files._checksums import has_sums, open_verified, read_bytes
from polystore.files._room import reserve
from polystore.formats._tiff_pixels import page_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPage

    from polystore.files._checksums import Checksum

__all__ = ["TiffHeader", "map_plane", "read_header", "read_plane", "write_plane"]

# no codec of microscopes makes more of fewer bytes; LZW and Deflate reach about 1400 and 1030
_PLAUSIBLE_RATIO = 2000
_PLAUSIBLE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffHeader:
    """What a page says about itself, without its pixels.

    Attributes
    ----------
    shape
        Height and width in pixels; a third number where a pixel has several samples.
    dtype
        Of the pixels as `read_plane` gives them, in the byte order of this computer.
    pages
        Pages in the file.
    compression, photometric
        Names of the TIFF standard in lower case, as ``"lzw"`` and ``"minisblack"``.
    description, software, date_time
        Text of the tags 270, 305 and 306; empty where there is none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pages: int
    compression: str
    photometric: str
    description: str
    software: str
    date_time: str


def read_header(path: Path | str, page: int = 0) -> TiffHeader:
    """Read what a page says about itself. Pixels are not read, so that no checksum is compared.

    Parameters
    ----------
    path
        The file.
    page
        Counted from 0.

    Raises
    ------
    NotStoredError
        If there is no such file.
    UnreadableError
        If it is no TIFF, is cut off, or has no such page; the message names the file.
    MissingExtraError
        If tifffile is not installed.
    """
    with _open(path) as tif:
        found = _page(tif, path, page)
        if found.dtype is None:
            raise UnreadableError(f"{path}: page {page} has samples of no known type")
        return TiffHeader(
            shape=tuple(found.shape),
            dtype=np.dtype(found.dtype).newbyteorder("="),
            pages=len(tif.pages),
            compression=_name(found.compression),
            photometric=_name(found.photometric),
            description=_text(found, 270),
            software=_text(found, 305),
            date_time=_text(found, 306),
        )


def read_plane(path: Path | str, page: int = 0, *, verify: bool = True) -> NDArray[Any]:
    """Read the pixels of one page.

    Stored numbers are given as they are: a palette is not applied, an inverted scale stays.

    Parameters
    ----------
    path
        The file.
    page
        Counted from 0.
    verify
        Whether to compare the whole file with its checksum, if it was stored with one.

    Returns
    -------
    ndarray
        Shape and type as the header says, in the byte order of this computer.

    Raises
    ------
    NotStoredError
        If there is no such file.
    ChecksumError
        If it is not what was stored.
    UnreadableError
        If it is no TIFF, is cut off or damaged, or has no such page; the message names the file.
    MissingExtraError
        If tifffile or imagecodecs is not installed.
    """
    # verified and decoded from the same bytes, which a disk may give differently the next time
    content = io.BytesIO(read_bytes(path)) if verify and has_sums(path) else None
    with _open(path, content) as tif:
        found = _page(tif, path, page)
        _check_whole(found, path, page, tif.filehandle.size)
        pixels = page_pixels(found, path)
        if pixels.shape != tuple(found.shape):
            raise UnreadableError(
                f"{path}: page {page} says {found.shape} and holds {pixels.shape}"
            )
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return pixels


def map_plane(path: Path | str, page: int = 0, *, verify: bool = True) -> NDArray[Any]:
    """Give the pixels of one page, which stay in the file until they are looked at.

    Parameters
    ----------
    path
        The file.
    page
        Counted from 0.
    verify
        Whether to compare the whole file with its checksum first, if it was stored with one, which
        reads all of it once.

    Returns
    -------
    ndarray
        Shape as the header says, in the byte order of the file; it cannot be written to.

    Raises
    ------
    FormatError
        If the pixels do not lie in the file one after the other, as where they are compressed or
        tiled: `read_plane` reads those.
    NotStoredError, ChecksumError, UnreadableError, MissingExtraError
        As `read_plane`.

    Notes
    -----
    The map is of the file as it was opened: another that takes its place leaves this one as it is.
    Whoever shortens a file in place takes the pixels away, and looking at them then ends the
    process (SIGBUS); nothing here writes in place.
    """
    with contextlib.ExitStack() as stack:
        # the file that is compared is the one that is mapped, whatever takes its name meanwhile
        stream = None
        if verify and has_sums(path):
            stream = stack.enter_context(open_verified(Path(path), lambda: _binary(path)))
        tif = stack.enter_context(_open(path, stream))
        found = _page(tif, path, page)
        _check_whole(found, path, page, tif.filehandle.size)
        if not found.is_memmappable:
            raise FormatError(
                f"{path}: the pixels of page {page} are not one after the other as they are in "
                f"memory ({_name(found.compression)}{', tiled' if found.is_tiled else ''}), and "
                "cannot be mapped: use read_plane"
            )
        dtype = np.dtype(found.dtype).newbyteorder(tif.byteorder)
        return tif.filehandle.memmap_array(
            dtype, tuple(found.shape), offset=found.dataoffsets[0], mode="r"
        ).view(np.ndarray)


def write_plane(
    path: Path | str,
    plane: NDArray[Any],
    *,
    compression: Literal["lzw", "none"] = "none",
    description: str | None = None,
    fsync: bool = False,
    checksum: Checksum | None = None,
) -> None:
    """Write one page, in one piece or not at all.

    Parameters
    ----------
    path
        In a folder that exists.
    plane
        Shape (y, x).
    compression
        ``"lzw"`` is read by everything.
    description
        For tag 270; ASCII.
    fsync, checksum
        As for `write_bytes`.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    NotDurableError
        If it is written and the disk does not confirm it.
    ValueError
        If `plane` is not two-dimensional.
    MissingExtraError
        If tifffile or imagecodecs is not installed, or the checksum needs xxhash, which is not.
    """
    if plane.ndim != 2:
        raise ValueError(f"a plane has the axes y and x, not the shape {plane.shape}")
    with _extra():
        import tifffile
    with atomic_file(path, fsync=fsync, checksum=checksum) as stream, _extra():
        if compression == "none" and plane.dtype != np.bool_:  # of which eight are a byte
            reserve(stream, plane.nbytes)
        tifffile.imwrite(
            stream,
            plane,
            photometric="minisblack",
            compression=None if compression == "none" else compression,
            description=description,
            metadata=None,
            software=False,
        )


def _binary(path: Path | str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except FileNotFoundError as error:
        raise NotStoredError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UnreadableError(error.errno, f"{path} cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _open(path: Path | str, content: IO[bytes] | None = None) -> Iterator[TiffFile]:
    with _extra():
        import tifffile
    # imagecodecs raises errors of its own for each format, all of them RuntimeErrors
    broken = (
        tifffile.TiffFileError,
        EOFError,
        IndexError,
        KeyError,
        MemoryError,
        OSError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )
    try:
        with _extra(), tifffile.TiffFile(content or path) as tif:
            yield tif
    except (FormatError, UnreadableError, MissingExtraError):
        raise
    except FileNotFoundError as error:
        raise NotStoredError(f"{path}: there is no such file") from error
    except broken as error:
        size = Path(path).stat().st_size if Path(path).is_file() else None
        reason = "the file is empty" if size == 0 else str(error) or type(error).__name__
        raise UnreadableError(f"{path} cannot be read as TIFF: {reason}") from error


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"TIFF files need {error.name or 'tifffile'}: install polystore[tiff]"
        ) from error
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise MissingExtraError(
                "this TIFF file needs imagecodecs: install polystore[tiff]"
            ) from error
        raise


def _page(tif: TiffFile, path: Path | str, page: int) -> TiffPage:
    from tifffile import TiffPage

    # asking for the number of pages reads all their directories; asking for one does not
    try:
        found = tif.pages[page] if page >= 0 else None
    except IndexError:
        found = None
    if found is None:
        raise UnreadableError(f"{path} has {len(tif.pages)} pages, and none numbered {page}")
    if not isinstance(found, TiffPage):
        raise UnreadableError(f"{path}: page {page} is not a full page")
    return found


def _check_whole(found: TiffPage, path: Path | str, page: int, size: int) -> None:
    # decoders fill what is missing with zeros, and an image that is half black looks real
    for offset, count in zip(found.dataoffsets, found.databytecounts, strict=False):
        if offset + count > size or count == 0:
            raise UnreadableError(
                f"{path}: page {page} is cut off: a part of its pixels is at bytes {offset} to "
                f"{offset + count} and the file has {size}"
            )
    if found.nbytes > max(_PLAUSIBLE_BYTES, _PLAUSIBLE_RATIO * size):
        raise UnreadableError(
            f"{path}: page {page} says it is {found.shape} of {found.dtype}, which the {size} "
            "bytes of the file cannot hold"
        )


def _name(value: object) -> str:
    return str(getattr(value, "name", value)).lower()


def _text(page: TiffPage, code: int) -> str:
    tag = page.tags.get(code)
    if tag is None:
        return ""
    value = tag.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
