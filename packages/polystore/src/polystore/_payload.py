"""One thing that a step made, with where it belongs and how to show it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, assert_never, cast

import numpy as np
from numpy.typing import NDArray

from polystore._components import Components
from polystore._dtypes import check_dtype, read_only
from polystore._errors import PayloadError
from polystore._kinds import Kind
from polystore._provenance import Provenance
from polystore._tables import Column, Table
from polystore.regions._regions import Regions

__all__ = ["Data", "Payload"]

Data: TypeAlias = NDArray[Any] | Regions | Mapping[str, Column] | str

_LEADING = ("t", "channel", "z")
_AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
_TEXT_MOST = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payload:
    """One thing that a step made, with where it belongs and how to show it.

    Arrays are kept as read-only views, not as copies: who hands an array over must not change it
    afterwards.

    Attributes
    ----------
    data
        Image and labels: array whose last axes are y, x. Points: floats of shape (points, 2),
        y and x in pixels. Regions: `Regions`. Table: a `Table`, or a mapping of names to columns,
        of which one is made. Text: str.
    components
        Where it belongs.
    kind
        What it is.
    name
        Name of the output, as ``"stitched"`` or ``"nuclei"``; tells apart what a step made twice.
    axes
        Names of the array's axes; (y, x) and (z, y, x) need not be given. Leading ones are
        ``t``, ``channel`` or ``z``, and the component of that name has to be None.
    pixel_um
        Height and width of a pixel in µm, or None when it is not known.
    origin_um
        y and x of the upper left corner from the centre of the well in µm, or None.
    units
        Unit of the values, as ``"counts"``.
    channel_name
        As ``"DAPI"``.
    contrast_limits
        Values shown as black and as white.
    run
        Identity of the run that made it; the step of it is a component.
    provenance
        What it was made of, and by which software; None when it is not known.
    lossy
        Whether the values are an approximation, because they came through a lossy codec; to look
        at, not to measure.

    Raises
    ------
    PayloadError
        If the data are not what the kind says, or a number is not finite.
    """

    data: Data
    components: Components = field(default_factory=Components)
    kind: Kind = Kind.IMAGE
    name: str = ""
    axes: tuple[str, ...] = ()
    pixel_um: tuple[float, float] | None = None
    origin_um: tuple[float, float] | None = None
    units: str | None = None
    channel_name: str | None = None
    contrast_limits: tuple[float, float] | None = None
    run: str | None = None
    provenance: Provenance | None = None
    lossy: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__
        data, axes = _checked(self.data, self.kind, self.axes, self.components)
        put(self, "data", data)
        put(self, "axes", axes)
        if self.pixel_um is not None:
            pixel_um = _pair("pixel_um", self.pixel_um)
            if not (pixel_um[0] > 0 and pixel_um[1] > 0):
                raise PayloadError(f"pixel_um has to be above 0, or None when unknown: {pixel_um}")
            put(self, "pixel_um", pixel_um)
        if self.origin_um is not None:
            put(self, "origin_um", _pair("origin_um", self.origin_um))
        if self.contrast_limits is not None:
            limits = _pair("contrast_limits", self.contrast_limits)
            if not limits[0] <= limits[1]:
                raise PayloadError(f"contrast_limits have to rise: {limits}")
            put(self, "contrast_limits", limits)
        if type(self.name) is not str or len(self.name) > _TEXT_MOST:
            raise PayloadError(f"name has to be text of at most {_TEXT_MOST} characters")
        for label, text in (
            ("units", self.units),
            ("channel_name", self.channel_name),
            ("run", self.run),
        ):
            if text is not None and (type(text) is not str or len(text) > _TEXT_MOST):
                raise PayloadError(f"{label} has to be text of at most {_TEXT_MOST} characters")
        if self.provenance is not None and not isinstance(self.provenance, Provenance):
            raise PayloadError(f"provenance has to be a Provenance, not {_type(self.provenance)}")
        if type(self.lossy) is not bool or (self.lossy and self.kind is not Kind.IMAGE):
            raise PayloadError(f"lossy is True or False, and only images are: {self.lossy!r}")

    @property
    def array(self) -> NDArray[Any]:
        """The array of an image, of labels or of points.

        Raises
        ------
        PayloadError
            If the payload is of another kind.
        """
        if isinstance(self.data, np.ndarray):
            return self.data
        raise PayloadError(f"a payload of kind {self.kind} is no array")

    @property
    def table(self) -> Table:
        """The table.

        Raises
        ------
        PayloadError
            If the payload is of another kind.
        """
        if isinstance(self.data, Table):
            return self.data
        raise PayloadError(f"a payload of kind {self.kind} is no table")

    @property
    def regions(self) -> Regions:
        """The regions.

        Raises
        ------
        PayloadError
            If the payload is of another kind.
        """
        if isinstance(self.data, Regions):
            return self.data
        raise PayloadError(f"a payload of kind {self.kind} holds no regions")

    @property
    def text(self) -> str:
        """The text.

        Raises
        ------
        PayloadError
            If the payload is of another kind.
        """
        if isinstance(self.data, str):
            return self.data
        raise PayloadError(f"a payload of kind {self.kind} is no text")

    @property
    def nbytes(self) -> int:
        """Bytes of the data, without text columns' overhead."""
        data = self.data
        if isinstance(data, np.ndarray):
            return data.nbytes
        if isinstance(data, str):
            return len(data)
        return cast("Regions | Table", data).nbytes


def _checked(
    data: Data, kind: Kind, axes: tuple[str, ...], components: Components
) -> tuple[Data, tuple[str, ...]]:
    match kind:
        case Kind.IMAGE | Kind.LABELS:
            array = _array(kind, data)
            if kind is Kind.LABELS and array.dtype.kind not in "biu":
                raise PayloadError(f"labels have to be integers, not {array.dtype}")
            return read_only(array), _axes_of(array, axes, components)
        case Kind.POINTS:
            array = _array(kind, data)
            if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind != "f":
                raise PayloadError(
                    f"points have to be floats of shape (n, 2), not {array.dtype} {array.shape}"
                )
            return read_only(array), _none(kind, axes)
        case Kind.REGIONS:
            if not isinstance(data, Regions):
                raise PayloadError(f"regions have to be a Regions value, not {_type(data)}")
            return data, _none(kind, axes)
        case Kind.TABLE:
            if not isinstance(data, Mapping):
                raise PayloadError(f"a table has to be a mapping of columns, not {_type(data)}")
            return data if isinstance(data, Table) else Table(data), _none(kind, axes)
        case Kind.TEXT:
            if type(data) is not str:
                raise PayloadError(f"text has to be str, not {_type(data)}")
            return data, _none(kind, axes)
        case _:
            assert_never(kind)


def _array(kind: Kind, data: Data) -> NDArray[Any]:
    if not isinstance(data, np.ndarray):
        raise PayloadError(f"a payload of kind {kind} has to be an array, not {_type(data)}")
    check_dtype(data.dtype)
    return data


def _axes_of(array: NDArray[Any], axes: tuple[str, ...], components: Components) -> tuple[str, ...]:
    if axes == () and array.ndim in _AXES:
        axes = _AXES[array.ndim]
    axes = tuple(axes)
    if len(axes) != array.ndim or axes[-2:] != ("y", "x"):
        raise PayloadError(
            f"an array of shape {array.shape} has axes {axes}: there has to be one name for each, "
            "the last two y and x"
        )
    leading = axes[:-2]
    for axis in leading:
        if axis not in _LEADING or leading.count(axis) > 1:
            raise PayloadError(f"axis {axis!r} has to be one of {', '.join(_LEADING)}, and once")
        if components.get(axis) is not None:
            raise PayloadError(f"{axis} is both an axis of the array and a component")
    return axes


def _none(kind: Kind, axes: tuple[str, ...]) -> tuple[str, ...]:
    if axes:
        raise PayloadError(f"a payload of kind {kind} has no axes, {axes} were given")
    return ()


def _pair(name: str, values: tuple[float, float]) -> tuple[float, float]:
    first, second = cast("tuple[Any, Any]", values)
    pair = (float(first), float(second))
    if not (math.isfinite(pair[0]) and math.isfinite(pair[1])):
        raise PayloadError(f"{name} has to be two finite numbers, not {pair}")
    return pair


def _type(data: object) -> str:
    return type(data).__name__
