"""Outlines of objects in one plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Regions"]


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Closed polygons, one after the other.

    Attributes
    ----------
    vertices
        Corners of all polygons, float32, shape (corners, 2), columns y and x in pixels.
    offsets
        Where each polygon starts in `vertices`, and the end; int64, shape (regions + 1,).
    labels
        Number of the object that each polygon outlines; int64, shape (regions,).

    Raises
    ------
    PayloadError
        If shapes do not agree or offsets do not rise from 0 to the number of corners.
    """

    vertices: NDArray[np.float32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        vertices = _read_only(self.vertices, np.float32)
        offsets = _read_only(self.offsets, np.int64)
        labels = _read_only(self.labels, np.int64)
        if vertices.ndim != 2 or vertices.shape[1] != 2:
            raise PayloadError(f"vertices have to be of shape (n, 2), not {vertices.shape}")
        if labels.ndim != 1 or offsets.shape != (len(labels) + 1,):
            raise PayloadError(
                f"{labels.shape} labels need one offset more than there are labels, "
                f"not {offsets.shape}"
            )
        if offsets[0] != 0 or offsets[-1] != len(vertices) or bool(np.any(np.diff(offsets) < 0)):
            raise PayloadError(
                f"offsets have to rise from 0 to the {len(vertices)} vertices there are"
            )
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "labels", labels)

    @classmethod
    def from_polygons(
        cls, polygons: Sequence[ArrayLike], labels: ArrayLike | None = None
    ) -> Regions:
        """Put polygons together.

        Parameters
        ----------
        polygons
            Corners of each, shape (corners, 2), columns y and x in pixels.
        labels
            Number of each object, shape (polygons,); 1, 2, 3 … if not given.

        Raises
        ------
        PayloadError
            If a polygon is of another shape, or labels are not as many as polygons.
        """
        parts = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
        for number, part in enumerate(parts):
            if part.ndim != 2 or part.shape[1] != 2:
                raise PayloadError(f"polygon {number} has to be (corners, 2), not {part.shape}")
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        vertices = np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.float32)
        numbers = np.arange(1, len(parts) + 1) if labels is None else np.asarray(labels)
        return cls(vertices, offsets, numbers.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for start, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.vertices[start:end]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regions):
            return NotImplemented
        return (
            np.array_equal(self.vertices, other.vertices)
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.labels, other.labels)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash, so neither has this


def _read_only(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    view = np.asarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view
