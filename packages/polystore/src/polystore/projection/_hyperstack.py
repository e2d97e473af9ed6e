"""The planes of a layer in the order of ImageJ: channel fastest, then slice, then frame."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from polystore._components import Components
from polystore._errors import ProjectionError
from polystore.projection._modes import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polystore.projection._axes import Axis
    from polystore.projection._layers import LayerUpdate

__all__ = ["Hyperstack", "StackPosition"]

_ORDER: Final = (Mode.FRAME, Mode.SLICE, Mode.CHANNEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPosition:
    """A position in a hyperstack as ImageJ counts it.

    Attributes
    ----------
    channel, slice, frame
        From 1.
    """

    channel: int
    slice: int
    frame: int


@dataclass(frozen=True, slots=True)
class Hyperstack:
    """A layer as one stack of planes with channels, slices and frames.

    Attributes
    ----------
    axes
        Of a `LayerUpdate`: any of ``frame``, ``slice`` and ``channel``, in this order, as
        `ComponentModes.hyperstack` makes them.

    Raises
    ------
    ProjectionError
        If there are other axes.

    Notes
    -----
    The plane of channel c, slice z and frame t is number ``(t * slices + z) * channels + c``, all
    from 0: the order ``xyczt`` of ImageJ, and that of an array with axes t, z, c, y, x.
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if names != [str(mode) for mode in _ORDER if mode in names]:
            raise ProjectionError(
                f"a hyperstack has the axes {', '.join(_ORDER)}, not {', '.join(names)}: give "
                "components the modes of ComponentModes.hyperstack(), or layers of their own"
            )

    @property
    def channels(self) -> int:
        """Number of channels, at least 1."""
        return self._length(Mode.CHANNEL)

    @property
    def slices(self) -> int:
        """Number of slices, at least 1."""
        return self._length(Mode.SLICE)

    @property
    def frames(self) -> int:
        """Number of frames, at least 1."""
        return self._length(Mode.FRAME)

    @property
    def planes(self) -> int:
        """Number of planes in the stack, those that have not come included."""
        return self.frames * self.slices * self.channels

    def plane(self, index: tuple[int, ...]) -> int:
        """Give the number of the plane, from 0, at the index of a `Placement`."""
        number = 0
        for axis, at in zip(self.axes, index, strict=True):
            number = number * axis.length + at
        return number

    def index(self, plane: int) -> tuple[int, ...]:
        """Give the index of a plane.

        Parameters
        ----------
        plane
            Its number, from 0.

        Raises
        ------
        IndexError
            If there is no such plane.
        """
        if not 0 <= plane < self.planes:
            raise IndexError(f"there are planes 0 to {self.planes - 1}, not {plane}")
        index: list[int] = []
        for axis in reversed(self.axes):
            plane, at = divmod(plane, axis.length)
            index.append(at)
        return tuple(reversed(index))

    def position(self, index: tuple[int, ...]) -> StackPosition:
        """Give the position at the index of a `Placement`, as ImageJ counts."""
        there = {axis.name: at for axis, at in zip(self.axes, index, strict=True)}
        return StackPosition(
            channel=there.get(Mode.CHANNEL, 0) + 1,
            slice=there.get(Mode.SLICE, 0) + 1,
            frame=there.get(Mode.FRAME, 0) + 1,
        )

    def components(self, index: tuple[int, ...]) -> Components:
        """Components that have their place at an index, come or not."""
        return Components.from_dict(
            {
                name: value
                for axis, at in zip(self.axes, index, strict=True)
                for name, value in axis.at(at).items()
            }
        )

    def label(self, index: tuple[int, ...]) -> str:
        """Label of the plane at an index, as ``"B03 f1 c2 z5 t1"``, come or not."""
        return self.components(index).label()

    def moved(self, newer: Hyperstack) -> Iterator[tuple[int, int]]:
        """Give the number of each plane, and its number in a stack that has grown from this."""
        old = product(*(range(axis.length) for axis in self.axes))
        new = product(
            *(one.places_in(other) for one, other in zip(self.axes, newer.axes, strict=True))
        )
        for before, after in zip(old, new, strict=True):
            yield self.plane(before), newer.plane(after)

    @classmethod
    def of(cls, update: LayerUpdate) -> Hyperstack:
        """Give the stack that a layer is after an update.

        Raises
        ------
        ProjectionError
            If the layer has other axes.
        """
        return cls(update.axes)

    def _length(self, mode: Mode) -> int:
        return next((axis.length for axis in self.axes if axis.name == mode), 1)
