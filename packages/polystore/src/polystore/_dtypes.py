"""Elements that a payload may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import PayloadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DTYPES", "check_dtype", "read_only"]

DTYPES = frozenset({"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"})
"""Kinds and sizes in bytes of the elements that a payload may hold, of either byte order."""


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse elements that payloads may not hold.

    Raises
    ------
    PayloadError
        If `dtype` is not one of `DTYPES`.
    """
    if dtype.kind + str(dtype.itemsize) not in DTYPES or dtype.names is not None:
        raise PayloadError(
            f"elements of type {dtype} cannot be sent; use one of {', '.join(sorted(DTYPES))}"
        )


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Give the same memory, not to be written to."""
    if type(array) is np.ndarray and not array.flags.writeable:
        return array
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view
