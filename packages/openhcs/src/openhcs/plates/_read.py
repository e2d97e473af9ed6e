"""Pixels of one plane."""

from __future__ import annotations

import stat
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlaneDamagedError, PlaneUnreadableError
from openhcs.plates._tiff import read_tiff_pages
from openhcs.plates._zarr_planes import member_of_page, own_attributes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.plates._opened import OpenedFiles
    from openhcs.plates._plane import Plane

__all__ = ["read_plane"]

# What tifffile and its codecs raise on damaged files: TiffFileError and most codecs' own errors are
# ValueErrors or RuntimeErrors.
_DAMAGE = (ValueError, RuntimeError, OSError, KeyError, TypeError, struct.error, zlib.error)


_ROUNDED_NS = 2_000_000_000


def read_plane(
    root: Path, plane: Plane, opened: OpenedFiles, region: tuple[slice, slice] | None = None
) -> NDArray[Any]:
    """Read the pixels of a plane.

    Parameters
    ----------
    root
        The plate's folder.
    plane
        Which one.
    opened
        What is known of the plate's files from reading planes before.
    region
        Rows and columns; None for all. Of an OME-Zarr image only the chunks of the region are read.

    Returns
    -------
    NDArray
        Shape (y, x), in the byte order of this computer. A palette's indices are the intensities;
        where white is stored as 0, values are turned round. Counts that a driver added are taken
        off.

    Raises
    ------
    PlaneDamagedError
        If the file was read and cannot be decoded.
    PlaneUnreadableError
        If there is no file, it cannot be opened, it is not of the shape and type that the index
        states, or a pixel is below the counts that were added to all of them.
    """
    where = f"well {plane.well} field {plane.field} channel {plane.channel} z {plane.z} t {plane.t}"
    if plane.path is None:
        raise PlaneUnreadableError(f"{where} is missing: there is no file for it")
    path = root / plane.path
    try:
        if _is_folder(path):
            return _read_zarr(path, plane, where, opened, region)
        pixels = _read_file(path, plane, where, opened)
    except MemoryError as error:
        raise PlaneUnreadableError(
            f"{path} ({where}): there is no memory for its {plane.shape} pixels"
        ) from error
    return pixels if region is None else np.ascontiguousarray(pixels[region])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # opening it says what is wrong


def _read_file(path: Path, plane: Plane, where: str, opened: OpenedFiles) -> NDArray[Any]:
    try:
        _check_unchanged(path, plane, where)
        if path.suffix.lower() == ".png":
            pixels, codec, inverted = _decode_png(path), "PNG", False
        else:
            pixels, codec, inverted = _decode_tiff(path, plane, where, opened)
    except PlaneUnreadableError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise PlaneUnreadableError(
            f"{path} ({where}) cannot be opened: {error.strerror}"
        ) from error
    except IndexError as error:
        raise PlaneDamagedError(f"{path} ({where}) has no image {plane.page}") from error
    except _DAMAGE as error:
        # What the system could not read, such as a share that went away, may be whole.
        kind = PlaneUnreadableError if isinstance(error, OSError) else PlaneDamagedError
        raise kind(
            f"{path} ({where}) cannot be decoded: {error}; copy the file again from the microscope"
        ) from error
    if pixels.ndim != 2:
        raise PlaneUnreadableError(f"{path} ({where}, {codec}) has shape {pixels.shape}: no plane")
    native = pixels.dtype.newbyteorder("=")
    _check(f"{path} ({where}, {codec})", plane, pixels.shape, native)
    if inverted and native.kind == "u":
        pixels = np.iinfo(native).max - pixels
    pixels = np.ascontiguousarray(pixels, native)
    if plane.offset_counts:
        least = int(pixels.min())
        if least < plane.offset_counts:
            raise PlaneUnreadableError(
                f"{path} ({where}) has a pixel of {least}, below the {plane.offset_counts} counts "
                "that were added to every pixel of this plate; compare it with the other files"
            )
        pixels = pixels - native.type(plane.offset_counts)
    return pixels


def _read_zarr(
    path: Path,
    plane: Plane,
    where: str,
    opened: OpenedFiles,
    region: tuple[slice, slice] | None,
) -> NDArray[Any]:
    from polystore import StorageError, UnreadableError

    try:
        reader = opened.image(path)
        place = member_of_page(reader, plane.page)
        height, width = reader.shape[-2:]
        # a plane of ours may be smaller than its image, which fills it up with zeros
        height, width = own_attributes(reader.attributes).sizes.get(
            (place.t, place.z), (height, width)
        )
        _check(f"{path} ({where})", plane, (height, width), reader.dtype)
        rows, columns = (
            slice(*part.indices(side))
            for part, side in zip(region or (slice(None),) * 2, (height, width), strict=True)
        )
        pixels = reader.read(0, t=place.t, c=place.c, z=place.z, region=(rows, columns))
    except IndexError as error:
        raise PlaneDamagedError(f"{path} ({where}) has no image {plane.page}") from error
    except PlaneUnreadableError:
        raise
    except (StorageError, ValueError, OSError) as error:
        damaged = isinstance(error, UnreadableError) or not isinstance(error, OSError)
        kind = PlaneDamagedError if damaged else PlaneUnreadableError
        raise kind(f"{path} ({where}) cannot be read: {error}") from error
    return np.ascontiguousarray(pixels)


def _check(what: str, plane: Plane, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
    if plane.shape is not None and shape != plane.shape:
        raise PlaneUnreadableError(f"{what} has shape {shape}; the index says {plane.shape}")
    if plane.dtype is not None and dtype != plane.dtype:
        raise PlaneUnreadableError(f"{what} holds {dtype}; the index says {plane.dtype}")


def _check_unchanged(path: Path, plane: Plane, where: str) -> None:
    """Refuse a file that is another one than was indexed, or is being written still.

    Other computers may see times of change that are rounded, so that small differences say nothing.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise PlaneUnreadableError(f"{path} ({where}) is no file")
    if plane.file_size >= 0 and (
        about.st_size != plane.file_size or abs(about.st_mtime_ns - plane.mtime_ns) > _ROUNDED_NS
    ):
        raise PlaneUnreadableError(
            f"{path} ({where}) was changed after the plate was indexed: it has {about.st_size} "
            f"bytes, and had {plane.file_size}; open the plate again once nothing writes to it"
        )


def _decode_tiff(
    path: Path, plane: Plane, where: str, opened: OpenedFiles
) -> tuple[NDArray[Any], str, bool]:
    """Give pixels, the name of the codec, and whether white is stored as 0."""
    number = plane.page
    if plane.shape is None:  # nobody has seen yet what it asks for
        header = read_tiff_pages(path, size=path.stat().st_size, pages=[number])[number]
        if isinstance(header, str):
            raise ValueError(header)
    import tifffile

    with path.open("rb") as stream, tifffile.TiffFile(stream, is_ome=False) as file:
        if number == 0:
            page = file.pages.first
        else:
            offset = opened.page_offset(path, stream.fileno(), number)
            file.filehandle.seek(offset)
            page = tifffile.TiffPage(file, number)
        codec = tifffile.COMPRESSION(page.compression).name
        # before memory is taken for them
        _check(f"{path} ({where}, {codec})", plane, page.shape, page.dtype)
        return page.asarray(), codec, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE


def _decode_png(path: Path) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))
