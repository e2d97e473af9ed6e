"""Bytes as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import RAW, check_taken, frozen, is_listed, new_encoded
from polystore._errors import StreamError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["RawCodec"]


class RawCodec:
    """Sends the elements as they are, in C order; copies nothing that is contiguous.

    It stands among the others so that a choice can be for none of them.
    """

    id = RAW
    package = "polystore"
    lossy = False

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:  # noqa: ARG002
        """Say yes to every type that a payload may hold."""
        return is_listed(dtype)

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Refer to the array's own bytes.

        Raises
        ------
        CodecError
            If the type of the elements is not one that payloads may hold.
        """
        check_taken(self, array)
        flat = np.ascontiguousarray(array).reshape(-1)
        return new_encoded(self, array, flat.view(np.uint8).data)

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """View the bytes as the array that they are of.

        Raises
        ------
        StreamError
            If they are not as many as announced.
        """
        if encoded.stream.nbytes != encoded.nbytes:
            raise StreamError(
                f"{encoded.dtype} {encoded.shape} is {encoded.nbytes} bytes, "
                f"{encoded.stream.nbytes} came"
            )
        if not encoded.nbytes:
            return frozen(np.zeros(encoded.shape, encoded.dtype))
        return frozen(np.frombuffer(encoded.stream, encoded.dtype).reshape(encoded.shape))
