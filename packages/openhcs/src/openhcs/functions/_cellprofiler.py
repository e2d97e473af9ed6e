"""CellProfiler's own features of objects, by the package cp_measure, where it is installed."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from annotated_types import Gt, MinLen, Unit

from openhcs.functions._checks import checked_labels, plane_like
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns, PlaneArray

__all__ = ["measure_cellprofiler"]

Family: TypeAlias = Literal[
    "sizeshape",
    "feret",
    "zernike",
    "intensity",
    "radial_distribution",
    "radial_zernikes",
    "granularity",
    "texture",
]
Families: TypeAlias = Annotated[tuple[Family, ...], MinLen(1)]
Pair: TypeAlias = Literal["pearson", "manders_fold", "rwc", "costes"]
FullScale: TypeAlias = Annotated[float, Gt(0), Unit("counts")] | None

_Measure: TypeAlias = Callable[..., Mapping[str, Any]]

_SHAPES = ("sizeshape", "feret", "zernike")
_PREFIXES = {**dict.fromkeys(_SHAPES, "AreaShape_"), "texture": "Texture_"}
"""What cp_measure leaves out of the names of CellProfiler."""

_BETWEEN = ("radial_distribution", "radial_zernikes", "texture")
"""Families in whose names CellProfiler has the channel behind the feature, before its numbers."""

_NAMES_OF_PAIRS = {"Correlation_Pearson": "Correlation_Correlation"}

_FLOAT_STEPS = 65535
"""Steps in which thresholds are looked for where planes are floating point."""


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("cellprofiler", Kind.TABLE),),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
    requires=("cp_measure",),
    extra="cellprofiler",
)
def measure_cellprofiler(
    channels: ChannelPlanes,
    *,
    labels: NDArray[Any],
    pixel_um: tuple[float, float],
    families: Families = ("sizeshape", "intensity"),
    pairs: tuple[Pair, ...] = (),
    full_scale: FullScale = None,
) -> Columns:
    """Measure every object by CellProfiler's own features, where cp_measure is installed.

    For numbers that go on where those of CellProfiler end. `measure_objects` and its like measure
    most of it in counts, and many times as fast.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; loaded one at a time, or two for `pairs`.
    labels
        Shape (y, x), integer: 0 is background.
    pixel_um
        Size of a pixel (y, x) in µm; only asked whether it is one.
    families
        ``sizeshape``, ``feret`` and ``zernike`` of the outlines; ``intensity``,
        ``radial_distribution``, ``radial_zernikes``, ``granularity`` and ``texture`` of each
        channel.
    pairs
        ``pearson``, ``manders_fold``, ``rwc`` and ``costes`` of every two channels.
    full_scale
        Counts that become 1, as CellProfiler scales what it loads: 4095 for a camera of 12 bits.
        None takes the largest number that the pixels' type holds, or 1 where it is floating point.

    Returns
    -------
    Columns
        One row per object: ``ObjectNumber``, then columns as CellProfiler names them, such as
        ``AreaShape_Area``, ``Intensity_MeanIntensity_DAPI``, ``Texture_Contrast_DAPI_3_00_256`` and
        ``Correlation_Correlation_DAPI_GFP``. As there, lengths are in pixels and brightness is from
        0 to 1. NaN where a feature is not defined.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), pairs are asked of one channel, or pixels
        are not from 0 to `full_scale`.

    Notes
    -----
    Everything is worked out by cp_measure (Muñoz et al., arXiv:2507.01163), which follows
    CellProfiler 4 (Stirling et al., BMC Bioinformatics 22:433, 2021).
    """
    checked_labels(labels, pixel_um)
    if pairs and len(channels) < 2:
        raise ValueError(f"pairs need two channels; there is {', '.join(channels) or 'none'}")
    numbers, seen = _in_turn(labels)
    planes: Mapping[str, Callable[[], tuple[PlaneArray, int]]] = {
        name: _loader(channels, name, labels.shape, full_scale) for name in channels
    }
    if numbers.size == 0:  # the columns are those of any object
        seen, planes = _EXAMPLE, dict.fromkeys(channels, _example)
    of_channels, of_pairs = _measures()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # of what is not defined for an object, which the NaN in its row says
        warnings.simplefilter("ignore", RuntimeWarning)
        table = _of_channels(of_channels, families, seen, planes)
        table |= _of_pairs(of_pairs, pairs, seen, planes)
    measured = {name: values[: numbers.size] for name, values in table.items()}
    return {"ObjectNumber": numbers.astype(np.int64), **measured}


def _measures() -> tuple[Mapping[str, _Measure], Mapping[str, _Measure]]:
    """Give the measures of a plane, and of a pair of planes, by family."""
    with warnings.catch_warnings():
        # of its own docstrings, when Python compiles them
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from cp_measure.bulk import get_core_measurements, get_correlation_measurements
    return get_core_measurements(sanitize=False), get_correlation_measurements(sanitize=False)


def _in_turn(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Give the numbers of the objects, and labels that count them from 1 without gaps."""
    objects = labels > 0
    numbers, places = np.unique(labels[objects], return_inverse=True)
    dense = np.zeros(labels.shape, np.int32)
    dense[objects] = places + 1
    return numbers, dense


def _of_channels(
    measures: Mapping[str, _Measure],
    families: Families,
    labels: NDArray[Any],
    planes: Mapping[str, Callable[[], tuple[PlaneArray, int]]],
) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = {}
    for family in _SHAPES:
        if family in families:
            table |= _named(measures[family](labels, None), family, ())
    for channel, load in planes.items():
        of_plane = [family for family in dict.fromkeys(families) if family not in _SHAPES]
        plane = load()[0] if of_plane else None
        for family in of_plane:
            table |= _named(measures[family](labels, plane), family, (channel,))
    return table


def _of_pairs(
    measures: Mapping[str, _Measure],
    pairs: tuple[Pair, ...],
    labels: NDArray[Any],
    planes: Mapping[str, Callable[[], tuple[PlaneArray, int]]],
) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = {}
    for first, second in itertools.combinations(planes if pairs else (), 2):
        (one, steps), (two, _) = planes[first](), planes[second]()
        for pair in dict.fromkeys(pairs):
            further = {"scale_max": steps} if pair == "costes" else {}
            found = measures[pair](pixels_1=one, pixels_2=two, masks=labels, **further)
            table |= _named(found, pair, (first, second))
    return table


def _named(
    found: Mapping[str, Any], family: str, channels: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    table = {}
    for name, values in found.items():
        column = np.array(values, np.float64)
        column[np.isinf(column)] = np.nan  # such as what is divided by a perimeter of 0
        table[_name(_PREFIXES.get(family, "") + name, family, channels)] = column
    return table


def _name(name: str, family: str, channels: tuple[str, ...]) -> str:
    """Give a column the name that CellProfiler gives it."""
    if len(channels) == 2:
        feature, _, turn = name.rpartition("_")
        if turn in ("1", "2"):  # of the first in the second, and the other way round
            name, channels = feature, channels if turn == "1" else channels[::-1]
        return "_".join((_NAMES_OF_PAIRS.get(name, name), *channels))
    if family in _BETWEEN:
        category, feature, *numbers = name.split("_", 2)
        return "_".join((category, feature, *channels, *numbers))
    return "_".join((name, *channels))


def _loader(
    channels: ChannelPlanes, name: str, shape: tuple[int, ...], full_scale: float | None
) -> Callable[[], tuple[PlaneArray, int]]:
    """Give what loads a plane on the scale from 0 to 1, and says in how many steps it was taken."""

    def load() -> tuple[PlaneArray, int]:
        plane = plane_like(channels, name, shape, "the labels")
        whole = np.issubdtype(plane.dtype, np.integer)
        top = full_scale or (float(np.iinfo(plane.dtype).max) if whole else 1.0)
        low, high = float(plane.min()), float(plane.max())
        if not (low >= 0 and high <= top):
            raise ValueError(
                f"pixels of channel {name!r} are from {low:g} to {high:g}, not from 0 to {top:g}: "
                "give full_scale the counts that are to be 1"
            )
        return plane / top, round(top) if whole else _FLOAT_STEPS

    return load


_EXAMPLE = np.zeros((16, 16), np.int32)
_EXAMPLE[4:12, 4:12] = 1


def _example() -> tuple[PlaneArray, int]:
    return np.arange(256, dtype=np.float64).reshape(16, 16) / 255, 255
