"""What ScanR writes beside its images: ``experiment_descriptor.xml`` and ``metadata.ome.xml``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from openhcs.plates._numbers import whole
from openhcs.plates._wells import parse_well
from openhcs.plates._xml import elements, local_name, read_prolog

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = ["Descriptor", "OmeImage", "OmePlane", "read_descriptor", "read_ome"]

_TO_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}
_TO_S = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "min": 60.0}
_FIELD = re.compile(r"W(\d{1,9})P(\d{1,9})")


@dataclass(slots=True)
class Descriptor:
    """What the descriptor of an experiment says; empty and NaN where it does not.

    Parameters
    ----------
    plate_name
        As typed in.
    rows, columns
        Of the physical plate; 0 when unknown.
    pixel_um
        Side of a pixel.
    delay_s
        Between time points.
    positions_um
        x and y of each position in a well, in their order.
    wells
        Row and column, from 0, by the number of the well, where the descriptor pairs them.
    """

    plate_name: str = ""
    rows: int = 0
    columns: int = 0
    pixel_um: float = math.nan
    delay_s: float = math.nan
    positions_um: list[tuple[float, float]] = field(default_factory=list)
    wells: dict[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class OmePlane:
    """One image of a field, by its numbers from 0.

    Parameters
    ----------
    c, z, t
        From 0.
    path
        As named, relative to the metadata; empty when it is not.
    x_um, y_um, z_um, exposure_s, time_s
        NaN when unknown.
    """

    c: int
    z: int
    t: int
    path: str = ""
    x_um: float = math.nan
    y_um: float = math.nan
    z_um: float = math.nan
    exposure_s: float = math.nan
    time_s: float = math.nan


@dataclass(slots=True, kw_only=True)
class OmeImage:
    """One field of a well.

    Parameters
    ----------
    well, position
        From 1.
    pixel_um
        (y, x); NaN when unknown.
    channels
        Names in the order of their numbers.
    planes
        What it lists.
    """

    well: int
    position: int
    pixel_um: tuple[float, float]
    channels: tuple[str, ...]
    planes: tuple[OmePlane, ...]


def read_descriptor(path: Path) -> Descriptor:
    """Read an experiment's descriptor.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Descriptor
        What it says.

    Raises
    ------
    XmlEntityError
        If it declares an entity.
    XmlError
        If it is damaged.
    OSError
        If it cannot be read.

    Notes
    -----
    LabVIEW writes every value as an element with a ``Name`` and a ``Val``; lists begin with their
    name, and their length is in a ``Dimsize``. Files are Latin-1 without saying so.
    """
    found = Descriptor()
    read_prolog(path)
    section = key = ""
    left = 0
    numbers: list[float] = []
    table: list[str] = []
    for element in elements(path):
        tag, text = local_name(element.tag), (element.text or "").strip()
        match tag:
            case "Name":
                key = text
                if text in {"subposition list", "format typedef"}:
                    section = text
            case "Dimsize" if section == "subposition list" and not numbers:
                left = 2 * (whole(text) or 0)
            case "Val" if text:
                if section == "subposition list" and left > 0:
                    numbers.append(_float(text))
                    left -= 1
                elif key == "well selection table + cDNA":
                    table.append(text)
                elif section == "format typedef" and key in {"Rows", "Columns"}:
                    _lay_out(found, key, text)
                else:
                    _note(found, key, text)
        if tag not in {"Name", "Val"}:
            element.clear()
    found.positions_um = list(zip(numbers[::2], numbers[1::2], strict=False))
    found.wells = _pairs(table)
    return found


def _lay_out(found: Descriptor, key: str, text: str) -> None:
    number = int(text) if text.isdecimal() and len(text) < 4 else 0
    if key == "Rows":
        found.rows = number
    else:
        found.columns = number


def _note(found: Descriptor, key: str, text: str) -> None:
    match key:
        case "plate name":
            found.plate_name = found.plate_name or text
        case "conversion factor um/pixel":
            found.pixel_um = _float(text)
        case "timeloop delay [ms]":
            found.delay_s = _float(text) / 1000


def _pairs(table: list[str]) -> dict[int, tuple[int, int]]:
    """Read number and label of wells, which follow each other."""
    wells: dict[int, tuple[int, int]] = {}
    number: int | None = None
    for text in table:
        if text.isdecimal():
            number = whole(text)
        elif number is not None:
            try:
                wells[number] = parse_well(text)
            except ValueError:
                continue
    return wells


def read_ome(path: Path) -> list[OmeImage]:
    """Read the OME-XML of a plate.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list
        Its fields; images whose identifier names no well and position are left out.

    Raises
    ------
    XmlEntityError
        If it declares an entity.
    XmlError
        If it is damaged.
    OSError
        If it cannot be read.
    """
    images: list[OmeImage] = []
    read_prolog(path)
    for element in elements(path):
        if local_name(element.tag) == "Image":
            place = _FIELD.search(element.get("ID", "")) or _FIELD.search(element.get("Name", ""))
            pixels = next((e for e in element if local_name(e.tag) == "Pixels"), None)
            if place is not None and pixels is not None:
                images.append(_field(pixels, int(place[1]), int(place[2])))
            element.clear()
    return images


def _field(pixels: Element, well: int, position: int) -> OmeImage:
    planes: dict[tuple[int, int, int], OmePlane] = {}
    doubled: list[OmePlane] = []

    def plane(element: Element, prefix: str) -> OmePlane:
        texts = [element.get(prefix + axis, "0") for axis in "CZT"]
        c, z, t = (whole(text) or 0 for text in texts)
        return planes.setdefault((c, z, t), OmePlane(c=c, z=z, t=t))

    names: list[str] = []
    for child in pixels:
        match local_name(child.tag):
            case "Channel":
                names.append(child.get("Name", ""))
            case "TiffData":
                named = next((e for e in child if local_name(e.tag) == "UUID"), None)
                if named is not None:
                    found, path = plane(child, "First"), named.get("FileName", "")
                    if found.path:  # another file for the same plane
                        doubled.append(replace(found, path=path))
                    else:
                        found.path = path
            case "Plane":
                found = plane(child, "The")
                found.x_um, found.y_um, found.z_um = (
                    _scaled(child, f"Position{axis}", _TO_UM, "µm") for axis in "XYZ"
                )
                found.exposure_s = _scaled(child, "ExposureTime", _TO_S, "s")
                found.time_s = _scaled(child, "DeltaT", _TO_S, "s")
    return OmeImage(
        well=well,
        position=position,
        pixel_um=(
            _scaled(pixels, "PhysicalSizeY", _TO_UM, "µm"),
            _scaled(pixels, "PhysicalSizeX", _TO_UM, "µm"),
        ),
        channels=tuple(names),
        planes=(*planes.values(), *doubled),
    )


def _scaled(element: Element, name: str, units: dict[str, float], usual: str) -> float:
    unit = element.get(f"{name}Unit", usual)
    # A reference frame of its own is what stages without calibration give; ScanR means micrometres.
    factor = 1.0 if unit == "reference frame" else units.get(unit, math.nan)
    return _float(element.get(name, "nan")) * factor


def _float(text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
