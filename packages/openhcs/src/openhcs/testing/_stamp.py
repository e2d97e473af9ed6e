"""The identity stamp: a plane's key written into its first pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from openhcs.testing._spec import PlaneKey, PlaneKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Stamp", "decode_stamp", "encode_stamp"]

_MAGIC = 0xA5C
_VERSION = 1
_WORDS = 16
_KINDS: tuple[PlaneKind, ...] = ("plane", "max", "min", "sum", "best-focus")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a stamp says: the plane's key, and the low 24 bits of the plate's seed."""

    key: PlaneKey
    seed: int


def encode_stamp(
    key: PlaneKey, seed: int, dtype: Literal["uint8", "uint16"] = "uint16"
) -> NDArray[Any]:
    """Write the stamp of a plane.

    Parameters
    ----------
    key
        Whose stamp; every number below 4096.
    seed
        The plate's seed; its low 24 bits are kept.
    dtype
        Of the plane's pixels.

    Returns
    -------
    NDArray
        One pixel per word or, of 8 bits, two: its low 8 bits, then its high 4. Sixteen words of
        12 bits: magic number, version, row, col, field, channel, z, t, kind, acquisition (0),
        seed low and high, three zeros, sum of the others mod 4096.

    Raises
    ------
    ValueError
        If a number does not fit in 12 bits.
    """
    words = [
        *(_MAGIC, _VERSION, key.row, key.col, key.field, key.channel, key.z, key.t),
        *(_KINDS.index(key.kind), 0, seed & 0xFFF, seed >> 12 & 0xFFF, 0, 0, 0),
    ]
    if max(words) > 0xFFF:
        raise ValueError(f"a number of {key} does not fit in 12 bits")
    stamp = np.array([*words, sum(words) & 0xFFF], np.uint16)
    if dtype == "uint16":
        return stamp
    return np.stack([stamp & 0xFF, stamp >> 8], axis=1).astype(np.uint8).ravel()


def decode_stamp(pixels: NDArray[Any]) -> Stamp:
    """Read the stamp of a plane.

    Parameters
    ----------
    pixels
        The plane, shape (y, x), at least 16 pixels wide, or 32 of 8 bits.

    Returns
    -------
    Stamp
        The key that the plane was made for.

    Raises
    ------
    ValueError
        If the first pixels hold no stamp, or a damaged one.
    """
    if pixels.dtype.itemsize == 1:
        halves = pixels[0, : 2 * _WORDS].astype(np.uint16)
        words = (halves[::2] | halves[1::2] << 8).tolist()
    else:
        words = [int(value) for value in pixels[0, :_WORDS]]
    if len(words) < _WORDS or words[:2] != [_MAGIC, _VERSION]:
        raise ValueError("the plane starts with no stamp; was the plate made with stamp=True?")
    if sum(words[:-1]) & 0xFFF != words[-1] or words[8] >= len(_KINDS):
        raise ValueError(f"the stamp is damaged: {words}")
    row, col, field, channel, z, t = words[2:8]
    kind = _KINDS[words[8]]
    key = PlaneKey(row=row, col=col, field=field, channel=channel, z=z, t=t, kind=kind)
    return Stamp(key, words[10] | words[11] << 12)
