"""Texts beside images: which encoding they are in."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["can_be_a_name", "decoded", "encoding_of"]

_LONGEST_NAME = 4096
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def encoding_of(path: Path) -> str:
    """Say how a table is encoded, by the mark that it begins with.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        ``utf-16`` where there is its mark, else ``utf-8-sig``, whether it has one or not.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in _WIDE else "utf-8-sig"


def decoded(data: bytes, *, otherwise: str | None = None) -> str:
    """Decode a text that may begin with a byte-order mark.

    Parameters
    ----------
    data
        The text.
    otherwise
        The encoding of a text without a mark that is no UTF-8, of which bytes without a meaning are
        replaced; None where that is an error.

    Returns
    -------
    str
        Without the mark.

    Raises
    ------
    ValueError
        If it cannot be decoded.
    """
    if data[:2] in _WIDE:
        return data.decode("utf-16", "strict" if otherwise is None else "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if otherwise is None:
            raise
        return data.decode(otherwise, "replace")


def can_be_a_name(name: str) -> bool:
    """Say whether a name of metadata could be that of a file at all."""
    if "\0" in name or len(name) > _LONGEST_NAME:
        return False
    try:
        name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False  # half of a pair of surrogates, which JSON can spell
    return True
