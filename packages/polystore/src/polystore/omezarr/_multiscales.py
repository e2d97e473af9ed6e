"""What the metadata of an OME-Zarr image say: axes, sizes, levels and channels.

Notes
-----
OME-Zarr 0.4 and 0.5 (https://ngff.openmicroscopy.org), sections on multiscales and omero. Level k
is translated by (2**k - 1) / 2 pixels against the finest: to the centre of its own first pixel.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import LayoutError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ChannelMeta",
    "ImageMeta",
    "channels",
    "dataset",
    "length_um",
    "micrometers",
    "multiscale",
    "seconds",
    "unplaced_axes",
]

_COLOR = re.compile("[0-9A-Fa-f]{6}")
_COLORS = ("00FFFF", "00FF00", "FF00FF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
_UNITS = {
    "t": ("time", "second"),
    "z": ("space", "micrometer"),
    "y": ("space", "micrometer"),
    "x": ("space", "micrometer"),
}
_UM = {
    "angstrom": 1e-4,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "inch": 25_400.0,
}
_S = {
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "day": 86400.0,
}


@dataclass(frozen=True, slots=True)
class ChannelMeta:
    """How one channel is called and shown.

    Attributes
    ----------
    name
        As ``"DAPI"``.
    color
        Six hexadecimal digits, or None for one by its number.
    window
        Values shown as black and as white, or None for the 0.1 and 99.9 percentiles.

    Raises
    ------
    LayoutError
        If the colour is none, or the window is not finite.
    """

    name: str
    color: str | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.color is not None and not _COLOR.fullmatch(self.color):
            raise LayoutError(f"channel {self.name}: {self.color!r} is not six hexadecimal digits")
        if self.window is not None and not all(map(math.isfinite, self.window)):
            raise LayoutError(f"channel {self.name}: the window {self.window} is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMeta:
    """What an image's numbers mean.

    Attributes
    ----------
    channels
        As many as the image has; none for names by number.
    pixel_um
        Height and width of a pixel in µm, or None when it is not known.
    z_um, t_s
        Distance of planes in µm and of time points in s, or None.
    origin_um
        Place (y, x) of the centre of the first pixel in µm, y downward, or None when it is not
        known. `Payload.origin_um` is half a pixel before it: the corner of that pixel.
    origin_z_um
        Place of the first plane in µm, or None.
    units
        Unit of the values, as ``"counts"``, or None.
    lossy
        Whether the values are an approximation, because they came through a lossy codec.
    attributes
        JSON to be kept beside the metadata of the format, by name.

    Raises
    ------
    LayoutError
        If a size is not above 0 and finite, or an origin is not finite, or is one along axes whose
        sizes are not known: the format has no unit for it then.
    """

    channels: tuple[ChannelMeta, ...] = ()
    pixel_um: tuple[float, float] | None = None
    z_um: float | None = None
    t_s: float | None = None
    origin_um: tuple[float, float] | None = None
    origin_z_um: float | None = None
    units: str | None = None
    lossy: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for size in (*(self.pixel_um or ()), self.z_um, self.t_s):
            if size is not None and not (math.isfinite(size) and size > 0):
                raise LayoutError(f"sizes have to be above 0, or None when unknown: {self}")
        for origin, size, axes in (
            (self.origin_um, self.pixel_um, "pixel_um"),
            (None if self.origin_z_um is None else (self.origin_z_um,), self.z_um, "z_um"),
        ):
            if origin is None:
                continue
            if not all(map(math.isfinite, origin)):
                raise LayoutError(f"origins have to be finite, or None when unknown: {self}")
            if size is None:
                raise LayoutError(f"an origin in µm needs {axes}, which is not known: {self}")
        reserved = sorted({"ome", "polystore"} & self.attributes.keys())
        if reserved:
            raise LayoutError(f"attributes of an image cannot be called {reserved}")


def channels(
    meta: ImageMeta,
    count: int,
    dtype: np.dtype[Any],
    ranges: Mapping[int, Sequence[tuple[float, float]]],
) -> list[dict[str, Any]]:
    """Describe the channels of an image.

    Parameters
    ----------
    meta
        Names, colours and windows, as far as they are given.
    count
        Number of channels.
    dtype
        Of the pixels.
    ranges
        For channels without a window, percentiles of their planes.
    """
    described = []
    for c, channel in enumerate(meta.channels or [ChannelMeta(str(c)) for c in range(count)]):
        window = channel.window or _window(ranges.get(c, []))
        low, high = _dtype_range(dtype, window)
        color = "FFFFFF" if count == 1 else _COLORS[c % len(_COLORS)]
        described.append(
            {
                "label": channel.name,
                "color": (channel.color or color).upper(),
                "active": True,
                "window": {"min": low, "max": high, "start": window[0], "end": window[1]},
            }
        )
    return described


def multiscale(
    name: str,
    axes: tuple[str, ...],
    levels: int,
    scales: Sequence[float | None],
    method: str,
    *,
    origins: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """Describe the levels of an image.

    Parameters
    ----------
    name
        Of the image.
    axes
        Names of its axes, the last two y and x.
    levels
        Number of levels.
    scales
        Size of a pixel along each axis at the finest level in µm or s, or None when not known.
    method
        How coarser levels were made.
    origins
        Place of the centre of the first pixel along axes in µm, as far as it is known.
    """
    described: list[dict[str, Any]] = []
    for axis, scale in zip(axes, scales, strict=True):
        if axis == "c":
            described.append({"name": "c", "type": "channel"})
            continue
        kind, unit = _UNITS[axis]
        # without a unit the scale of 1 that the format asks for claims nothing
        described.append(
            {"name": axis, "type": kind} | ({"unit": unit} if scale is not None else {})
        )
    base = [1.0 if scale is None else float(scale) for scale in scales]
    known = {axis: place for axis, place in (origins or {}).items() if place is not None}
    origin = [known.get(axis, 0.0) for axis in axes] if known else None
    datasets = [dataset(base, level, origin) for level in range(levels)]
    how: dict[str, Any] = {
        "description": f"each level is the {method} of the one before",
        "method": "polystore",
    }
    # a translation has a number for every axis, also where nothing is known
    if known and (unplaced := [axis for axis in ("z", "y", "x") if axis in set(axes) - set(known)]):
        how["unplaced"] = unplaced
    return {
        "name": name,
        "axes": described,
        "datasets": datasets,
        "type": method,
        "metadata": how,
    }


def unplaced_axes(described: object) -> frozenset[str]:
    """Name the axes whose place is not known, although the translation has a number for them.

    Parameters
    ----------
    described
        What `multiscale` gives, or what is in its place in a document.
    """
    how = described.get("metadata") if isinstance(described, dict) else None
    names = how.get("unplaced") if isinstance(how, dict) else None
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str))


def dataset(
    base: Sequence[float], level: int, origin: Sequence[float] | None = None
) -> dict[str, Any]:
    """Describe one level.

    Parameters
    ----------
    base
        Size of a pixel of the finest level along each axis, the last two y and x.
    level
        Its number and path; 0 is the finest.
    origin
        Place of the first pixel of the finest level along each axis; None for one nobody knows.
    """
    factor = 2**level
    scale = [*base[:-2], base[-2] * factor, base[-1] * factor]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if level or origin is not None:
        shift = (factor - 1) / 2
        *leading, y, x = (0.0,) * len(base) if origin is None else origin
        moved = [*leading, y + base[-2] * shift, x + base[-1] * shift]
        transforms.append({"type": "translation", "translation": moved})
    return {"path": str(level), "coordinateTransformations": transforms}


def micrometers(scale: float | None, unit: str | None) -> float | None:
    """Turn a length into µm; None where it has no unit that is known."""
    return _converted(scale, _UM.get(unit or ""))


def length_um(value: float, unit: str | None) -> float | None:
    """Turn a place, which may be 0 or less, into µm; None where it has no unit that is known."""
    factor = _UM.get(unit or "")
    return None if factor is None else value * factor


def seconds(scale: float | None, unit: str | None) -> float | None:
    """Turn a time into s; None where it has no unit that is known."""
    return _converted(scale, _S.get(unit or ""))


def _converted(scale: float | None, factor: float | None) -> float | None:
    return None if scale is None or factor is None or scale <= 0 else scale * factor


def _window(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    known = [pair for pair in ranges if np.isfinite(pair).all()]
    if not known:
        return (0.0, 1.0)
    low, high = min(pair[0] for pair in known), max(pair[1] for pair in known)
    return (low, high if high > low else low + 1.0)


def _dtype_range(dtype: np.dtype[Any], window: tuple[float, float]) -> tuple[float, float]:
    if dtype.kind == "f":
        return (min(0.0, window[0]), max(1.0, window[1]))
    limits = np.iinfo(dtype)
    return (float(limits.min), float(limits.max))
