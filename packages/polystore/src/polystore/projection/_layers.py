"""What a viewer has to do to show what has come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from polystore._payload import Payload  # a Struct looks its types up

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from polystore.projection._axes import Axis
    from polystore.projection._grouping import LayerKey

__all__ = ["LayerUpdate", "Placement", "Resize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """What was shown before takes other places in a larger array.

    Attributes
    ----------
    shape
        Of the array before.
    before, after
        Leading axes.

    Notes
    -----
    ``new[numpy.ix_(*places)][..., : shape[-2], : shape[-1]] = old`` is what happens; written as
    an assignment, ``new[(*numpy.ix_(*places), slice(shape[-2]), slice(shape[-1]))] = old``.
    """

    shape: tuple[int, ...]
    before: tuple[Axis, ...]
    after: tuple[Axis, ...]

    @property
    def places(self) -> tuple[Sequence[int], ...]:
        """For each leading axis, the new position of each old one.

        Rows and columns stay where they are: what is added is below and to the right, and is 0.
        Computed when asked for, in time linear in the lengths of the axes.
        """
        return tuple(old.places_in(new) for old, new in zip(self.before, self.after, strict=True))


# a Struct, because one is made for every plane: a frozen dataclass takes five times as long; and
# none that the collector looks at, as nothing in it ever refers back to it
class Placement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A payload and its place in the layer.

    Attributes
    ----------
    index
        Position on each leading axis.
    payload
        One plane, or the points, regions, rows or text of one plane, in place of what was there.
    padded
        Whether an image is smaller than the layer: what it does not cover is to be 0.
    """

    index: tuple[int, ...]
    payload: Payload
    padded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUpdate:
    """What to do with one layer.

    If `removed`, take it away, and that is all. Otherwise make it if `created`, then `resize`,
    empty the places `cleared`, and set `placements`.

    Attributes
    ----------
    key
        Identity of the layer; ``str(key)`` is the same in every run.
    created
        Whether this is the first update of the layer.
    name
        For people, different from that of all other layers. It can change when another layer
        comes that would have the same.
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
        Height and width of a pixel in µm, the smallest where planes differ; None if not known.
    origin_um
        y and x of the upper left corner from the centre of the well in µm, the uppermost and
        leftmost where planes differ; None if not known.
    contrast_limits
        For an image: values shown as black and as white, around those that came with the planes
        so far; if none came with any, the range of the type (floats: of the pixels).
    channel_name
        As ``"DAPI"``, or None; the first in the alphabet where planes differ.
    filled, expected
        Planes that have come so far, and that there are positions for.
    run
        The newest run that something came of, or None.
    earlier
        How many of the filled ones an earlier run made.
    cleared
        Indexes of what is shown no longer: an image is 0 there, and there are no points, regions,
        rows or text.
    removed
        Whether the layer is gone.
    notes
        What is not quite as sent: padded planes, sizes of pixels that differ.
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
    origin_um: tuple[float, float] | None = None
    contrast_limits: tuple[float, float] | None
    channel_name: str | None
    filled: int
    expected: int
    run: str | None = None
    earlier: int = 0
    cleared: tuple[tuple[int, ...], ...] = ()
    removed: bool = False
    notes: tuple[str, ...] = ()
