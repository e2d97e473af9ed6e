"""Planes of OME-Zarr images: their numbers in the image, and which of them are data.

A plane of an image is found by its page: its number among all planes, z fastest, then c, then t,
whatever the order of the image's axes. What openhcs says about its own images is in the attribute
``openhcs`` of their groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from polystore.omezarr import ImageReader

_MOST_PLANES = 1_000_000

__all__ = ["Member", "OwnAttributes", "member_of_page", "members", "own_attributes"]


@dataclass(frozen=True, slots=True)
class Member:
    """Place of a plane along t, c and z."""

    t: int
    c: int
    z: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAttributes:
    """What openhcs says about an image of its own.

    Parameters
    ----------
    valid
        Members that are data; all others only fill the image up. None where all are data.
    sizes
        Height and width of planes that are smaller than the image, by t and z.
    origins_um
        Centre (y, x) of the first pixel of planes that begin elsewhere than the image, by t and z.
    field
        The field that the image is of; None for one of the whole well.
    t, z
        Numbers that the places along t and z had in the plate that the image was made of.
    stored
        Whether a run of openhcs stored the image.
    """

    valid: frozenset[Member] | None = None
    sizes: Mapping[tuple[int, int], tuple[int, int]]
    origins_um: Mapping[tuple[int, int], tuple[float, float]]
    field: int | None = None
    t: tuple[str, ...] = ()
    z: tuple[str, ...] = ()
    stored: bool = False


def own_attributes(attributes: Mapping[str, Any]) -> OwnAttributes:
    """Read what openhcs says about an image.

    Parameters
    ----------
    attributes
        Of the image's group, beside those of the format.

    Returns
    -------
    OwnAttributes
        Empty for images of others.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    own = attributes.get("openhcs")
    if own is None:
        return OwnAttributes(sizes={}, origins_um={})
    try:
        valid = own.get("valid")
        field = own.get("field")
        members = None if valid is None else frozenset(Member(*map(_whole, m)) for m in valid)
        return OwnAttributes(
            valid=members,
            sizes={_place(key): _pair(size) for key, size in own.get("sizes", {}).items()},
            origins_um={_place(key): _point(at) for key, at in own.get("origins_um", {}).items()},
            field=None if field is None else _whole(field),
            t=tuple("" if each is None else str(_whole(each)) for each in own.get("t", ())),
            z=tuple("" if each is None else str(_whole(each)) for each in own.get("z", ())),
            stored="field" in own,
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"its attribute openhcs is damaged: {error}") from error


def members(reader: ImageReader) -> Iterator[Member]:
    """Give all places of planes of an image, in the order of their pages.

    Parameters
    ----------
    reader
        The image.

    Yields
    ------
    Member
        Each plane, whether it is data or not.

    Raises
    ------
    ValueError
        If the image has planes along an axis that is not t, c or z, or over a million of them.
    polystore.StorageError
        If its array cannot be read.
    """
    ts, cs, zs = _counts(reader)
    if ts * cs * zs > _MOST_PLANES:
        raise ValueError(f"it says that it has {ts} x {cs} x {zs} planes (t, c, z)")
    for t in range(ts):
        for c in range(cs):
            for z in range(zs):
                yield Member(t, c, z)


def member_of_page(reader: ImageReader, page: int) -> Member:
    """Give the place of a page of an image.

    Raises
    ------
    IndexError
        If the image has fewer pages.
    """
    ts, cs, zs = _counts(reader)
    if not 0 <= page < ts * cs * zs:
        raise IndexError(page)
    return Member(page // (cs * zs), page // zs % cs, page % zs)


def _counts(reader: ImageReader) -> tuple[int, int, int]:
    sizes = dict(zip(reader.axes, reader.shape, strict=True))
    odd = [axis for axis, size in sizes.items() if axis not in "tczyx" and size > 1]
    if odd:
        raise ValueError(f"it has planes along {', '.join(odd)}: only t, c and z are known")
    return sizes.get("t", 1), sizes.get("c", 1), sizes.get("z", 1)


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of a plane")
    return value


def _place(key: str) -> tuple[int, int]:
    t, z = key.split("/")
    return int(t), int(z)


def _point(at: Any) -> tuple[float, float]:
    y, x = (float(value) for value in at)
    if not math.isfinite(y + x):
        raise ValueError(f"{at!r} is no place")
    return y, x


def _pair(size: Any) -> tuple[int, int]:
    height, width = size
    return _whole(height), _whole(width)
