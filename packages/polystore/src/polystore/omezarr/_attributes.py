"""What OME-Zarr 0.4 and 0.5 ask of the attributes of a group, and why some are not valid.

Notes
-----
OME-Zarr 0.4 and 0.5, https://ngff.openmicroscopy.org/0.4/ and /0.5/: their JSON schemas, and what
the text alone says: names that are there once, as many factors as axes, wells that are where their
path says. The versions differ in where they are said, and in that 0.4 wants a window and a colour
of each channel, and lets the path of a well be any two names.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec

from polystore._typed import from_plain
from polystore.omezarr._groups import OmeVersion
from polystore.omezarr._paths import is_relative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Channel",
    "Multiscale",
    "Omero",
    "PlateDocument",
    "Problem",
    "WellDocument",
    "metadata_problems",
]

_Count = Annotated[int, msgspec.Meta(ge=1)]
_Index = Annotated[int, msgspec.Meta(ge=0)]
_Part = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]+$")]
_Factors = Annotated[tuple[float, ...], msgspec.Meta(min_length=2)]
_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_SPACE = ("z", "y", "x")
_TYPES_IN_ORDER = {"time": 0, "channel": 1, "space": 2}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the format asks.

    Attributes
    ----------
    path
        Where in the document, as ``$.plate.wells[3].path``.
    reason
        What is wrong there.
    file
        Which document, from where the store begins; empty where there is only one.
    """

    path: str
    reason: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.file} {self.path}: {self.reason}".lstrip()


class _Named(msgspec.Struct, frozen=True):
    name: _Part


class _PlateWell(msgspec.Struct, frozen=True, rename="camel"):
    path: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]+/[A-Za-z0-9]+$")]
    row_index: _Index
    column_index: _Index


class _Acquisition(msgspec.Struct, frozen=True):
    id: _Index
    name: str | None = None
    maximumfieldcount: _Count | None = None
    description: str | None = None
    starttime: _Index | None = None
    endtime: _Index | None = None


class PlateDocument(msgspec.Struct, frozen=True):
    """The object ``plate``."""

    rows: Annotated[tuple[_Named, ...], msgspec.Meta(min_length=1)]
    columns: Annotated[tuple[_Named, ...], msgspec.Meta(min_length=1)]
    wells: Annotated[tuple[_PlateWell, ...], msgspec.Meta(min_length=1)]
    acquisitions: tuple[_Acquisition, ...] = ()
    name: str | None = None
    field_count: _Count | None = None


class _WellImage(msgspec.Struct, frozen=True):
    path: _Part
    acquisition: int = 0


class WellDocument(msgspec.Struct, frozen=True):
    """The object ``well``."""

    images: Annotated[tuple[_WellImage, ...], msgspec.Meta(min_length=1)]


class _Axis(msgspec.Struct, frozen=True):
    name: str
    type: str | None = None
    unit: str | None = None


class Scale(msgspec.Struct, frozen=True, tag_field="type", tag="scale"):
    """Factors along the axes."""

    scale: _Factors


class Translation(msgspec.Struct, frozen=True, tag_field="type", tag="translation"):
    """Where the centre of the first pixel is."""

    translation: _Factors


_Transforms: TypeAlias = Annotated[tuple[Scale | Translation, ...], msgspec.Meta(min_length=1)]


class _Dataset(msgspec.Struct, frozen=True, rename="camel"):
    path: str
    coordinate_transformations: _Transforms


class Multiscale(msgspec.Struct, frozen=True, rename="camel"):
    """One of the objects in ``multiscales``."""

    axes: Annotated[tuple[_Axis, ...], msgspec.Meta(min_length=2, max_length=5)]
    datasets: Annotated[tuple[_Dataset, ...], msgspec.Meta(min_length=1)]
    coordinate_transformations: _Transforms | None = None
    name: str | None = None

    @property
    def scale(self) -> tuple[float, ...]:
        """Factors along the axes of the finest level, those for all levels among them."""
        axes = len(self.axes)
        own = _scale(self.datasets[0].coordinate_transformations, axes)
        common = _scale(self.coordinate_transformations or (), axes)
        return tuple(a * b for a, b in zip(own, common, strict=True))

    @property
    def translation(self) -> tuple[float, ...] | None:
        """Where the first pixel of the finest level is along the axes; None if nothing says it."""
        axes = len(self.axes)
        own = _translation(self.datasets[0].coordinate_transformations, axes)
        common = _translation(self.coordinate_transformations or (), axes)
        if own is None and common is None:
            return None
        # first those of the level, then those for all levels
        scale = _scale(self.coordinate_transformations or (), axes)
        nowhere = (0.0,) * axes
        return tuple(
            a * factor + b
            for a, factor, b in zip(own or nowhere, scale, common or nowhere, strict=True)
        )


class _Window(msgspec.Struct, frozen=True):
    min: float
    max: float
    start: float
    end: float


class Channel(msgspec.Struct, frozen=True):
    """One of the objects in ``omero.channels``."""

    window: _Window | None = None
    color: str | None = None
    label: str | None = None
    family: str | None = None
    active: bool | None = None


class Omero(msgspec.Struct, frozen=True):
    """The object ``omero``."""

    channels: tuple[Channel, ...]


class _Color(msgspec.Struct, frozen=True, rename="kebab"):
    label_value: float
    rgba: tuple[_Byte, _Byte, _Byte, _Byte] | None = None


class _Property(msgspec.Struct, frozen=True, rename="kebab"):
    label_value: int


class _Source(msgspec.Struct, frozen=True):
    image: str | None = None


class _ImageLabel(msgspec.Struct, frozen=True):
    colors: Annotated[tuple[_Color, ...], msgspec.Meta(min_length=1)] | None = None
    properties: Annotated[tuple[_Property, ...], msgspec.Meta(min_length=1)] | None = None
    source: _Source | None = None


_Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


def metadata_problems(
    attributes: Mapping[str, Any], *, version: OmeVersion | None = None, strict: bool = False
) -> tuple[Problem, ...]:
    """Say what is wrong with the attributes of a group of OME-Zarr.

    Parameters
    ----------
    attributes
        All of them, as they are in ``.zattrs``, or in ``zarr.json`` under ``attributes``.
    version
        Which it is to be; None for 0.5 where there is a key ``ome``, and 0.4 else.
    strict
        Whether what the format recommends is asked for as well.

    Returns
    -------
    tuple of Problem
        None if they are valid. Of each object the first part that has another form than it should
        is named, and if there is none, all that contradicts something else.
    """
    version = version or (OmeVersion.V05 if "ome" in attributes else OmeVersion.V04)
    if version is OmeVersion.V04:
        if "ome" in attributes and not attributes.keys() & set(_CHECKS):
            return (Problem("$.ome", "belongs to OME-Zarr 0.5, in Zarr v3"),)
        return tuple(_problems(attributes, version, "$", strict=strict))
    ome = attributes.get("ome")
    if not isinstance(ome, dict):
        return (Problem("$.ome", "is missing: all that OME-Zarr 0.5 says is in this object"),)
    said = ome.get("version")
    if said != version:
        reason = "is missing" if said is None else f"is {said!r}: 0.4 and 0.5 are known"
        return (Problem("$.ome.version", reason),)
    return tuple(_problems(ome, version, "$.ome", strict=strict))


def _problems(
    ome: Mapping[str, Any], version: OmeVersion, at: str, *, strict: bool
) -> Iterator[Problem]:
    known = [key for key in _CHECKS if key in ome]
    if not known:
        yield Problem(at, f"holds nothing of OME-Zarr {version}: none of {', '.join(_CHECKS)}")
    for key in known:
        for problem in _CHECKS[key](ome[key], version, strict):
            yield Problem(at + "." + key + problem.path, problem.reason)


def _convert(value: object, kind: type[_Struct]) -> _Struct | Problem:
    try:
        return from_plain(value, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        return Problem(path.removesuffix("`"), reason)
    except RecursionError:
        return Problem("", "is nested too deeply")


def _plate_problems(value: object, version: OmeVersion, strict: bool) -> Iterator[Problem]:
    plate = _convert(value, PlateDocument)
    if isinstance(plate, Problem):
        yield plate
        return
    yield from _version_problems(value, version, wanted=strict)
    yield from _twice(".rows", "name", [each.name for each in plate.rows])
    yield from _twice(".columns", "name", [each.name for each in plate.columns])
    yield from _twice(".acquisitions", "id", [each.id for each in plate.acquisitions])
    yield from _twice(".wells", "path", [each.path for each in plate.wells])
    places = [(each.row_index, each.column_index) for each in plate.wells]
    yield from _twice(".wells", "rowIndex and columnIndex", places)
    for number, well in enumerate(plate.wells):
        at = f".wells[{number}]"
        if well.row_index >= len(plate.rows):
            yield Problem(f"{at}.rowIndex", f"is {well.row_index} of {len(plate.rows)} rows")
        elif well.column_index >= len(plate.columns):
            yield Problem(
                f"{at}.columnIndex", f"is {well.column_index} of {len(plate.columns)} columns"
            )
        elif version is OmeVersion.V05:
            path = f"{plate.rows[well.row_index].name}/{plate.columns[well.column_index].name}"
            if well.path != path:
                yield Problem(f"{at}.path", f"is {well.path!r}, its row and column are {path!r}")
    if strict and plate.name is None:
        yield Problem(".name", "is missing, and recommended")
    for number, acquisition in enumerate(plate.acquisitions if strict else ()):
        for key in ("name", "maximumfieldcount"):
            if getattr(acquisition, key) is None:
                yield Problem(f".acquisitions[{number}].{key}", "is missing, and recommended")


def _well_problems(value: object, version: OmeVersion, strict: bool) -> Iterator[Problem]:
    well = _convert(value, WellDocument)
    if isinstance(well, Problem):
        yield well
        return
    yield from _version_problems(value, version, wanted=strict)
    yield from _twice(".images", "path", [each.path for each in well.images])


def _multiscales_problems(value: object, version: OmeVersion, strict: bool) -> Iterator[Problem]:
    if not isinstance(value, list) or not value:
        yield Problem("", "has to be an array of at least one")
        return
    for number, each in enumerate(value):
        multiscale = _convert(each, Multiscale)
        at = f"[{number}]"
        if isinstance(multiscale, Problem):
            yield Problem(at + multiscale.path, multiscale.reason)
            continue
        if version is OmeVersion.V04:
            yield from _moved(_version_problems(each, version, wanted=False), at)
        yield from _moved(_multiscale_problems(multiscale, version), at)
        for key in ("name", "type", "metadata") if strict else ():
            if key not in each:
                yield Problem(f"{at}.{key}", "is missing, and recommended")


def _multiscale_problems(multiscale: Multiscale, version: OmeVersion) -> Iterator[Problem]:
    names = [axis.name for axis in multiscale.axes]
    yield from _twice(".axes", "name", names)
    kinds = [_TYPES_IN_ORDER.get(axis.type or "", 1) for axis in multiscale.axes]
    space = kinds.count(2)
    if not 2 <= space <= 3:
        yield Problem(".axes", f"has {space} axes of type space, there have to be 2 or 3")
    if kinds != sorted(kinds):
        yield Problem(".axes", f"are {names}: they come as time, channel or other, space")
    named = [name for name in names if name in _SPACE]
    if named != sorted(named, key=_SPACE.index):
        yield Problem(".axes", f"are {names}: of space, z comes before y, and y before x")
    for number, axis in enumerate(multiscale.axes):
        # x, y and z are spatial in any store there is; with another type they are a mistake
        if axis.name in _SPACE and axis.type != "space":
            yield Problem(f".axes[{number}].type", f"of {axis.name} has to be space")
    yield from _twice(".datasets", "path", [each.path for each in multiscale.datasets])
    for number, dataset in enumerate(multiscale.datasets):
        at = f".datasets[{number}]"
        if not is_relative(dataset.path):
            yield Problem(f"{at}.path", f"is {dataset.path!r}, which leads out of the image")
        transforms = dataset.coordinate_transformations
        yield from _moved(_transform_problems(transforms, len(names), version), at)
    yield from _transform_problems(multiscale.coordinate_transformations, len(names), version)


def _transform_problems(
    transforms: tuple[Scale | Translation, ...] | None, axes: int, version: OmeVersion
) -> Iterator[Problem]:
    if transforms is None:
        return
    at = ".coordinateTransformations"
    kinds = ["scale" if isinstance(each, Scale) else "translation" for each in transforms]
    if kinds not in (["scale"], ["scale", "translation"]):
        yield Problem(at, f"are {kinds}: there is one scale, and then at most one translation")
    for number, (kind, each) in enumerate(zip(kinds, transforms, strict=True)):
        factors = each.scale if isinstance(each, Scale) else each.translation
        # a valid case of 0.4 has fewer, which can only be those of the last axes
        if len(factors) > axes or (len(factors) < axes and version is OmeVersion.V05):
            yield Problem(f"{at}[{number}].{kind}", f"has {len(factors)} numbers for {axes} axes")
        if not all(map(math.isfinite, factors)):
            yield Problem(f"{at}[{number}].{kind}", f"is not finite: {list(factors)}")
        elif kind == "scale" and not all(factors):
            yield Problem(f"{at}[{number}].{kind}", f"is 0 along an axis: {list(factors)}")


def _omero_problems(value: object, version: OmeVersion, _strict: bool) -> Iterator[Problem]:
    omero = _convert(value, Omero)
    if isinstance(omero, Problem):
        yield omero
        return
    for number, channel in enumerate(omero.channels if version is OmeVersion.V04 else ()):
        for key in ("window", "color"):
            if getattr(channel, key) is None:
                yield Problem(f".channels[{number}].{key}", "is missing")


def _label_problems(value: object, version: OmeVersion, strict: bool) -> Iterator[Problem]:
    label = _convert(value, _ImageLabel)
    if isinstance(label, Problem):
        yield label
        return
    if version is OmeVersion.V04:
        yield from _version_problems(value, version, wanted=strict)
    for key, listed in (("colors", label.colors), ("properties", label.properties)):
        values = [each.label_value for each in listed or ()]
        yield from _twice(f".{key}", "label-value", values)
    if strict and label.colors is None:
        yield Problem(".colors", "is missing, and recommended")


def _names_problems(value: object, _version: OmeVersion, _strict: bool) -> Iterator[Problem]:
    try:
        names = from_plain(value, _Names)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        yield Problem(path.removesuffix("`"), reason)
        return
    yield from _twice("", "name", names)
    for number, name in enumerate(names):
        if not is_relative(name):
            yield Problem(f"[{number}]", f"is {name!r}, which leads elsewhere")


def _bf2raw_problems(value: object, _version: OmeVersion, _strict: bool) -> Iterator[Problem]:
    if value != 3:
        yield Problem("", f"is {value!r}, and has to be 3")


def _version_problems(value: Any, version: OmeVersion, *, wanted: bool) -> Iterator[Problem]:
    said = value.get("version")
    if said is None:
        if wanted and version is OmeVersion.V04:
            yield Problem(".version", "is missing, and recommended")
    elif said != version:
        yield Problem(".version", f"is {str(said)[:40]!r}, in a store of {version}")


def _twice(at: str, what: str, values: Sequence[object]) -> Iterator[Problem]:
    if len(set(values)) != len(values):
        several = [value for value, count in Counter(values).items() if count > 1]
        yield Problem(at, f"{what} {several[0]!r} is there more than once")


def _moved(problems: Iterable[Problem], at: str) -> Iterator[Problem]:
    return (Problem(at + problem.path, problem.reason) for problem in problems)


def _scale(transforms: Iterable[Scale | Translation], axes: int) -> tuple[float, ...]:
    given = next((each.scale for each in transforms if isinstance(each, Scale)), ())
    return (1.0,) * (axes - len(given)) + given


def _translation(transforms: Iterable[Scale | Translation], axes: int) -> tuple[float, ...] | None:
    given = next((each.translation for each in transforms if isinstance(each, Translation)), None)
    return None if given is None else (0.0,) * (axes - len(given)) + given


_Check: TypeAlias = "Callable[[object, OmeVersion, bool], Iterator[Problem]]"
_CHECKS: Mapping[str, _Check] = {
    "plate": _plate_problems,
    "well": _well_problems,
    "multiscales": _multiscales_problems,
    "omero": _omero_problems,
    "labels": _names_problems,
    "image-label": _label_problems,
    "series": _names_problems,
    "bioformats2raw.layout": _bf2raw_problems,
}
