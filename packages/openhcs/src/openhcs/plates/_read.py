"""Pixels of one plane."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlaneUnreadableError
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
    PlaneUnreadableError
        If there is no file, it cannot be decoded, it is not of the shape and type that the index
        states, or a pixel is below the counts that were added to all of them.
    """
    where = f"well {plane.well} field {plane.field} channel {plane.channel} z {plane.z} t {plane.t}"
    if plane.path is None:
        raise PlaneUnreadableError(f"{where} is missing: there is no file for it")
    path = root / plane.path
    if path.is_dir():
        return _read_zarr(path, plane, where, opened, region)
    pixels = _read_file(path, plane, where, opened)
    return pixels if region is None else np.ascontiguousarray(pixels[region])


def _read_file(path: Path, plane: Plane, where: str, opened: OpenedFiles) -> NDArray[Any]:
    try:
        if path.suffix.lower() == ".png":
            pixels, codec, inverted = _decode_png(path), "PNG", False
        else:
            pixels, codec, inverted = _decode_tiff(path, plane.page, opened)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise PlaneUnreadableError(
            f"{path} ({where}) cannot be opened: {error.strerror}"
        ) from error
    except IndexError as error:
        raise PlaneUnreadableError(f"{path} ({where}) has no image {plane.page}") from error
    except _DAMAGE as error:
        raise PlaneUnreadableError(
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
    from polystore import StorageError

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
        raise PlaneUnreadableError(f"{path} ({where}) has no image {plane.page}") from error
    except PlaneUnreadableError:
        raise
    except (StorageError, ValueError, OSError) as error:
        raise PlaneUnreadableError(f"{path} ({where}) cannot be read: {error}") from error
    return np.ascontiguousarray(pixels)


def _check(what: str, plane: Plane, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if plane.shape is not None and shape != plane.shape:
        raise PlaneUnreadableError(f"{what} has shape {shape}; the index says {plane.shape}")
    if plane.dtype is not None and dtype != plane.dtype:
        raise PlaneUnreadableError(f"{what} holds {dtype}; the index says {plane.dtype}")


def _decode_tiff(path: Path, number: int, opened: OpenedFiles) -> tuple[NDArray[Any], str, bool]:
    """Give pixels, the name of the codec, and whether white is stored as 0."""
    import tifffile

    with path.open("rb") as stream, tifffile.TiffFile(stream, is_ome=False) as file:
        if number == 0:
            page = file.pages.first
        else:
            offset = opened.page_offset(path, stream.fileno(), number)
            file.filehandle.seek(offset)
            page = tifffile.TiffPage(file, number)
        codec = tifffile.COMPRESSION(page.compression).name
        return page.asarray(), codec, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE


def _decode_png(path: Path) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))
