"""What the values of a component become in a viewer."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from polystore._components import COMPONENTS
from polystore._errors import ProjectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ComponentModes", "Fit", "Mode"]


class Mode(StrEnum):
    """What the values of a component become in a viewer.

    Where components share an axis, each of their combinations has a position, in the order of the
    attributes of `ComponentModes`: wells change slowest, then fields, then time points.
    """

    AXIS = "axis"
    """Positions along an axis of their own, a slider; named like the component."""
    STACK = "stack"
    """Positions along one axis, ``stack``, which all components with this mode share."""
    FRAME = "frame"
    """Positions along T of a hyperstack, the axis ``frame``, which they share."""
    SLICE = "slice"
    """Positions along Z of a hyperstack, the axis ``slice``, which they share."""
    CHANNEL = "channel"
    """Positions along C of a hyperstack, the axis ``channel``, which they share."""
    LAYER = "layer"
    """Layers of their own, drawn over each other."""
    WINDOW = "window"
    """Layers of their own that are not drawn over each other."""
    PLACE = "place"
    """Layers of their own, each where it lies in the well: fields beside each other."""


class Fit(StrEnum):
    """What becomes of planes of one layer that differ in size, type or size of a pixel."""

    PAD = "pad"
    """They are in one layer: filled up with 0, in a type that holds all, and the update says so."""
    SPLIT = "split"
    """They are in layers of their own, and nothing is filled up or converted."""


_SHARED: Final = (Mode.STACK, Mode.FRAME, Mode.SLICE, Mode.CHANNEL)
_LAYERS: Final = (Mode.LAYER, Mode.WINDOW, Mode.PLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentModes:
    """What each component becomes. Axes of their own are in the order of the attributes.

    After these come the axes that components share: ``stack``, ``frame``, ``slice`` and
    ``channel``, so that planes in the order of their indexes are in the order of a hyperstack,
    in which the channel changes fastest and the frame slowest.

    Raises
    ------
    ProjectionError
        If the component channel has an axis of its own and others share one of that name.
    """

    plate: Mode = Mode.LAYER
    step: Mode = Mode.LAYER
    channel: Mode = Mode.LAYER
    well: Mode = Mode.AXIS
    field: Mode = Mode.AXIS
    t: Mode = Mode.AXIS
    z: Mode = Mode.AXIS

    def __post_init__(self) -> None:
        if self.channel is Mode.AXIS and self.of(Mode.CHANNEL):
            raise ProjectionError(
                f"channel has an axis of its own, and {', '.join(self.of(Mode.CHANNEL))} would "
                "share one of the same name: give channel the mode 'channel' too"
            )

    @classmethod
    def hyperstack(cls) -> ComponentModes:
        """Make the modes of ImageJ: one window for each plate and step, in it C, Z and T.

        Wells, fields and time points are frames, in this order, wells slowest.
        """
        return cls(
            plate=Mode.WINDOW,
            step=Mode.WINDOW,
            channel=Mode.CHANNEL,
            well=Mode.FRAME,
            field=Mode.FRAME,
            t=Mode.FRAME,
            z=Mode.SLICE,
        )

    def changed(self, modes: Mapping[str, str]) -> ComponentModes:
        """Make modes of which some are others, as ``{"well": "window"}`` in a configuration.

        Raises
        ------
        ProjectionError
            If there is no such component or mode.
        """
        check_components(modes)
        known = ", ".join(Mode)
        for name, mode in modes.items():
            if mode not in list(Mode):
                raise ProjectionError(f"{name} cannot become {mode!r}; it can be one of {known}")
        return replace(self, **{name: Mode(mode) for name, mode in modes.items()})

    def of(self, *modes: Mode) -> tuple[str, ...]:
        """Names of the components that have one of these modes."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name) in modes)

    def axes(self) -> dict[str, tuple[str, ...]]:
        """Leading axes of all layers in their order, with the components of each."""
        own = {name: (name,) for name in self.of(Mode.AXIS)}
        return own | {str(mode): shared for mode in _SHARED if (shared := self.of(mode))}

    def layers(self) -> tuple[str, ...]:
        """Names of the components that tell layers apart."""
        return self.of(*_LAYERS)


def check_components(names: Mapping[str, object]) -> None:
    """Refuse names that no component has.

    Raises
    ------
    ProjectionError
        If there is one.
    """
    for name in names:
        if name not in COMPONENTS:
            raise ProjectionError(
                f"no component is called {name!r}; there are {', '.join(COMPONENTS)}"
            )
