"""Planes of 16 bits for the eye: rounded to steps that their noise hides, and said by how much."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from polystore._coding import Deviation, Encoded, check_taken, frozen, new_encoded
from polystore._errors import StreamError
from polystore.codecs._imagecodecs import PACKAGE
from polystore.codecs._jpegxl import JpegXlCodec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QuantizedCodec"]

_VALUES: Final = 2**16


class QuantizedCodec:
    """Lossy, for unsigned integers of 16 bits: brighter values are rounded to coarser steps.

    The noise of a camera grows with the square root of the light, so steps that are a part of it
    lose what nobody could have seen, and leave fewer values to encode, which is done without loss.
    How far the result is off is in `Encoded.deviation`, always.

    Parameters
    ----------
    step
        Height of a step in standard deviations of the noise; no value is off by more than half of
        that, or half a count.
    gain
        Counts for each electron.
    offset
        Counts without light.
    read_noise
        Standard deviation without light, in counts.
    effort, threads
        As for `JpegXlCodec`, which encodes the numbers of the steps.

    Raises
    ------
    ValueError
        If step or gain is not above 0, or the read noise is below.

    Notes
    -----
    A stream is the number of levels less one (2 bytes, little-endian), their values (2 bytes each,
    rising), and the JPEG XL stream of the levels' numbers, of 8 bits where there are 256 levels at
    most. Receivers need no parameter.

    The steps follow Anscombe's transform, Biometrika 35 (1948) 246-254, generalised to a gain and
    read noise.
    """

    id = "quantized-jpegxl"
    package = PACKAGE
    lossy = True

    def __init__(
        self,
        step: float = 0.5,
        *,
        gain: float = 1.0,
        offset: float = 100.0,
        read_noise: float = 2.0,
        effort: int = 1,
        threads: int = 1,
    ) -> None:
        told = (step, gain, offset, read_noise)
        if not all(map(math.isfinite, told)) or step <= 0 or gain <= 0 or read_noise < 0:
            raise ValueError(
                f"a step of {step} with gain {gain}, offset {offset} and read noise {read_noise} "
                "is none: step and gain have to be above 0"
            )
        self._told = {"step": step, "gain": gain, "offset": offset, "read_noise": read_noise}
        self._numbers, self._levels = _steps(step, gain, offset, read_noise)
        self._small = np.dtype(np.uint8 if len(self._levels) <= 256 else np.uint16)
        self._planes = JpegXlCodec(effort, threads=threads)

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to planes of unsigned integers of 16 bits."""
        return dtype.kind + str(dtype.itemsize) == "u2" and self._planes.takes(dtype, shape)

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Round and compress.

        Raises
        ------
        CodecError
            If the array is empty, has one axis, or is not of unsigned 16 bits.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        native = np.ascontiguousarray(array, np.uint16)
        numbers = self._numbers.astype(self._small)[native]
        count = len(self._levels)
        stream = b"".join(
            (
                (count - 1).to_bytes(2, "little"),
                self._levels.astype("<u2").tobytes(),
                self._planes.encode(_flat(numbers)).stream,
            )
        )
        return new_encoded(self, array, stream, self._told, self._deviation(native))

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress, and look the values of the levels up.

        Raises
        ------
        StreamError
            If the stream is cut off or damaged, or not of the announced size.
        MissingExtraError
            If imagecodecs is not installed.
        """
        what = f"{encoded.dtype} {encoded.shape}"
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"a quantized plane cannot be of {what}")
        count = int.from_bytes(encoded.stream[:2], "little") + 1
        start = 2 + 2 * count
        if encoded.stream.nbytes <= start:
            raise StreamError(f"the quantized plane {what} ends in its {count} levels")
        levels = np.frombuffer(encoded.stream[2:start], "<u2")
        if count > 1 and not bool((np.diff(levels.astype(np.int32)) > 0).all()):
            raise StreamError(f"the {count} levels of the quantized plane {what} do not rise")
        numbers = self._planes.decode(
            Encoded(
                codec=encoded.codec,
                package=encoded.package,
                dtype=np.dtype(np.uint8 if count <= 256 else np.uint16),
                shape=_sides(encoded.shape),
                stream=encoded.stream[start:],
            )
        )
        if int(numbers.max()) >= count:
            raise StreamError(f"the quantized plane {what} has numbers above its {count} levels")
        made = levels.astype(encoded.dtype)[numbers]
        return frozen(made.reshape(encoded.shape))

    def _deviation(self, plane: NDArray[np.uint16]) -> Deviation:
        """Say how far the result is off, from how often each value is there."""
        often = np.bincount(plane.reshape(-1), minlength=_VALUES)
        off = np.abs(self._levels[self._numbers].astype(np.int64) - np.arange(_VALUES))
        return Deviation(
            largest=float(off[often > 0].max()),
            mean_square=float((often * off**2).sum() / plane.size),
            peak=float(_VALUES - 1),
        )


def _steps(
    step: float, gain: float, offset: float, read_noise: float
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Give the number of the step that each value is on, and the value of each step."""
    light = np.maximum(np.arange(_VALUES) - offset, 0.0)
    heights = np.maximum(1.0, np.floor(step * np.sqrt(read_noise**2 + gain * light)))
    firsts = [0]
    while (following := firsts[-1] + int(heights[firsts[-1]])) < _VALUES:
        firsts.append(following)
    ends = [*firsts[1:], _VALUES]
    numbers = np.repeat(np.arange(len(firsts)), np.diff([*firsts, _VALUES])).astype(np.uint16)
    middles = [(first + end - 1) // 2 for first, end in zip(firsts, ends, strict=True)]
    return numbers, np.array(middles, np.uint16)


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Give the sides of one plane, the leading axes one below the other: no colours here."""
    return math.prod(shape[:-1]), shape[-1]


def _flat(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers.reshape(_sides(numbers.shape))
