"""A plan tried on tiny images before a pixel is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs._errors import StepError
from openhcs.functions import Kind
from openhcs.pipeline._evaluation import Evaluation
from openhcs.pipeline._tiny import TinyWell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from openhcs._errors import OpenHCSError
    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import PlannedStep
    from openhcs.pipeline._tiny import Prepared

__all__ = ["dry_run"]

_MEMBERS = 2
_STORED_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")


def dry_run(
    steps: Sequence[PlannedStep],
    keys: Sequence[GroupKey],
    *,
    dtype: np.dtype[Any],
    pixel_um: tuple[float, float] | None,
    prepared: Prepared,
) -> Sequence[OpenHCSError]:
    """Take tiny images through all steps and give every problem found.

    Parameters
    ----------
    steps
        The plan's steps.
    keys
        Planes of a well; two fields, z and t are tried, and all channels.
    dtype
        Of the planes.
    pixel_um
        Pixel size (y, x); None when unknown.
    prepared
        What a step would have learned, by step and channel.
    """
    kept = _Checks()
    well = TinyWell(_few(keys), dtype, pixel_um, prepared)
    return [*Evaluation(steps, well, kept, trial=True).attempt()]


def _few(keys: Sequence[GroupKey]) -> tuple[GroupKey, ...]:
    few = {
        axis: sorted({getattr(key, axis) for key in keys})[:_MEMBERS]
        for axis in ("t", "field", "z")
    }
    return tuple(key for key in keys if all(getattr(key, axis) in few[axis] for axis in few))


class _Checks:
    """Outputs are looked at and dropped."""

    def __init__(self) -> None:
        self._images: dict[tuple[Any, ...], tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        if kind is Kind.IMAGE:
            self._image(step, name, key, value)

    def _image(self, step: PlannedStep, name: str, key: GroupKey, array: NDArray[Any]) -> None:
        if f"{array.dtype.kind}{array.dtype.itemsize}" not in _STORED_TYPES:
            message = (
                f"{step.name} gives images of type {array.dtype}, which cannot be stored: "
                "convert them to uint8, uint16 or float32"
            )
            raise StepError(message, step.name)
        # Images of a whole well are as large as stitching found, which differs between times.
        same = (name, key.t, key.z) if key.field is None else (name, key.field)
        first = self._images.setdefault(same, (array.shape, array.dtype))
        if first != (array.shape, array.dtype):
            message = (
                f"{step.name} gives images of unlike kinds: {first[1]} {first[0]}, and for {key} "
                f"{array.dtype} {array.shape}"
            )
            raise StepError(message, step.name)

    def reused(self, step: PlannedStep) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        message = f"{step.name}: {kind} {name} of {key} is not stored in a dry run"
        raise AssertionError(message)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Nothing is counted."""

    def proceed(self) -> None:
        """Nothing stops a dry run."""
