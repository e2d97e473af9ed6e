"""Pixels of one plane."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlaneUnreadableError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.plates._plane import Plane

__all__ = ["read_plane"]

# What tifffile and its codecs raise on damaged files: TiffFileError and most codecs' own errors are
# ValueErrors or RuntimeErrors.
_DAMAGE = (ValueError, RuntimeError, OSError, KeyError, TypeError, struct.error, zlib.error)


def read_plane(root: Path, plane: Plane) -> NDArray[Any]:
    """Read the pixels of a plane.

    Parameters
    ----------
    root
        The plate's folder.
    plane
        Which one.

    Returns
    -------
    NDArray
        Shape (y, x), in the byte order of this computer. A palette's indices are the intensities;
        where white is stored as 0, values are turned round.

    Raises
    ------
    PlaneUnreadableError
        If there is no file, it cannot be decoded, or it is not of the shape and type that the
        index states.
    """
    import tifffile

    where = f"well {plane.well} field {plane.field} channel {plane.channel} z {plane.z} t {plane.t}"
    if plane.path is None:
        raise PlaneUnreadableError(f"{where} is missing: there is no file for it")
    path = root / plane.path
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[plane.page]
            if not isinstance(page, tifffile.TiffPage):
                page = page.aspage()
            codec = tifffile.COMPRESSION(page.compression).name
            pixels = page.asarray()
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
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
    if pixels.ndim != 2 or (plane.shape is not None and pixels.shape != plane.shape):
        raise PlaneUnreadableError(
            f"{path} ({where}, {codec}) has shape {pixels.shape}; the index says {plane.shape}"
        )
    native = pixels.dtype.newbyteorder("=")
    if plane.dtype is not None and native != plane.dtype:
        raise PlaneUnreadableError(
            f"{path} ({where}, {codec}) holds {native}; the index says {plane.dtype}"
        )
    if inverted and native.kind == "u":
        pixels = np.iinfo(native).max - pixels
    return np.ascontiguousarray(pixels, native)
