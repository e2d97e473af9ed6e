"""Objects of one plane: points, lines, outlines and masks, each with its number and properties."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from polystore._dtypes import read_only
from polystore._errors import PayloadError
from polystore._tables import Table
from polystore.regions._region import KIND_CODES, Region, RegionKind, check_region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Overlap", "Regions"]

Overlap = Literal["error", "first", "last"]
"""Whose pixel it is where two objects lie over each other."""


_POINT, _LINE, _POLYGON, _RECTANGLE, _ELLIPSE, _MASK = range(len(KIND_CODES))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regions:
    """Objects of one plane, as columns: what belongs to one lies side by side.

    y and x are in pixels; (0, 0) is the centre of the upper left pixel, whose corners are at
    -0.5 and 0.5. Arrays are kept as read-only views, not as copies.

    Attributes
    ----------
    vertices
        Corners of all rings, float32, shape (corners, 2), columns y and x.
    offsets
        Where each ring starts in `vertices`, and the end; int64, shape (rings + 1,).
    rings
        Where each region starts in the list of rings, and the end; int64, shape (regions + 1,).
    kinds
        What each region is: its position in ``tuple(RegionKind)``; uint8, shape (regions,).
    labels
        Number of each object; int64, shape (regions,). Two regions may be of one object.
    bits
        Pixels of all masks: of each, row by row, eight to a byte, the first one highest, the last
        byte filled up with 0; uint8.
    properties
        One row for each region; columns with units. ``name``, ``t``, ``z`` and ``channel`` say
        what the region is called and which plane it belongs to.

    Raises
    ------
    PayloadError
        If shapes do not agree, offsets do not rise, corners are not finite or not as many as the
        kind has, or masks need another number of bytes than there are.
    """

    vertices: NDArray[np.float32]
    offsets: NDArray[np.int64]
    rings: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    labels: NDArray[np.int64]
    bits: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    properties: Table = field(default_factory=lambda: Table({}))

    def __post_init__(self) -> None:
        put = object.__setattr__
        labels = _array(self.labels, np.int64, "labels")
        offsets = _array(self.offsets, np.int64, "offsets")
        vertices = _array(self.vertices, np.float32, "vertices", ndim=2)
        rings = _array(self.rings, np.int64, "rings")
        kinds = _array(self.kinds, np.uint8, "kinds")
        if vertices.shape[1] != 2:
            raise PayloadError(f"vertices have to be of shape (n, 2), not {vertices.shape}")
        if len(rings) != len(labels) + 1 or len(kinds) != len(labels):
            raise PayloadError(
                f"{len(labels)} labels need as many kinds and one more of rings, not "
                f"{len(kinds)} and {len(rings)}"
            )
        _check_rising("offsets", offsets, len(vertices), "vertices")
        _check_rising("rings", rings, len(offsets) - 1, "offsets")
        if not np.isfinite(vertices).all():
            raise PayloadError("vertices have to be finite numbers")
        bits = _array(self.bits, np.uint8, "bits")
        if self.properties and self.properties.rows != len(labels):
            raise PayloadError(
                f"{len(labels)} regions need as many rows of properties, not {self.properties.rows}"
            )
        for name, value in (
            ("vertices", vertices),
            ("offsets", offsets),
            ("labels", labels),
            ("rings", rings),
            ("kinds", kinds),
            ("bits", bits),
        ):
            put(self, name, value)
        self._check_kinds()

    @classmethod
    def from_polygons(
        cls,
        polygons: Sequence[ArrayLike],
        labels: ArrayLike | None = None,
        *,
        properties: Table | None = None,
    ) -> Regions:
        """Put polygons together, each of one ring.

        Parameters
        ----------
        polygons
            Corners of each, shape (corners, 2), columns y and x in pixels.
        labels
            Number of each object, shape (polygons,); 1, 2, 3 … if not given.
        properties
            A row for each.

        Raises
        ------
        PayloadError
            If a polygon is of another shape, or labels are not as many as polygons.
        """
        parts = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
        for number, part in enumerate(parts):
            if part.ndim != 2 or part.shape[1] != 2:
                raise PayloadError(f"polygon {number} has to be (corners, 2), not {part.shape}")
        numbers = np.arange(1, len(parts) + 1) if labels is None else np.asarray(labels)
        return cls(
            vertices=_joined(parts),
            offsets=_ends([len(part) for part in parts]),
            rings=np.arange(len(parts) + 1),
            kinds=np.full(len(parts), _POLYGON, np.uint8),
            labels=numbers.astype(np.int64),
            properties=properties or Table({}),
        )

    @classmethod
    def from_regions(cls, regions: Iterable[Region], *, properties: Table | None = None) -> Regions:
        """Put regions of any kind together.

        Parameters
        ----------
        regions
            In their order.
        properties
            A row for each.

        Raises
        ------
        PayloadError
            If one is not what its kind says.
        """
        given = list(regions)
        for each in given:
            check_region(each)
        rings = [np.asarray(ring, dtype=np.float32) for each in given for ring in each.rings]
        masks = [np.packbits(each.mask) for each in given if each.mask is not None]
        return cls(
            vertices=_joined(rings),
            offsets=_ends([len(ring) for ring in rings]),
            rings=_ends([len(each.rings) for each in given]),
            kinds=np.array([KIND_CODES.index(each.kind) for each in given], dtype=np.uint8),
            labels=np.array([int(each.label) for each in given], dtype=np.int64),
            bits=np.concatenate(masks) if masks else np.zeros(0, np.uint8),
            properties=properties or Table({}),
        )

    @classmethod
    def from_labels(cls, image: NDArray[Any]) -> Regions:
        """Outline the objects of a label image exactly, along the edges of their pixels.

        Parameters
        ----------
        image
            Integers of shape (height, width); 0 is background.

        Returns
        -------
        Regions
            A polygon for each object, in the order of their numbers. Pieces and holes are rings;
            pieces that touch at a corner only are apart. The first corner of a ring is its
            topmost, of those the leftmost; outlines run clockwise as the image is seen, holes
            the other way.

        Raises
        ------
        PayloadError
            If the image is not of two axes and integers from 0 on.

        Notes
        -----
        Time goes with the pixels and with the corners of objects, whatever their number.
        """
        from polystore.regions._outlines import outline

        rings = outline(image)
        return cls(
            vertices=rings.vertices,
            offsets=rings.offsets,
            rings=rings.starts,
            kinds=np.full(len(rings.labels), _POLYGON, np.uint8),
            labels=rings.labels,
        )

    def to_labels(
        self,
        shape: tuple[int, int],
        dtype: DTypeLike = np.uint32,
        *,
        overlap: Overlap = "error",
    ) -> NDArray[Any]:
        """Paint the regions: the label image of which `from_labels` made them, bit for bit.

        A pixel belongs to a polygon, a rectangle or an ellipse when its centre does; a centre on
        an upper or left edge is inside, on a lower or right edge outside. Points take the pixel
        that they are in, lines one pixel for each step along their longer side. What lies beyond
        the image is left out.

        Parameters
        ----------
        shape
            Height and width.
        dtype
            Integers that hold all labels.
        overlap
            Whose pixel it is where regions of different labels overlap: ``"first"`` or
            ``"last"`` in their order, or nobody's: ``"error"``.

        Raises
        ------
        PayloadError
            If a label is not from 1 to what `dtype` holds, or regions overlap and may not.
        """
        from polystore.regions._filling import fill

        return fill(self, shape, np.dtype(dtype), overlap)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays and of the properties."""
        arrays = (self.vertices, self.offsets, self.rings, self.kinds, self.labels, self.bits)
        return sum(each.nbytes for each in arrays) + self.properties.nbytes

    def take(self, numbers: ArrayLike) -> Regions:
        """Give some regions, with their properties.

        Parameters
        ----------
        numbers
            Positions, or truth values of shape (regions,).
        """
        chosen = np.asarray(numbers)
        if chosen.dtype.kind == "b":
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.intp)
        regions = list(self)
        properties = self.properties.take(chosen) if self.properties else Table({})
        return Regions.from_regions(
            (regions[number] for number in chosen.tolist()), properties=properties
        )

    def copy(self) -> Regions:
        """Give the same regions in memory of their own."""
        return Regions(
            vertices=self.vertices.copy(),
            offsets=self.offsets.copy(),
            rings=self.rings.copy(),
            kinds=self.kinds.copy(),
            labels=self.labels.copy(),
            bits=self.bits.copy(),
            properties=self.properties.copy(),
        )

    @property
    def are_plain(self) -> bool:
        """Whether all are polygons of one ring, without properties."""
        return (
            bool((self.kinds == _POLYGON).all())
            and len(self.offsets) == len(self.rings)
            and bool((np.diff(self.rings) == 1).all())
            and not self.properties
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Region]:
        edges = self.offsets.tolist()
        ends = self.rings.tolist()
        byte = 0
        for number, (kind, label) in enumerate(
            zip(self.kinds.tolist(), self.labels.tolist(), strict=True)
        ):
            rings = tuple(
                self.vertices[edges[ring] : edges[ring + 1]]
                for ring in range(ends[number], ends[number + 1])
            )
            mask = None
            if kind == _MASK:
                mask, byte = self._mask(rings[0], byte)
            yield Region(kind=KIND_CODES[kind], label=label, rings=rings, mask=mask)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regions):
            return NotImplemented
        return self.properties == other.properties and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("vertices", "offsets", "rings", "kinds", "labels", "bits")
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash, so neither has this

    def _mask(self, box: NDArray[np.float32], byte: int) -> tuple[NDArray[np.bool_], int]:
        height, width = (box[1] - box[0]).astype(int).tolist()
        end = byte + -(-height * width // 8)
        mask = np.unpackbits(self.bits[byte:end], count=height * width).view(np.bool_)
        mask.flags.writeable = False
        return mask.reshape(height, width), end

    def _check_kinds(self) -> None:
        kinds, count = self.kinds, np.diff(self.rings)
        if len(kinds) and kinds.max() >= len(KIND_CODES):
            raise PayloadError(f"there is no kind of region {kinds.max()}")
        single = kinds != _POLYGON
        if not single.any():
            if len(self.bits):
                raise PayloadError(f"{len(self.bits)} bytes of masks, and no mask")
            return
        if not (count[single] == 1).all():
            raise PayloadError("only polygons may have more rings than one, or none")
        corners = np.zeros(len(kinds), np.int64)
        corners[single] = np.diff(self.offsets)[self.rings[:-1][single]]
        for kind, least, most in (
            (_POINT, 1, None),
            (_LINE, 2, None),
            (_RECTANGLE, 4, 4),
            (_ELLIPSE, 4, 4),
            (_MASK, 2, 2),
        ):
            there = corners[kinds == kind]
            if len(there) and (there.min() < least or (most and there.max() > most)):
                what = f"{least}" if most else f"at least {least}"
                raise PayloadError(f"a {KIND_CODES[kind]} has {what} corners")
        for kind in (_RECTANGLE, _ELLIPSE):
            _check_rectangles(KIND_CODES[kind], self._corners_of(kind, 4))
        _check_boxes(self._corners_of(_MASK, 2), len(self.bits))

    def _corners_of(self, kind: int, corners: int) -> NDArray[np.float64]:
        first = self.offsets[self.rings[:-1][self.kinds == kind]]
        found: NDArray[np.float64] = self.vertices[first[:, None] + np.arange(corners)].astype(
            np.float64
        )
        return found


def _array(values: ArrayLike, dtype: type[np.generic], what: str, ndim: int = 1) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.ndim != ndim:
        raise PayloadError(f"{what} have to be numbers of {ndim} axes, not {array.dtype}")
    return read_only(np.asarray(array, dtype=dtype))


def _check_rising(what: str, ends: NDArray[np.int64], last: int, of: str) -> None:
    if not len(ends) or ends[0] != 0 or ends[-1] != last or bool(np.any(ends[1:] < ends[:-1])):
        raise PayloadError(f"{what} have to rise from 0 to the {last} {of} there are")


def _check_rectangles(kind: RegionKind, corners: NDArray[np.float64]) -> None:
    """Refuse corners that are no rectangle's, leaving room for the rounding of float32."""
    a, b, c, d = (corners[:, number] for number in range(4))
    along, across = b - a, d - a
    size = np.abs(along).max(axis=1) + np.abs(across).max(axis=1) if len(a) else np.zeros(0)
    room = 1e-3 * size + 8 * np.finfo(np.float32).eps * np.abs(corners).max(axis=(1, 2), initial=0)
    skew = np.abs((along * across).sum(axis=1))
    if (np.abs(a + c - b - d).max(axis=1, initial=0) > room).any() or (skew > room * size).any():
        raise PayloadError(f"the corners of a {kind} have to be those of a rectangle, in order")


def _check_boxes(boxes: NDArray[np.float64], nbytes: int) -> None:
    sides = boxes[:, 1] - boxes[:, 0]
    if (boxes * 2 % 2 != 1).any() or (sides < 1).any():
        raise PayloadError("a mask's corners have to be corners of pixels, the upper left first")
    areas = sides.prod(axis=1)
    if (areas > 8.0 * nbytes).any() or int(np.ceil(areas / 8).sum()) != nbytes:
        raise PayloadError(f"masks of {areas.sum():.0f} pixels do not fill {nbytes} bytes")


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.float32)


def _ends(lengths: list[int]) -> NDArray[np.int64]:
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends
