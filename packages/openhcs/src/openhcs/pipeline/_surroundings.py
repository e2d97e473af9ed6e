"""What the steps of a well are given: its planes, and where their outputs go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions import Kind
    from openhcs.pipeline._clock import Clock
    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import PlannedStep

__all__ = ["Kept", "Source", "Surroundings"]


class Source(Protocol):
    """The planes of one well."""

    def keys(self) -> Sequence[GroupKey]:
        """Give the key of every plane; called once, when the graph is built."""
        ...

    def read(self, key: GroupKey) -> NDArray[Any]:
        """Give the pixels of a plane, shape (y, x); called whenever a step asks for them."""
        ...

    def place(self, key: GroupKey, axis: str) -> float:
        """Give where a key lies along ``x``, ``y`` or ``z`` in µm or ``t`` in s; NaN if unknown."""
        ...

    def prepared(self, step: str, channel: str | None) -> Mapping[str, NDArray[Any]]:
        """Give what a step learned from the whole plate for a channel."""
        ...

    @property
    def pixel_um(self) -> tuple[float, float] | None:
        """Pixel size (y, x) in µm."""
        ...


class Kept(Protocol):
    """Where outputs go, and where those of an earlier run lie."""

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        """Take an output, as soon as it is there and exactly once."""
        ...

    def reused(self, step: PlannedStep) -> bool:
        """Say whether the step's stored outputs are there already and still right."""
        ...

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        """Give an output that was stored by an earlier run."""
        ...

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Take note that all of a step is done; `seconds` leaves out the steps before it."""
        ...

    def proceed(self) -> None:
        """Raise something to stop here; called before each plane and each call."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What each call of a well's steps is made in.

    Parameters
    ----------
    source
        The well's planes.
    kept
        Where outputs go.
    clock
        Takes the time of each step.
    called
        Told of each first call of a step's function.
    trial
        Whether images are tiny ones, and results of no account: all steps compute on the host, and
        networks are not loaded.
    """

    source: Source
    kept: Kept
    clock: Clock
    called: Callable[[PlannedStep], None]
    trial: bool
