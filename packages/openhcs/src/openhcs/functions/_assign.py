"""Linear assignment of few candidates among many: who belongs to whom, or to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["assigned"]

_EACH = 1e-3
"""Added to every cost: a matrix with few entries has none where it is 0, and all whole matchings
have equally many, so that this changes none of them."""


def assigned(
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    costs: NDArray[np.float64],
    refusal: float,
) -> NDArray[np.intp]:
    """Choose pairs, each row and each column in one at most, so that the total cost is least.

    Parameters
    ----------
    rows, columns, costs
        The candidates; costs are 0 or more. Shape (candidates,).
    refusal
        What a row and a column cost together that stay alone, above 0: no pair that costs more is
        chosen.

    Returns
    -------
    NDArray[np.intp]
        The candidates that were chosen, ascending.

    Notes
    -----
    Jaqaman et al., Nature Methods 5 (2008) 695-702: the matrix of pairs is enlarged by a way out
    for each row and each column. Solved by the shortest augmenting paths of Jonker & Volgenant
    over the entries that there are (``scipy.sparse.csgraph.min_weight_full_bipartite_matching``).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if rows.size == 0:
        return np.zeros(0, np.intp)
    names, row = np.unique(rows, return_inverse=True)
    others, column = np.unique(columns, return_inverse=True)
    height, width = names.size, others.size
    alone = np.full(height + width, 0.5)
    first = np.concatenate([row, np.arange(height), height + np.arange(width), height + column])
    second = np.concatenate([column, width + np.arange(height), np.arange(width), width + row])
    entries = np.concatenate([costs / refusal, alone, np.zeros(row.size)]) + _EACH
    size = height + width
    matrix = coo_array((entries, (first, second)), shape=(size, size)).tocsr()
    taken_rows, taken_columns = min_weight_full_bipartite_matching(matrix)
    partner = np.full(size, -1)
    partner[taken_rows] = taken_columns
    return np.flatnonzero(partner[row] == column)
