"""Headers of many image files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from openhcs.plates._png import read_png_header
from openhcs.plates._tiff import TiffHeader, TiffHeaderError, read_tiff_header, read_tiff_pages

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from openhcs.plates._scan import ScannedFile

__all__ = ["HeaderResult", "read_headers", "read_page_headers"]

HeaderResult: TypeAlias = TiffHeader | str
"""A header, or why there is none."""

_THREADS = 4
_CHUNK = 256


def read_headers(root: Path, files: Sequence[ScannedFile]) -> dict[str, HeaderResult]:
    """Read the headers of some files of a plate.

    Parameters
    ----------
    root
        The plate's folder.
    files
        Which ones; none of 0 bytes.

    Returns
    -------
    dict
        For each path its header, or one clause that says why it has none.

    Notes
    -----
    A few threads, because on a network drive nearly all of the time is spent waiting for the file
    to be opened. On a local disk they change nothing.
    """
    base = str(root)
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]

    def read(chunk: Sequence[ScannedFile]) -> list[tuple[str, HeaderResult]]:
        return [(file.path, _read(f"{base}/{file.path}", file.size)) for file in chunk]

    if len(chunks) < 2:
        return dict(read(files))
    with ThreadPoolExecutor(_THREADS, "openhcs-headers") as pool:
        return {path: result for part in pool.map(read, chunks) for path, result in part}


def read_page_headers(
    root: Path, file: ScannedFile, pages: Collection[int]
) -> dict[int, HeaderResult]:
    """Read the headers of some images of one file of a plate.

    Parameters
    ----------
    root
        The plate's folder.
    file
        Which one; not of 0 bytes.
    pages
        Which images, 0-based.

    Returns
    -------
    dict
        For each image its header, or one clause that says why it has none.
    """
    try:
        return read_tiff_pages(f"{root}/{file.path}", size=file.size, pages=pages)
    except TiffHeaderError as error:
        why = str(error)
    except OSError as error:
        why = error.strerror or str(error)
    return dict.fromkeys(pages, why)


def _read(path: str, size: int) -> HeaderResult:
    try:
        if path[-4:].lower() == ".png":
            return read_png_header(path, size=size)
        return read_tiff_header(path, size=size)
    except TiffHeaderError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
