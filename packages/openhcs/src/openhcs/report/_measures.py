"""Numbers that wells can be compared by: what they are called, and in what unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Measure", "measures_of", "tells_of_the_assay"]

_STATISTICS: Final = {"Median": "median", "Mean": "mean", "MAD": "spread (MAD)"}
_OF_OBJECTS: Final = re.compile(r"(?:(?P<table>.+?)_)?(?P<statistic>Mean|Median|MAD)_(?P<rest>.+)")
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+")
_SUFFIXES: Final = (("_um2", "µm²"), ("_um", "µm"), ("_px", "px"), ("_percent", "%"))
_UNITS: Final = {
    "seconds": "s",
    "Area": "px²",
    "EquivalentDiameter": "px",
    "MajorAxisLength": "px",
    "MinorAxisLength": "px",
    "Perimeter": "px",
    "Orientation": "°",
}
# Levels of pixels, as the functions that give them name them.
_LEVELS: Final = frozenset(
    {"background", "background_gradient", "dark", "maximum", "mean", "median", "minimum", "noise"}
    | {"p01", "p99"}
)
_NOT_OF_THE_ASSAY: Final = frozenset({"Run", "Conditions", "Fields", "Stitching"})
_TITLES: Final = {"stitch": "Stitching"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number that every well may have.

    Attributes
    ----------
    name
        Column of ``wells.parquet``.
    group, label
        Where to look for it, and what to call it there.
    unit
        Such as ``µm²``; empty where it has none or none is known.
    low, high
        2nd and 98th percentile over the wells: the ends of the colour scale.
    least, most
        Extremes over the wells.
    """

    name: str
    group: str
    label: str
    unit: str
    low: float
    high: float
    least: float
    most: float


def measures_of(
    wells: Sequence[Mapping[str, float]],
    channels: Sequence[str],
    outputs: Sequence[str],
    conditions: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Measure, ...]:
    """Name, group and order the numbers of a plate.

    Parameters
    ----------
    wells
        Finite numbers by column, one mapping per well.
    channels
        Names of the channels.
    outputs
        Names under which steps stored what they gave, such as ``image_quality``.
    conditions
        Name and unit of the columns that come from a platemap.

    Returns
    -------
    tuple of Measure
        The number of objects first, then what is measured of objects, then the rest.
    """
    import numpy as np

    names = dict.fromkeys(name for well in wells for name in well)
    found: list[tuple[tuple[int, str, str, int], Measure]] = []
    for name in names:
        values = np.array([well[name] for well in wells if name in well])
        low, high = np.percentile(values, [2, 98])
        if conditions is not None and name in conditions:
            label, unit = conditions[name]
            rank, group, statistic = 7, "Conditions", ""
        else:
            rank, group, label, statistic, unit = _described(name, channels, outputs)
        measure = Measure(
            name=name,
            group=group,
            label=", ".join(part for part in (label, _STATISTICS.get(statistic)) if part),
            unit=unit,
            low=float(low),
            high=float(high),
            least=float(values.min()),
            most=float(values.max()),
        )
        order = list(_STATISTICS).index(statistic) if statistic else 0
        found.append(((rank, group, label, order), measure))
    return tuple(measure for _, measure in sorted(found, key=lambda pair: pair[0]))


def tells_of_the_assay(measure: Measure) -> bool:
    """Say whether wells are compared by a measure: not by how they were made and run."""
    return measure.group.partition(",")[0] not in _NOT_OF_THE_ASSAY


def _described(
    name: str, channels: Sequence[str], outputs: Sequence[str]
) -> tuple[int, str, str, str, str]:
    """Give rank, group, label, statistic and unit of a column."""
    if name == "count" or name.endswith("_count"):
        table = name.removesuffix("count").strip("_")
        return 0, "Objects", f"number of {_words(table) or 'objects'}", "", ""
    bare = name.removesuffix("_excluded")
    if bare == "fields" or (bare.endswith("_fields") and bare.removesuffix("_fields") in outputs):
        table = bare.removesuffix("fields").strip("_")
        what = "number of fields" if bare == name else "number of fields left out"
        return 8, "Fields", f"{what} ({_words(table) or 'objects'})", "", ""
    if name == "seconds":
        return 9, "Run", "time spent", "", "s"
    output = max((each for each in outputs if name.startswith(f"{each}_")), key=len, default="")
    objects = _OF_OBJECTS.fullmatch(name)
    if objects is not None and not (output and name.startswith(f"{output}_mean")):
        rank, group, label, unit = _of_objects(objects["rest"], channels)
        table = objects["table"]
        return rank, f"{group} ({_words(table)})" if table else group, label, objects[2], unit
    if not output:
        return 8, "Other", _words(name), "", _unit(name)
    rest = name.removeprefix(f"{output}_")
    channel = max((each for each in channels if rest.startswith(f"{each}_")), key=len, default="")
    rest = rest.removeprefix(f"{channel}_") if channel else rest
    title = _TITLES.get(output, _words(output).capitalize())
    unit = "counts" if rest in _LEVELS else _unit(rest)
    label = " ".join(part for part in (channel, _words(_bare(rest))) if part)
    return 5, f"{title}, {channel}" if channel else title, label, "", unit


def _of_objects(rest: str, channels: Sequence[str]) -> tuple[int, str, str, str]:
    """Give rank, group, label and unit of a feature of objects, named in CellProfiler's way."""
    category, _, feature = rest.partition("_")
    channel = max((each for each in channels if feature.endswith(f"_{each}")), key=len, default="")
    feature = feature.removesuffix(f"_{channel}") if channel else feature
    if category == "AreaShape":
        return 1, "Shape", _words(_bare(feature)), _unit(feature)
    unit = "counts" if category == "Intensity" else _unit(feature)
    group = f"{category}, {channel}" if channel else category
    label = " ".join(part for part in (channel, _words(_bare(feature) or category)) if part)
    return 2, group, label, unit


def _unit(name: str) -> str:
    for suffix, unit in _SUFFIXES:
        if name.endswith(suffix):
            return unit
    return _UNITS.get(name, "")


def _bare(name: str) -> str:
    """Take the unit off a name."""
    for suffix, _ in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _words(name: str) -> str:
    """Write a name of code as words: ``MajorAxisLength`` as ``major axis length``."""
    parts = [part for piece in name.split("_") for part in _WORDS.findall(piece)]
    return " ".join(part if part.isupper() and len(part) > 1 else part.lower() for part in parts)
