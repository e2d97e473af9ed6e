"""The fields of a well as one image per channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._align import NEAR_PX, Alignment, align
from openhcs.functions._fuse import Blend, fuse, laid_out, mosaic_shape
from openhcs.functions._quantities import (  # noqa: TC001  # annotations are read when compiling
    Fraction,
    PositiveUm,
)
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelTiles, Columns, PlaneArray, Tile

__all__ = ["Stitched", "stitch"]

_MAX_SHIFT = 0.15
"""Part of a tile by which the stage may be wrong, where nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stitched:
    """What `stitch` gives.

    Attributes
    ----------
    image
        Mosaic (Y, X) of each channel, all of one shape, the pixel type of the tiles; 0 where no
        tile lies.
    stitch_pairs
        One row per pair of neighbouring tiles: ``first`` and ``second`` (fields), ``dy_px`` and
        ``dx_px`` (measured away from the stage), ``ncc``, ``residual_px`` after the solution, and
        ``status``.
    tiles
        One row per tile: ``field``; ``y_px`` and ``x_px`` of its first pixel on the mosaic;
        ``dy_px`` and ``dx_px`` away from the stage; ``placed`` (``aligned`` or ``stage-only``);
        ``channels``, in how many it is.
    stitch
        ``verdict`` (``aligned``, ``partly``, ``stage-only`` or ``single``), ``reference``,
        ``tiles``, ``pairs``, ``accepted_fraction``, ``residual_95_px``, ``covered_fraction``,
        ``tile_height_px`` and ``tile_width_px``, ``height_px`` and ``width_px`` of the mosaic, and
        ``origin_y_um`` and ``origin_x_um``: the centre of its first pixel from the well's centre,
        NaN where the stage says nothing.
    """

    image: Mapping[str, PlaneArray]
    stitch_pairs: Columns
    tiles: Columns
    stitch: Mapping[str, float | int | str]


@function(
    axes=Axes.CHANNEL_FIELDS,
    collapses=frozenset({"field"}),
    needs=frozenset({"pixel_um", "guide"}),
    version=3,
    outputs=(
        Output("image", Kind.IMAGE),
        Output("stitch_pairs", Kind.TABLE),
        Output("tiles", Kind.TABLE),
        Output("stitch", Kind.RECORD),
    ),
)
def stitch(
    channels: ChannelTiles,
    *,
    pixel_um: tuple[float, float],
    guide: ChannelTiles | None = None,
    reference: str | tuple[str, ...] | None = None,
    max_shift_um: PositiveUm | None = None,
    least_ncc: Fraction = 0.3,
    blend: Blend = "linear",
) -> Stitched:
    """Find where the fields of a well lie, and fuse them into one image per channel.

    Parameters
    ----------
    channels
        Tiles of one shape by channel name, with positions from the stage.
    pixel_um
        Size of a pixel (y, x) in µm.
    guide
        Channels with tiles on which positions are found; None for the reference in `channels`.
    reference
        Channel on which positions are found, for all channels, or several channels for the mean of
        them; None for the first one.
    max_shift_um
        Largest believable error of the stage between two tiles, above 0, at most half a tile;
        None for 15 % of the tile, and 24 px at least.
    least_ncc
        Correlation below which a measured shift is not believed, 0 to 1.
    blend
        Where tiles overlap: ``linear`` fades from one over to the other, in proportion to the
        distance to their edges, which hides seams; ``maximum`` takes each pixel from the tile whose
        edge is farthest away, which shows nothing twice where tiles do not quite fit, and leaves
        the noise as it is.

    Raises
    ------
    ValueError
        If a position is unknown and there is more than one tile, tiles differ in shape, a
        parameter is out of range, or the reference is not among the channels.

    Notes
    -----
    Positions are rounded to 0.01 px, so that what lies on whole pixels is not interpolated.
    The first channel is the reference, not the mean of all: a mean reads its channels twice, and
    blurs where they are shifted against each other. Fields that lack one of them have the mean of
    the others.
    Overlaps are searched 24 px beyond what the stage says. Only where pairs found so do not connect
    all tiles, those that were refused, or that rest on one half of their overlap, are searched up
    to `max_shift_um`; both halves have to correlate then, for the wider the search, the more looks
    alike by chance.
    A shift can be found if in truth tiles overlap by 16 px or more and there is structure in both
    halves of that. Tiles that the stage lets overlap by 10 % and that lie 15 % farther apart show
    nothing in common, and stay where the stage and their neighbours say.
    In a pipeline, those of a time point are found in the middle of its stack, so that all z lie
    on each other and have one size.
    Holds the tiles of the reference channel, or the mean of several, then those of one row of
    tiles at a time.
    """
    guide = guide or {}
    names = tuple(guide) if guide else _references(channels, reference)
    _check(pixel_um, max_shift_um, least_ncc)
    fields = _fields({**guide, **channels})
    centres_px = _centres_um(fields) / np.asarray(pixel_um, dtype=np.float64)
    known = _loaded({name: (guide or channels)[name] for name in names})
    height, width = shape = next(iter(known.values())).shape
    limits = [
        min(
            size / 2,
            max(NEAR_PX, _MAX_SHIFT * size) if max_shift_um is None else max_shift_um / step,
        )
        for size, step in zip(shape, pixel_um, strict=True)
    ]
    found = align(
        [known.get(field) for field in fields],
        centres_px,
        shape=(height, width),
        max_shift_px=(limits[0], limits[1]),
        least_ncc=least_ncc,
    )
    if guide or len(names) > 1:
        known.clear()
    placed = centres_px + found.displacement_px
    corner = placed.min(axis=0)
    positions = np.round(placed - corner, 2) if len(fields) > 1 else np.zeros((1, 2))
    canvas = mosaic_shape(positions, (height, width))
    at = {field: positions[n] for n, field in enumerate(fields)}
    image = {}
    for channel, tiles in channels.items():
        loads = [
            (lambda pixels=known[tile.field]: pixels)
            if (channel,) == names and not guide
            else tile.load
            for tile in tiles
        ]
        mosaic = fuse(
            loads,
            np.array([at[tile.field] for tile in tiles]),
            shape=(height, width),
            canvas=canvas,
            blend=blend,
        )
        image[channel] = mosaic.pixels
        if (channel,) == names:
            known.clear()
    shown = [tile.field for tiles in channels.values() for tile in tiles]
    count = np.array([shown.count(field) for field in fields])
    covered = laid_out(positions[count > 0], shape=(height, width), canvas=canvas)
    origin_um = (corner - (np.array(shape) - 1) / 2) * np.asarray(pixel_um)
    return Stitched(
        image=image,
        stitch_pairs=_pair_table(found, list(fields)),
        tiles=_tile_table(found, list(fields), positions, count),
        stitch={
            "verdict": found.verdict,
            "reference": " + ".join(names),
            "tiles": len(fields),
            "pairs": len(found.pairs),
            "accepted_fraction": found.accepted_fraction,
            "residual_95_px": found.residual_95_px,
            "covered_fraction": float(covered.mean()),
            "tile_height_px": height,
            "tile_width_px": width,
            "height_px": canvas[0],
            "width_px": canvas[1],
            "origin_y_um": float(origin_um[0]),
            "origin_x_um": float(origin_um[1]),
        },
    )


def _references(channels: ChannelTiles, reference: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if not any(channels.values()):
        message = "there are no tiles to stitch"
        raise ValueError(message)
    if reference is None:
        return (next(name for name in channels if channels[name]),)
    names = (reference,) if isinstance(reference, str) else tuple(dict.fromkeys(reference))
    if not names:
        message = "reference names no channel"
        raise ValueError(message)
    for name in names:
        if name not in channels or not channels[name]:
            message = f"reference channel {name!r} has no tiles; there are {', '.join(channels)}"
            raise ValueError(message)
    return names


def _loaded(channels: ChannelTiles) -> dict[int, NDArray[Any]]:
    """Give the pixels of each field: those of one channel, or the mean of several."""
    found: dict[int, NDArray[Any]] = {}
    counts: dict[int, int] = {}
    shape: tuple[int, ...] | None = None
    for name, tiles in channels.items():
        for tile in tiles:
            pixels = tile.load()
            shape = shape or pixels.shape
            if pixels.shape != shape:
                message = (
                    f"field {tile.field} is {pixels.shape} px in {name}, others are {shape} px"
                )
                raise ValueError(message)
            if len(channels) > 1:
                pixels = pixels.astype(np.float32)
            before = found.get(tile.field)
            found[tile.field] = pixels if before is None else before + pixels
            counts[tile.field] = counts.get(tile.field, 0) + 1
    if len(channels) > 1:
        for field, pixels in found.items():
            pixels /= counts[field]
    return found


def _check(
    pixel_um: tuple[float, float],
    max_shift_um: float | None,
    least_ncc: float,
) -> None:
    problems = []
    if not all(math.isfinite(size) and size > 0 for size in pixel_um):
        problems.append(f"pixel_um is {pixel_um}, expected two sizes above 0")
    if max_shift_um is not None and not max_shift_um > 0:
        problems.append(f"max_shift_um is {max_shift_um}, expected more than 0")
    if not 0 <= least_ncc <= 1:
        problems.append(f"least_ncc is {least_ncc}, expected 0 to 1")
    if problems:
        raise ValueError("; ".join(problems))


def _fields(channels: ChannelTiles) -> Mapping[int, Tile]:
    """Give one tile per field, over all channels, in the order of the fields."""
    seen: dict[int, Tile] = {}
    for tiles in channels.values():
        for tile in tiles:
            seen.setdefault(tile.field, tile)
    return dict(sorted(seen.items()))


def _centres_um(fields: Mapping[int, Tile]) -> NDArray[np.float64]:
    """Give (y, x) of the centre of each tile, shape (n, 2)."""
    centres = np.array([(tile.y_um, tile.x_um) for tile in fields.values()], dtype=np.float64)
    if len(fields) == 1 or np.isfinite(centres).all():
        return centres
    unknown = ", ".join(
        str(field) for field, at in zip(fields, centres, strict=True) if not np.isfinite(at).all()
    )
    message = (
        f"the stage position of field {unknown} is unknown; "
        "tiles are stitched from where the stage says they are"
    )
    raise ValueError(message)


def _pair_table(found: Alignment, fields: list[int]) -> Columns:
    pairs = found.pairs
    shifts = np.array([pair.shift_px for pair in pairs], dtype=np.float64).reshape(-1, 2)
    return {
        "first": np.array([fields[pair.first] for pair in pairs], dtype=np.int64),
        "second": np.array([fields[pair.second] for pair in pairs], dtype=np.int64),
        "dy_px": shifts[:, 0],
        "dx_px": shifts[:, 1],
        "ncc": np.array([pair.ncc for pair in pairs], dtype=np.float64),
        "residual_px": found.residual_px,
        "status": np.array([str(pair.status) for pair in pairs], dtype=np.str_),
    }


def _tile_table(
    found: Alignment,
    fields: list[int],
    positions: NDArray[np.float64],
    channels: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    return {
        "field": np.array(fields, dtype=np.int64),
        "y_px": positions[:, 0],
        "x_px": positions[:, 1],
        "dy_px": found.displacement_px[:, 0],
        "dx_px": found.displacement_px[:, 1],
        "placed": np.where(found.aligned, "aligned", "stage-only"),
        "channels": channels,
    }
