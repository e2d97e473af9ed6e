"""What a motion will need next, the likeliest first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from polystore.tiles._grid import Rect, Tile, TileGrid

__all__ = ["Motion", "Wanted", "WantedTile"]

_DIRECTIONS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plane that a motion is expected to reach.

    Attributes
    ----------
    index
        Its place on the axis.
    likelihood
        0 to 1.
    """

    index: int
    likelihood: float


@dataclass(frozen=True, slots=True)
class WantedTile:
    """A tile that a motion is expected to bring into view.

    Attributes
    ----------
    tile
        Which one.
    likelihood
        0 to 1.
    """

    tile: Tile
    likelihood: float


@dataclass(slots=True)
class _Axis:
    position: float
    at: float
    velocities: tuple[float, float] = (0.0, 0.0)


class Motion:
    """Where something that moves along axes will be. Not safe for threads.

    A velocity is the mean of those seen, of which half the weight is on the last 50 ms, and
    another one with half of its weight on the last second: the first is a turn of the wheel just
    now, the second a habit. Either may go on. It ends in each moment with the same probability,
    half of all motions within a quarter of the horizon, and nobody looks beyond the horizon.

    Parameters
    ----------
    clock
        Gives the time in s.
    half_lives_s
        Of the two velocities.
    horizon_s
        What is not reached within this time is not wanted.
    least
        Nor is what is less likely than this.
    most
        At most so many in each direction.

    Raises
    ------
    ValueError
        If a number is not above 0.

    Notes
    -----
    Half-lives, horizon and bounds are those of neuroglancer's prefetching.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        half_lives_s: tuple[float, float] = (0.05, 1.0),
        horizon_s: float = 2.0,
        least: float = 0.05,
        most: int = 32,
    ) -> None:
        if not min(*half_lives_s, horizon_s, least, most) > 0:
            raise ValueError(f"not above 0: {(half_lives_s, horizon_s, least, most)}")
        self._clock = clock
        self._half_lives_s = half_lives_s
        self._horizon_s = horizon_s
        self._least = least
        self._most = most
        self._axes: dict[str, _Axis] = {}

    def moved(self, axis: str, position: float) -> None:
        """Note where it is on an axis now, in pixels or planes.

        Raises
        ------
        ValueError
            If the position is not finite.
        """
        if not math.isfinite(position):
            raise ValueError(f"a position is a finite number, not {position}")
        now = self._clock()
        there = self._axes.get(axis)
        if there is None:
            self._axes[axis] = _Axis(position, now)
            return
        if now <= there.at:
            # of two positions at one time the later one counts; what it took is not known
            there.position = position
            return
        there.velocities = self._velocities_at(there, now, position)
        there.position, there.at = position, now

    def jumped(self, axis: str, position: float) -> None:
        """Note that it is elsewhere without having moved there, as after a click on a slider."""
        self._axes[axis] = _Axis(position, self._clock())

    def velocities(self, axis: str) -> tuple[float, float]:
        """Velocities now, per s: of the last 50 ms and of the last second."""
        there = self._axes.get(axis)
        if there is None:
            return (0.0, 0.0)
        return self._velocities_at(there, self._clock(), there.position)

    def likelihood(self, axis: str, distance: float) -> float:
        """Say how likely it is to go so far along an axis, to either side, within the horizon."""
        if distance == 0:
            return 1.0
        likelihood = 0.0
        for velocity in self.velocities(axis):
            if velocity * distance > 0:
                needed_s = distance / velocity
                if needed_s <= self._horizon_s:
                    likelihood += 0.5 ** (4 * needed_s / self._horizon_s) / 2
        return likelihood

    def planes(self, axis: str, count: int) -> tuple[Wanted, ...]:
        """List the planes of an axis that will be wanted, the likeliest first.

        Parameters
        ----------
        axis
            As ``"z"``.
        count
            How many planes it has.

        Returns
        -------
        tuple
            Without the present one; at most 32 to each side.
        """
        there = self._axes.get(axis)
        if there is None:
            return ()
        here = round(there.position)
        found = []
        for side in (-1, 1):
            for step in range(1, self._most + 1):
                index = here + side * step
                likelihood = self.likelihood(axis, side * step)
                if not 0 <= index < count or likelihood < self._least:
                    break
                found.append(Wanted(index, likelihood))
        return tuple(sorted(found, key=lambda each: (-each.likelihood, abs(each.index - here))))

    def tiles(
        self, grid: TileGrid, view: Rect, level: int = 0, *, axes: tuple[str, str] = ("y", "x")
    ) -> tuple[WantedTile, ...]:
        """List the tiles that will come into view, the likeliest first.

        Parameters
        ----------
        grid
            How the picture is cut through which the view moves.
        view
            What is seen now, in pixels of the level.
        level
            Of the tiles.
        axes
            Names of the axes of the view's top and left, which move in pixels of the level.

        Returns
        -------
        tuple
            Those that are not seen now; at most 32 in each direction.
        """
        rows, columns = grid.counts(level)
        least = self._least
        # down and across by themselves: each row and column needs one likelihood
        down = [self._span(axes[0], view.y, view.bottom, at, grid.tile_px) for at in range(rows)]
        across = [
            self._span(axes[1], view.x, view.right, at, grid.tile_px) for at in range(columns)
        ]
        directions: list[list[WantedTile]] = [[] for _ in range(_DIRECTIONS)]
        for tile in grid.tiles(level):
            (up_p, up_side), (across_p, across_side) = down[tile.row], across[tile.column]
            likelihood = up_p * across_p
            if likelihood < least or not (up_side or across_side):
                continue
            # a tile that lies aslant counts to where it is harder to get
            side = up_side if up_side and (not across_side or up_p <= across_p) else across_side
            first = 0 if side is up_side and up_side else 2
            directions[first + (side > 0)].append(WantedTile(tile, likelihood))
        found = []
        for direction in directions:
            direction.sort(key=lambda each: (-each.likelihood, each.tile))
            found += direction[: self._most]
        return tuple(sorted(found, key=lambda each: (-each.likelihood, each.tile)))

    def _span(self, axis: str, first: int, end: int, at: int, tile_px: int) -> tuple[float, int]:
        """Say how likely a row or column of tiles is seen, and to which side it lies."""
        if (at + 1) * tile_px <= first:
            return self.likelihood(axis, (at + 1) * tile_px - 1 - first), -1
        if at * tile_px >= end:
            return self.likelihood(axis, at * tile_px + 1 - end), 1
        return 1.0, 0

    def _velocities_at(self, there: _Axis, now: float, position: float) -> tuple[float, float]:
        elapsed = now - there.at
        if elapsed <= 0:
            return there.velocities
        seen = (position - there.position) / elapsed
        before = there.velocities
        faded = [0.5 ** (elapsed / half) for half in self._half_lives_s]
        return (
            seen + faded[0] * (before[0] - seen),
            seen + faded[1] * (before[1] - seen),
        )
