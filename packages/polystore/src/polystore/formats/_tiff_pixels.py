"""Pixels of pages, with what can be told of damage without a checksum.

tifffile asks a decoder for as many bytes as a strip has to have, and takes no notice where there
would be more. A damaged strip of LZW often has: there a code stands for another text, of another
length. Strips as they are written here are decoded one byte further, which takes no longer; all
others are left to tifffile. That a strip is too short is an error either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tifffile import TiffFrame, TiffPage, TiffPageSeries

__all__ = ["page_pixels", "series_pixels"]

_LZW = 5
_PLAIN = 1
"""No predictor, samples side by side, highest bit first."""


def page_pixels(page: TiffPage, where: Path | str) -> NDArray[Any]:
    """Read the pixels of a page.

    Raises
    ------
    UnreadableError
        If a strip holds another number of bytes than it has to.
    """
    # in this thread: planes are read by several processes at once already
    if not _is_plain_lzw(page):
        return page.asarray(maxworkers=1)
    return _decoded([page], page, tuple(page.shape), where)


def series_pixels(series: TiffPageSeries, where: Path | str) -> NDArray[Any]:
    """Read the pixels of all pages of a series.

    Raises
    ------
    UnreadableError
        If a strip holds another number of bytes than it has to.
    """
    pages = [page for page in series.pages if page is not None]
    first = series.keyframe
    whole = len(pages) == len(series.pages) and len(pages) * first.size == math.prod(series.shape)
    if not whole or not _is_plain_lzw(first) or any(page.keyframe is not first for page in pages):
        return series.asarray(maxworkers=1)
    return _decoded(pages, first, tuple(series.shape), where)


def _is_plain_lzw(page: TiffPage) -> bool:
    return (
        page.compression == _LZW
        and page.predictor == page.planarconfig == page.fillorder == _PLAIN
        and page.samplesperpixel == page.imagedepth == 1
        and not page.is_tiled
        and page.dtype is not None
        and page.size > 0 < page.rowsperstrip
        and page.bitspersample == 8 * page.dtype.itemsize
        and len(page.dataoffsets) == math.ceil(page.imagelength / page.rowsperstrip)
    )


def _decoded(
    pages: Sequence[TiffPage | TiffFrame],
    first: TiffPage,
    shape: tuple[int, ...],
    where: Path | str,
) -> NDArray[Any]:
    import imagecodecs

    assert first.dtype is not None
    row_bytes = first.imagewidth * first.dtype.itemsize
    made = np.empty(shape, first.dtype.newbyteorder(first.parent.byteorder))
    rest = made.reshape(-1).view(np.uint8)
    file = first.parent.filehandle
    for number, page in enumerate(pages):
        for strip, (offset, count) in enumerate(
            zip(page.dataoffsets, page.databytecounts, strict=True)
        ):
            top = strip * first.rowsperstrip
            size = min(first.rowsperstrip, first.imagelength - top) * row_bytes
            file.seek(offset)
            found = imagecodecs.lzw_decode(file.read(count), out=size + 1)
            if len(found) != size:
                raise UnreadableError(
                    f"{where} is damaged: rows {top} to {top + size // row_bytes} of plane "
                    f"{number} have to be {size} bytes, and are "
                    f"{'more' if len(found) > size else len(found)}: take it from a copy"
                )
            rest[:size] = np.frombuffer(found, np.uint8)
            rest = rest[size:]
    return made
