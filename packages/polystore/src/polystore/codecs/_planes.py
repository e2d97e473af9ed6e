"""Earlier planes that differences refer to, by what they hold."""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._bounded import BoundedMap
from polystore._coding import frozen, is_listed
from polystore._errors import BasePlaneError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EarlierPlanes", "content_hash"]


def content_hash(array: NDArray[Any]) -> str:
    """Name an array by what it holds: type, shape and elements.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    CodecError
        If the type of the elements is not one that payloads may hold.

    Notes
    -----
    The first half of the SHA-256 of type and shape, as ``"<u2 2048,2048"``, a line feed, and the
    elements in C order. Processors with instructions for it hash 1.5 GB/s.
    """
    if not is_listed(array.dtype):
        raise CodecError(f"elements of type {array.dtype} have no content hash")
    shape = ",".join(map(str, array.shape))
    digest = hashlib.sha256(f"{array.dtype.str} {shape}\n".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


class EarlierPlanes:
    """Planes that one end has kept, named by `content_hash`; the one used longest ago goes first.

    Several threads may use one.

    Parameters
    ----------
    most_bytes
        So many bytes of planes are kept; a plane larger than that is not.

    Raises
    ------
    ValueError
        If that is below 0.
    """

    def __init__(self, most_bytes: int = 256 * 1024**2) -> None:
        self._planes: BoundedMap[str, NDArray[Any]] = BoundedMap(most_bytes)
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return self._planes.nbytes

    def add(self, plane: NDArray[Any]) -> str:
        """Keep a copy of a plane, so that whoever has it may change it.

        Returns
        -------
        str
            Its content hash.

        Raises
        ------
        CodecError
            If the type of the elements is not one that payloads may hold.
        """
        return self.keep(content_hash(plane), np.array(plane, order="C"))

    def keep(self, content: str, plane: NDArray[Any]) -> str:
        """Keep a plane itself under the hash that it is known to have; nobody may change it."""
        with self._lock:
            if self._planes.get(content) is None:
                self._planes.put(content, frozen(plane), plane.nbytes)
        return content

    def get(self, content: str) -> NDArray[Any]:
        """Return a plane, read-only.

        Raises
        ------
        BasePlaneError
            If it is not here, or not any more.
        """
        with self._lock:
            plane = self._planes.get(content)
        if plane is not None:
            return plane
        raise BasePlaneError(
            f"the plane {content} that a difference is to is not here, or not any more: "
            "ask for the whole plane"
        )

    def __contains__(self, content: object) -> bool:
        return content in self._planes

    def __len__(self) -> int:
        return len(self._planes)
