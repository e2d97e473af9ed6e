"""A plan tried on tiny images before a pixel is read."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import StepError
from openhcs.functions import Kind
from openhcs.pipeline._evaluation import Evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import PlannedStep

__all__ = ["dry_run", "tiny_plane"]

_SIDE_PX = 64
_FIELD_STRIDE_PX = 48
_MEMBERS = 2
_STORED_TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8")


def dry_run(
    steps: Sequence[PlannedStep],
    keys: Sequence[GroupKey],
    *,
    dtype: np.dtype[Any],
    pixel_um: tuple[float, float] | None,
    prepared: Mapping[str, Mapping[str, Mapping[str, NDArray[Any]]]],
) -> Sequence[str]:
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
    return [*Evaluation(steps, _TinyWell(keys, dtype, pixel_um, prepared), kept).attempt()]


def tiny_plane(dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    """Make a plane of 64 by 64 pixels: a background with noise, and spots as large as nuclei."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:_SIDE_PX, :_SIDE_PX].astype(np.float64)
    plane = random.normal(0.1, 0.01, (_SIDE_PX, _SIDE_PX))
    for row, column in ((14, 12), (18, 44), (44, 24), (50, 54)):
        plane += 0.5 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 4.0**2))
    # A camera fills some thousand counts; floats are left between 0 and 1.
    full = min(4095, np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
    return np.clip(plane * full, 0, full).astype(dtype)


class _TinyWell:
    """The planes of a well, few and tiny."""

    def __init__(
        self,
        keys: Sequence[GroupKey],
        dtype: np.dtype[Any],
        pixel_um: tuple[float, float] | None,
        prepared: Mapping[str, Mapping[str, Mapping[str, NDArray[Any]]]],
    ) -> None:
        few = {
            axis: sorted({getattr(key, axis) for key in keys})[:_MEMBERS]
            for axis in ("t", "field", "z")
        }
        self._keys = tuple(
            key for key in keys if all(getattr(key, axis) in few[axis] for axis in few)
        )
        self._dtype = dtype
        self._prepared = prepared
        self.pixel_um = pixel_um

    def keys(self) -> Sequence[GroupKey]:
        return self._keys

    def read(self, key: GroupKey) -> NDArray[Any]:
        return tiny_plane(self._dtype, zlib.crc32(str(key).encode()))

    def place(self, key: GroupKey, axis: str) -> float:
        size = self.pixel_um or (1.0, 1.0)
        places = {
            "x": _FIELD_STRIDE_PX * size[1] * (key.field or 0),
            "y": 0.0,
            "z": 2.0 * (key.z or 0),
            "t": 60.0 * (key.t or 0),
        }
        return places[axis]

    def prepared(self, step: str, channel: str | None) -> Mapping[str, NDArray[Any]]:
        return self._prepared[step][str(channel)]


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
            raise StepError(message)
        # Images of a whole well are as large as stitching found, which differs between times.
        same = (name, key.t, key.z) if key.field is None else (name, key.field)
        first = self._images.setdefault(same, (array.shape, array.dtype))
        if first != (array.shape, array.dtype):
            message = (
                f"{step.name} gives images of unlike kinds: {first[1]} {first[0]}, and for {key} "
                f"{array.dtype} {array.shape}"
            )
            raise StepError(message)

    def reused(self, step: PlannedStep) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        message = f"{step.name}: {kind} {name} of {key} is not stored in a dry run"
        raise AssertionError(message)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Nothing is counted."""

    def proceed(self) -> None:
        """Nothing stops a dry run."""
