"""Headers of PNG files, into which images of some microscopes are converted."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from openhcs.plates._tiff import TiffHeader, TiffHeaderError, check_extent

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_png_header"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND\xaeB`\x82"
_GREY = 0
_DEFLATE = 8


def read_png_header(path: str | Path, *, size: int) -> TiffHeader:
    """Read the header of a PNG file.

    Parameters
    ----------
    path
        The file.
    size
        Its bytes.

    Returns
    -------
    TiffHeader
        What a TIFF of the same image would say.

    Raises
    ------
    TiffHeaderError
        If it is no PNG file of grey values in 8 or 16 bits, or is cut short.
    OSError
        If the file cannot be read.

    Notes
    -----
    W3C, Portable Network Graphics (third edition), 5.2, 11.2.1 and 11.2.5.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        start = os.read(descriptor, 33)
        if len(start) < 33 or start[:8] != _SIGNATURE or start[12:16] != b"IHDR":
            raise TiffHeaderError("the file does not start as a PNG file does")
        os.lseek(descriptor, max(0, size - len(_END)), os.SEEK_SET)
        if os.read(descriptor, len(_END)) != _END:
            raise TiffHeaderError(f"the file ends at byte {size}, before its image does")
    finally:
        os.close(descriptor)
    width, height, bits, colour = struct.unpack(">IIBB", start[16:26])
    if colour != _GREY or bits not in (8, 16):
        raise TiffHeaderError(f"pixels of {bits} bits and colour type {colour}")
    check_extent(height, width, bits, compression=_DEFLATE, size=size)
    return TiffHeader(
        height=height,
        width=width,
        dtype=f"uint{bits}",
        compression=_DEFLATE,
        photometric=1,
        software="",
        description=b"",
        end=size,
    )
