"""Skeletons of masks as graphs of pixels: lengths, ends, branchings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

__all__ = ["Skeleton", "without_spurs"]

_SMOOTHINGS = 5
"""Rounds after which the steps of a line on the grid are gone, and its bends are not."""
_ROUNDS = 3
"""Times that spurs are taken off; what one leaves over may be another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """The pixels of a skeleton, and which follow each other.

    Attributes
    ----------
    y, x
        Of each pixel; shape (pixels,).
    first, second
        Ends of each edge; shape (edges,). A diagonal edge is left out where two straight ones go
        round the corner.
    length_um
        Of each edge, along the smoothed line.
    degree
        Edges of each pixel.
    """

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    length_um: NDArray[np.float64]
    degree: NDArray[np.intp]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], pixel_um: tuple[float, float]) -> Skeleton:
        """Read a mask that is one pixel thin.

        Notes
        -----
        Steps on the grid overrate a line between two directions of it by up to 8 %. So places are
        averaged with those before and after, ends and branchings left where they are, and lengths
        are measured between the smoothed places.
        """
        y, x = np.nonzero(mask)
        first, second = _edges(mask, y, x)
        degree = np.bincount(np.concatenate([first, second]), minlength=y.size)
        places = np.stack([y * pixel_um[0], x * pixel_um[1]], axis=1)
        inner = degree == 2
        for _ in range(_SMOOTHINGS):
            beside = np.zeros_like(places)
            for axis in (0, 1):
                beside[:, axis] = np.bincount(
                    np.concatenate([first, second]),
                    weights=np.concatenate([places[second, axis], places[first, axis]]),
                    minlength=y.size,
                )
            places[inner] = places[inner] / 2 + beside[inner] / 4
        length = np.hypot(*(places[first] - places[second]).T)
        return cls(y=y, x=x, first=first, second=second, length_um=length, degree=degree)

    def graph(self) -> csr_array:
        """Give the lengths between pixels as a matrix."""
        from scipy.sparse import coo_array

        size = self.y.size
        # A length of 0 would be no edge.
        lengths = np.maximum(self.length_um, 1e-9)
        return coo_array((lengths, (self.first, self.second)), shape=(size, size)).tocsr()

    def parts(self, kept: NDArray[np.bool_]) -> tuple[int, NDArray[np.int32]]:
        """Give how many connected parts some of the pixels make, and the part of each pixel.

        Parameters
        ----------
        kept
            The pixels that count; each of the others is -1.
        """
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        rows = np.cumsum(kept) - 1
        of = kept[self.first] & kept[self.second]
        count = int(np.count_nonzero(kept))
        edges = (rows[self.first[of]], rows[self.second[of]])
        matrix = coo_array((np.ones(edges[0].size), edges), shape=(count, count))
        number, labelled = connected_components(matrix, directed=False)
        result = np.full(kept.size, -1, np.int32)
        result[kept] = labelled
        return int(number), result

    def branchings(self) -> tuple[int, NDArray[np.int32]]:
        """Give how many places there are where three lines or more meet, and that of each pixel."""
        return self.parts(self.degree >= 3)


def without_spurs(
    mask: NDArray[np.bool_],
    least_um: float,
    pixel_um: tuple[float, float],
    kept: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Thin a mask and take off branches, and whole pieces, that are too short.

    Parameters
    ----------
    mask
        Shape (y, x), of any thickness.
    least_um
        Shorter branches with an open end go.
    pixel_um
        Size of a pixel (y, x) in µm.
    kept
        Where an end is not open; shape (y, x).

    Returns
    -------
    NDArray[np.bool_]
        Shape (y, x), one pixel thin.
    """
    from skimage.morphology import skeletonize

    thin: NDArray[np.bool_] = skeletonize(mask)  # type: ignore[no-untyped-call]  # skimage's
    for _ in range(_ROUNDS):
        skeleton = Skeleton.of(thin, pixel_um)
        if skeleton.y.size == 0:
            return thin
        gone = _spurs(skeleton, least_um, kept[skeleton.y, skeleton.x])
        if not gone.any():
            break
        thin[skeleton.y[gone], skeleton.x[gone]] = False
        thin = skeletonize(thin)  # type: ignore[no-untyped-call]  # skimage's
    return thin


def _spurs(skeleton: Skeleton, least_um: float, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say which pixels are of branches or pieces that are too short."""
    meets = skeleton.degree >= 3
    count, branch = skeleton.parts(~meets)
    size = max(count, 1)
    length, joins = np.zeros(size), np.zeros(size, np.intp)
    for one, other in ((skeleton.first, skeleton.second), (skeleton.second, skeleton.first)):
        inside = ~meets[one]
        # Half an edge from each of its ends; a whole one where the other end is a branching.
        part = skeleton.length_um[inside] * np.where(meets[other[inside]], 1.0, 0.5)
        length += np.bincount(branch[one[inside]], weights=part, minlength=size)
        joins += np.bincount(branch[one[inside & meets[other]]], minlength=size)
    open_end = (skeleton.degree <= 1) & ~kept
    ends = np.bincount(branch[open_end], minlength=size)
    held = np.bincount(branch[kept & ~meets], minlength=size)
    short = (length < least_um) & (ends > 0) & (joins > 0) & (held == 0)
    pieces, piece = skeleton.parts(np.ones(skeleton.y.size, bool))
    of_piece = np.bincount(
        piece[skeleton.first], weights=skeleton.length_um, minlength=max(pieces, 1)
    )
    gone = of_piece[piece] < least_um
    gone[~meets] |= short[branch[~meets]]
    return gone


def _edges(
    mask: NDArray[np.bool_], y: NDArray[np.intp], x: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give which pixels of a mask follow each other, by their places in the list of them."""
    row = np.full((mask.shape[0] + 2, mask.shape[1] + 2), -1, np.intp)
    row[y + 1, x + 1] = np.arange(y.size)
    first: list[NDArray[np.intp]] = []
    second: list[NDArray[np.intp]] = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = row[y + 1 + dy, x + 1 + dx]
        there = other >= 0
        if dy and dx:
            there &= (row[y + 1 + dy, x + 1] < 0) & (row[y + 1, x + 1 + dx] < 0)
        first.append(np.flatnonzero(there))
        second.append(other[there])
    return np.concatenate(first), np.concatenate(second)
