"""Harmony's index file: what it says of plate, channels and images, for all versions seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from openhcs.plates._numbers import whole
from openhcs.plates._wells import MOST_COLUMNS, MOST_ROWS, holds_wells
from openhcs.plates._xml import XmlError, local_name, members, read_prolog

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = ["OF_CHANNEL", "HarmonyImage", "HarmonyIndex", "read_harmony_index", "taken_at"]

_METRES = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "nm": 1e-3}
_LENGTHS = frozenset(
    {"PositionX", "PositionY", "PositionZ", "AbsPositionZ", "ImageResolutionX", "ImageResolutionY"}
)
_NUMBERS = frozenset({"ExposureTime", "MainExcitationWavelength", "MainEmissionWavelength"})
OF_CHANNEL = frozenset(
    {"ImageResolutionX", "ImageResolutionY", "ExposureTime"}
    | {"MainExcitationWavelength", "MainEmissionWavelength"}
)
"""Numbers that are the same for all images of a channel."""

_TEXTS = frozenset(
    {"id", "State", "URL", "Row", "Col", "FieldID", "PlaneID", "TimepointID", "ChannelID", "FlimID"}
    | {"ChannelName", "OrientationMatrix", "AbsTime"}
)
_PLATE = frozenset({"PlateID", "Name", "PlateRows", "PlateColumns"})


@dataclass(slots=True)
class HarmonyImage:
    """One ``Images/Image``: its texts, and its numbers in µm, s and nm."""

    texts: dict[str, str]
    numbers: dict[str, float]

    def integer(self, name: str, default: int | None = None) -> int:
        """Give a whole number.

        Raises
        ------
        ValueError
            If it is absent without a default, or is no number.
        """
        text = self.texts.get(name, "")
        if not text and default is not None:
            return default
        number = whole(text)
        if number is None:
            raise ValueError(f"{name} is {text[:40]!r}")
        return number


@dataclass(slots=True, kw_only=True)
class HarmonyIndex:
    """An index file.

    Parameters
    ----------
    version
        ``V5`` and so on, from the namespace.
    instrument
        ``Phenix``, ``Operetta``, ``Sonata`` …
    plate
        Texts of the plate element.
    wells
        Row and column, 0-based, of the wells that were to be measured.
    images
        In file order.
    entries
        What the maps say of a channel, by its number.
    profiles
        Flat-field text by channel number.
    broken
        Where the file breaks; empty when it is whole.
    """

    version: str = ""
    instrument: str = ""
    plate: dict[str, str] = field(default_factory=dict)
    wells: list[tuple[int, int]] = field(default_factory=list)
    images: list[HarmonyImage] = field(default_factory=list)
    entries: dict[str, HarmonyImage] = field(default_factory=dict)
    profiles: dict[str, str] = field(default_factory=dict)
    broken: str = ""

    def text(self, image: HarmonyImage, name: str) -> str:
        """Give a text of an image or, where it has none, of its channel; empty without."""
        found = image.texts.get(name)
        if found is None:
            entry = self.entries.get(image.texts.get("ChannelID", ""))
            found = entry.texts.get(name) if entry else None
        return found or ""

    def number(self, image: HarmonyImage, name: str) -> float:
        """Give a number of an image or, where it has none, of its channel; NaN without."""
        found = image.numbers.get(name)
        if found is None:
            entry = self.entries.get(image.texts.get("ChannelID", ""))
            found = entry.numbers.get(name) if entry else None
        return math.nan if found is None else found


def read_harmony_index(path: Path) -> HarmonyIndex:
    """Read an index file.

    Parameters
    ----------
    path
        ``Index.idx.xml`` or another of its names.

    Returns
    -------
    HarmonyIndex
        What it says, as far as it can be read.

    Raises
    ------
    XmlEntityError
        If it declares an entity.
    OSError
        If it cannot be read.

    Notes
    -----
    Elements go by their local names: the namespace has changed three times and the elements have
    not. An ``Image`` in ``Images`` is an image; one of a well is a reference.
    """
    index = HarmonyIndex()
    names = _Names()
    try:
        prolog = read_prolog(path)
        index.version = prolog.namespace.rpartition("Harmony")[2][:8]
        for element in members(path, "Images"):
            if names[element.tag].name == "Image":
                index.images.append(_image(element, names))
            else:
                _others(index, element, names)
    except XmlError as error:
        index.broken = str(error)
    return index


class _Tag(NamedTuple):
    """Local name of a tag, and what the text of such an element is."""

    name: str
    is_text: bool
    is_number: bool
    is_length: bool  # and then a number too


class _Names(dict[str, _Tag]):
    """What tags are; worked out once for each."""

    def __missing__(self, tag: str) -> _Tag:
        name = local_name(tag)
        is_length = name in _LENGTHS
        self[tag] = _Tag(name, name in _TEXTS, is_length or name in _NUMBERS, is_length)
        return self[tag]


def _image(element: Element, names: _Names) -> HarmonyImage:
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for child in element:
        name, is_text, is_number, is_length = names[child.tag]
        if is_text:
            texts[name] = (child.text or "").strip()
        elif is_number:
            numbers[name] = _float(child.text)
            if is_length:
                numbers[name] *= _METRES.get(child.get("Unit", "m"), math.nan)
    return HarmonyImage(texts, numbers)


def _others(index: HarmonyIndex, root: Element, names: _Names) -> None:
    """Take what is said beside the images."""
    for element in root.iter():
        match names[element.tag].name:
            case "Entry":
                _entry(index, element, names)
            case "Plate":
                _plate(index, element, names)
            case "InstrumentType":
                index.instrument = (element.text or "").strip()
            case _:
                pass


def _plate(index: HarmonyIndex, element: Element, names: _Names) -> None:
    for child in element:
        name = names[child.tag].name
        well = child.get("id", "")
        if name == "Well" and len(well) == 4 and well.isdecimal():
            place = int(well[:2]) - 1, int(well[2:]) - 1
            if holds_wells(MOST_ROWS, MOST_COLUMNS, [place]):
                index.wells.append(place)
        elif name in _PLATE:
            index.plate.setdefault(name, (child.text or "").strip())


def _entry(index: HarmonyIndex, element: Element, names: _Names) -> None:
    channel = element.get("ChannelID", "")
    found = _image(element, names)
    known = index.entries.setdefault(channel, found)
    if known is not found:
        known.texts.update(found.texts)
        known.numbers.update(found.numbers)
    for child in element:
        if names[child.tag].name == "FlatfieldProfile" and child.text:
            index.profiles[channel] = child.text


def taken_at(text: str) -> float:
    """Read a time stamp.

    Parameters
    ----------
    text
        ISO 8601, with a zone or without.

    Returns
    -------
    float
        Seconds of a fixed clock; NaN without.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
