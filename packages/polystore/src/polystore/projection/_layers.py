"""What a viewer has to do to show what has come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from polystore._components import ComponentValue
    from polystore._payload import Payload
    from polystore.projection._grouping import LayerKey

__all__ = ["Axis", "LayerUpdate", "Placement", "Resize"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A leading axis of a layer.

    Attributes
    ----------
    name
        Of the component.
    values
        Value at each position, in order; empty where the layer has no such component, which is
        one position then.
    """

    name: str
    values: tuple[ComponentValue, ...]

    @property
    def length(self) -> int:
        """Number of positions, at least 1."""
        return max(1, len(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """What was shown before takes other places in a larger array.

    Attributes
    ----------
    shape
        Of the array before.
    places
        For each leading axis, the new position of each old one. Rows and columns stay where they
        are: what is added is below and to the right, and is 0.

    Notes
    -----
    ``new[numpy.ix_(*places)][..., : shape[-2], : shape[-1]] = old`` is what happens; written as
    an assignment, ``new[(*numpy.ix_(*places), slice(shape[-2]), slice(shape[-1]))] = old``.
    """

    shape: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A payload and its place in the layer.

    Attributes
    ----------
    index
        Position on each leading axis.
    payload
        One plane, or the points, regions, rows or text of one plane.
    padded
        Whether an image is smaller than the layer: what it does not cover is to be 0.
    """

    index: tuple[int, ...]
    payload: Payload
    padded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUpdate:
    """What to do with one layer: make it if `created`, then `resize`, then set `placements`.

    Attributes
    ----------
    key
        Identity of the layer; ``str(key)`` is the same in every run.
    created
        Whether this is the first update of the layer.
    name
        For people, different from that of all other layers.
    axes
        Leading axes, the same names in the same order for all layers.
    shape
        Positions on each leading axis; then, for images and labels, height and width.
    dtype
        Of images and labels, able to hold all planes so far; None for other kinds.
    resize
        Where planes of earlier updates go, or None if shape and type are as before.
    placements
        In the order to set them; each index once.
    pixel_um
        Height and width of a pixel in µm, or None when it is not known.
    contrast_limits
        For an image: values shown as black and as white, around those that came with the planes
        so far; if none came with any, the range of the type (floats: of the pixels).
    channel_name
        As ``"DAPI"``, or None.
    filled, expected
        Planes that have come so far, and that there are positions for.
    notes
        What is not quite as sent: padded planes, pixel sizes that differ.
    """

    key: LayerKey
    created: bool
    name: str
    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    resize: Resize | None
    placements: tuple[Placement, ...]
    pixel_um: tuple[float, float] | None
    contrast_limits: tuple[float, float] | None
    channel_name: str | None
    filled: int
    expected: int
    notes: tuple[str, ...] = ()
