"""Where the tiles of a well really lie, with a confidence for each pair of neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._finite import finite
from openhcs.functions._match import LEAST_STRIP_PX, Strip, match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["NEAR_PX", "Alignment", "Pair", "PairStatus", "align", "neighbours", "solve"]

_LEAST_OVERLAP_PX = 20
_TEXTURE = 1.15
"""Strips whose Laplacian has less energy than this multiple of the noise's hold no texture."""
NEAR_PX = 24
"""How far overlaps are searched first, and all that most stages need."""
_STAGE_WEIGHT = 0.01
_ROUNDS = 5
_HUBER_PX = 1.0


class PairStatus(StrEnum):
    """What became of a pair of neighbouring tiles."""

    ACCEPTED = "accepted"
    """Measured, and used with the weight of its correlation."""
    REJECTED_NCC = "rejected-ncc"
    """The best correlation is too low; in the wide search, that of one half of the overlap."""
    REJECTED_SHIFT = "rejected-shift"
    """The best shift is farther from the stage than allowed."""
    AMBIGUOUS = "ambiguous"
    """Two shifts correlate nearly as well."""
    EMPTY = "empty"
    """The overlap holds nothing but noise, or a tile is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two neighbouring tiles and the shift between them.

    Attributes
    ----------
    first, second
        Indices of the tiles; the second lies to the right of the first, or below it.
    shift_px
        (y, x) by which the second lies farther from the first than the stage says; NaN where
        nothing was measured.
    ncc
        Normalised cross-correlation at that shift, -1 to 1; NaN where nothing was measured.
    status
        Whether the shift is used.
    """

    first: int
    second: int
    shift_px: tuple[float, float]
    ncc: float
    status: PairStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Positions of tiles and how they were found.

    Attributes
    ----------
    displacement_px
        Each tile's (y, x) away from where the stage says, shape (n, 2), float64; mean 0 over
        tiles that hang together.
    pairs
        All pairs of neighbours.
    residual_px
        Distance between measured and solved shift of each pair, shape (pairs,); NaN where nothing
        was accepted.
    aligned
        Whether a tile takes part in an accepted pair, shape (n,).
    verdict
        ``single``; ``aligned`` when accepted pairs connect all tiles; ``partly`` when they connect
        some; ``stage-only`` when there are none.
    """

    displacement_px: NDArray[np.float64]
    pairs: tuple[Pair, ...]
    residual_px: NDArray[np.float64]
    aligned: NDArray[np.bool_]
    verdict: str

    @property
    def accepted_fraction(self) -> float:
        """Share of the pairs that are accepted; NaN without pairs."""
        if not self.pairs:
            return float("nan")
        accepted = sum(pair.status is PairStatus.ACCEPTED for pair in self.pairs)
        return accepted / len(self.pairs)

    @property
    def residual_95_px(self) -> float:
        """95 % quantile of the residuals of accepted pairs; NaN when there are none."""
        known = self.residual_px[np.isfinite(self.residual_px)]
        return float(np.quantile(known, 0.95)) if known.size else float("nan")


def align(
    tiles: Sequence[NDArray[Any] | None],
    stage_px: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    max_shift_px: tuple[float, float],
    least_ncc: float = 0.3,
) -> Alignment:
    """Find how far each tile lies from where the stage says.

    Parameters
    ----------
    tiles
        Pixels (y, x) of one channel, all of one shape; None where a tile is missing.
    stage_px
        (y, x) of each tile's first pixel according to the stage, shape (n, 2); finite.
    shape
        (y, x) of the tiles.
    max_shift_px
        Largest believable (y, x) between measured and stage difference of two tiles.
    least_ncc
        Correlation below which a shift is not believed, 0 to 1.

    Notes
    -----
    Only overlaps are transformed, never whole tiles: enlarged by 24 px at first. Where pairs found
    that far connect all tiles, that is all; it takes 14 ms or less per 1080 by 1080 px tile at 10 %
    overlap. Else pairs of tiles side by side that were refused, or in which one half of the overlap
    correlates alone, or that the stage keeps apart, but not so far that they could not overlap, are
    searched as far as `max_shift_px`, and both halves have to correlate.
    Overlaps without texture are not searched again, for there is nothing to find a shift by. That
    takes up to 40 ms per tile more.
    """
    near = (min(max_shift_px[0], NEAR_PX), min(max_shift_px[1], NEAR_PX))
    found = [
        _searched(tiles, stage_px, ends, near, least_ncc)
        for ends in neighbours(stage_px, shape, NEAR_PX)
    ]
    pairs = [pair for pair, _ in found]
    if near != max_shift_px and not _connected(pairs, len(stage_px)):
        known = {(pair.first, pair.second): n for n, pair in enumerate(pairs)}
        for ends in neighbours(stage_px, shape, math.ceil(max(max_shift_px))):
            n = known.get(ends)
            if n is None:
                apart = np.abs(stage_px[ends[1]] - stage_px[ends[0]]) - shape
                if np.all(apart <= np.asarray(max_shift_px) - _LEAST_OVERLAP_PX):
                    pairs.append(_searched(tiles, stage_px, ends, max_shift_px, least_ncc)[0])
            elif not found[n][1] and pairs[n].status is not PairStatus.EMPTY:
                again, sure = _searched(tiles, stage_px, ends, max_shift_px, least_ncc)
                if sure or pairs[n].status is not PairStatus.ACCEPTED:
                    pairs[n] = again
    return solve(pairs, stage_px)


def neighbours(
    stage_px: NDArray[np.float64], shape: tuple[int, int], pad_px: int
) -> list[tuple[int, int]]:
    """Pair up tiles that overlap by 20 px or more, each tile enlarged by the pad on all sides.

    Tiles that meet at a corner are paired only if they overlap by twice the pad in both
    directions: in less, what lies outside the overlap would outweigh it.

    Returns
    -------
    list of tuple
        Indices of two tiles; the second lies to the right of the first or, where they are one
        above the other, below it. So the order of the tiles does not matter.
    """
    size = np.asarray(shape, dtype=np.float64)
    found = []
    for i in range(len(stage_px)):
        for j in range(i + 1, len(stage_px)):
            between = stage_px[j] - stage_px[i]
            overlap = size - np.abs(between)
            if np.any(overlap + 2 * pad_px < _LEAST_OVERLAP_PX):
                continue
            if np.all(overlap < size / 2) and np.any(overlap < 2 * pad_px):
                continue
            dy, dx = between
            ahead = dx > 0 if abs(dx) > abs(dy) else dy > 0
            found.append((i, j) if ahead else (j, i))
    return found


def _unmeasured(first: int, second: int) -> Pair:
    nan = float("nan")
    return Pair(first=first, second=second, shift_px=(nan, nan), ncc=nan, status=PairStatus.EMPTY)


def _searched(
    tiles: Sequence[NDArray[Any] | None],
    stage_px: NDArray[np.float64],
    ends: tuple[int, int],
    reach_px: tuple[float, float],
    least_ncc: float,
) -> tuple[Pair, bool]:
    """Compare the overlapping strips of two tiles, enlarged by how far to search.

    The pair is accepted for sure if both halves of its overlap correlate, and has to be so where
    the search is wide.
    """
    first, second = ends
    one, two = tiles[first], tiles[second]
    if one is None or two is None:
        return _unmeasured(first, second), False
    between = stage_px[second] - stage_px[first]
    pad_px = max(NEAR_PX, math.ceil(max(reach_px)))
    cuts, origin = [], []
    for step, size in zip(np.rint(between).astype(int), one.shape, strict=True):
        start = int(np.clip(step - pad_px, 0, size))
        stop = int(np.clip(step + size + pad_px, 0, size))
        back = int(np.clip(-step - pad_px, 0, size))
        end = int(np.clip(size - step + pad_px, 0, size))
        cuts.append((slice(start, stop), slice(back, end)))
        origin.append(start - back)
    pixels = one[cuts[0][0], cuts[1][0]], two[cuts[0][1], cuts[1][1]]
    if min(pixels[0].shape) < LEAST_STRIP_PX:
        return _unmeasured(first, second), False
    strips = [Strip(finite(cut).astype(np.float32)) for cut in pixels]
    if min(strip.texture for strip in strips) < _TEXTURE:
        return _unmeasured(first, second), False
    found = match(
        strips[0],
        strips[1],
        expected=(float(between[0]) - origin[0], float(between[1]) - origin[1]),
        limit=reach_px,
    )
    if found is None:
        return _unmeasured(first, second), False
    shift = (
        origin[0] + found.shift_px[0] - float(between[0]),
        origin[1] + found.shift_px[1] - float(between[1]),
    )
    least = max(least_ncc, found.chance)
    correlation = min(found.ncc, found.half) if pad_px > NEAR_PX else found.ncc
    status = PairStatus.ACCEPTED
    if correlation <= least:
        status = PairStatus.REJECTED_NCC
    elif any(abs(s) > limit for s, limit in zip(shift, reach_px, strict=True)):
        status = PairStatus.REJECTED_SHIFT
    elif not found.unique:
        status = PairStatus.AMBIGUOUS
    pair = Pair(first=first, second=second, shift_px=shift, ncc=correlation, status=status)
    return pair, status is PairStatus.ACCEPTED and found.half > least


def solve(pairs: Sequence[Pair], stage_px: NDArray[np.float64]) -> Alignment:
    """Find the displacements that agree best with all pairs.

    Parameters
    ----------
    pairs
        Pairs of neighbours.
    stage_px
        (y, x) of each tile according to the stage, shape (n, 2).

    Notes
    -----
    Least squares weighted by the correlation, with five rounds of Huber's reweighting (1 px) that
    demote pairs which disagree with the others. A pair that is not accepted enters with weight
    0.01 as the median shift of the accepted pairs of its direction, so every tile has a place.
    """
    n = len(stage_px)
    displacement = np.zeros((n, 2))
    residual = np.full(len(pairs), np.nan)
    aligned = np.zeros(n, dtype=bool)
    accepted = np.array([pair.status is PairStatus.ACCEPTED for pair in pairs], dtype=bool)
    if not pairs or not accepted.any():
        verdict = "single" if n == 1 else "stage-only"
        return Alignment(
            displacement_px=displacement,
            pairs=tuple(pairs),
            residual_px=residual,
            aligned=aligned,
            verdict=verdict,
        )
    ends = np.array([(pair.first, pair.second) for pair in pairs])
    shifts = _with_stage(pairs, accepted, stage_px)
    weights = np.array(
        [pair.ncc if ok else _STAGE_WEIGHT for pair, ok in zip(pairs, accepted, strict=True)]
    )
    robust = weights.copy()
    for _ in range(_ROUNDS):
        displacement = _least_squares(ends, shifts, robust, n)
        misfit = displacement[ends[:, 1]] - displacement[ends[:, 0]] - shifts
        distance = np.hypot(misfit[:, 0], misfit[:, 1])
        robust = weights * np.minimum(1, _HUBER_PX / np.maximum(distance, _HUBER_PX))
    residual[accepted] = distance[accepted]
    aligned[ends[accepted].ravel()] = True
    together = _components(ends[accepted], n)
    return Alignment(
        displacement_px=displacement,
        pairs=tuple(pairs),
        residual_px=residual,
        aligned=aligned,
        verdict="aligned" if together.max() == 0 else "partly",
    )


def _with_stage(
    pairs: Sequence[Pair], accepted: NDArray[np.bool_], stage_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give every pair a shift: its own, or the median of the accepted ones of its direction."""
    shifts = np.array([pair.shift_px for pair in pairs], dtype=np.float64)
    directions = np.array([_direction(pair, stage_px) for pair in pairs])
    for direction in np.unique(directions[~accepted]):
        same = directions == direction
        known = shifts[same & accepted]
        shifts[same & ~accepted] = np.median(known, axis=0) if len(known) else 0.0
    return shifts


def _direction(pair: Pair, stage_px: NDArray[np.float64]) -> str:
    dy, dx = stage_px[pair.second] - stage_px[pair.first]
    if abs(dx) > 2 * abs(dy):
        return "right"
    if abs(dy) > 2 * abs(dx):
        return "down"
    return "down-right" if dx * dy > 0 else "up-right"


def _least_squares(
    ends: NDArray[np.intp], shifts: NDArray[np.float64], weights: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Solve for displacements of mean 0 in each connected part, shape (n, 2)."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    squared = np.square(weights)
    first, second = ends.T
    rows = np.concatenate([first, second, first, second])
    columns = np.concatenate([first, second, second, first])
    values = np.concatenate([squared, squared, -squared, -squared])
    normal = coo_array((values, (rows, columns)), shape=(n, n)).tocsc()
    right = np.zeros((n, 2))
    np.add.at(right, second, squared[:, None] * shifts)
    np.add.at(right, first, -squared[:, None] * shifts)
    parts = _components(ends, n)
    anchors = np.unique(parts, return_index=True)[1]
    free = np.setdiff1d(np.arange(n), anchors)
    solved = np.zeros((n, 2))
    solved[free] = splu(normal[free][:, free].tocsc()).solve(right[free])
    for part in range(len(anchors)):
        solved[parts == part] -= solved[parts == part].mean(axis=0)
    return solved


def _connected(pairs: Sequence[Pair], n: int) -> bool:
    """Say whether accepted pairs connect all tiles."""
    accepted = [(p.first, p.second) for p in pairs if p.status is PairStatus.ACCEPTED]
    return n < 2 or bool(_components(np.array(accepted, dtype=int).reshape(-1, 2), n).max() == 0)


def _components(ends: NDArray[np.intp], n: int) -> NDArray[np.int32]:
    """Give the number of the connected part of a graph that each node is in; shape (n,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1])
