"""The ``.xdce`` file of an IN Cell plate: what was taken, where, and by which filters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._xml import XmlEntityError, XmlError, elements, local_name, read_prolog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = ["InCellImage", "InCellIndex", "Wavelength", "read_xdce"]

_TO_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wavelength:
    """One way in which images were taken.

    Parameters
    ----------
    name
        The filter, or excitation and emission where they are called differently.
    in_names
        As names of files spell it.
    fused
        Whether the software made it of others; there is nothing to read.
    stacked
        Whether it was taken as a stack; None when the file does not say.
    excitation_nm, emission_nm
        NaN when unknown.
    """

    name: str
    in_names: str
    fused: bool
    stacked: bool | None
    excitation_nm: float
    emission_nm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InCellImage:
    """One image that the file lists; numbers are the vendor's, from 0, but rows and columns from 1.

    Parameters
    ----------
    filename, thumbnail
        As listed.
    row, col, field, wave, z, t
        Where it belongs; None where the file does not say.
    offset_um
        From the middle of the well, y upward; NaN when unknown.
    z_um, exposure_s, time_s
        NaN when unknown.
    """

    filename: str
    thumbnail: str
    row: int | None
    col: int | None
    field: int | None
    wave: int | None
    z: int | None
    t: int | None
    offset_um: tuple[float, float]
    z_um: float
    exposure_s: float
    time_s: float


@dataclass(slots=True)
class InCellIndex:
    """What an ``.xdce`` file says.

    Parameters
    ----------
    application
        Instrument and version of its software.
    plate_name, plate_rows, plate_columns
        Empty and 0 when unknown.
    pixel_um
        (y, x); NaN when unknown.
    binning
        As stated: ``2 X 2``; empty without.
    waves
        By index.
    offsets_um
        Fields by index: x and y from the middle of the well, y upward.
    excluded
        Wells left out on purpose, row and column from 0.
    images
        In the order of the file.
    announced
        How many images it promises; 0 when it does not say.
    broken
        Why it could not be read to its end; empty when it could.
    refused
        Whether it declares an entity and was not read at all.
    """

    application: str = ""
    plate_name: str = ""
    plate_rows: int = 0
    plate_columns: int = 0
    pixel_um: tuple[float, float] = (math.nan, math.nan)
    binning: str = ""
    waves: dict[int, Wavelength] = field(default_factory=dict)
    offsets_um: dict[int, tuple[float, float]] = field(default_factory=dict)
    excluded: set[tuple[int, int]] = field(default_factory=set)
    images: list[InCellImage] = field(default_factory=list)
    announced: int = 0
    broken: str = ""
    refused: bool = False


def read_xdce(path: Path) -> InCellIndex:
    """Read an ``.xdce`` file as far as it goes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    InCellIndex
        With the reason where it breaks.

    Notes
    -----
    Elements are known by their local names. They are cleared as they are used, so that memory
    grows with the images and not with the text.
    """
    index = InCellIndex()
    try:
        read_prolog(path)
        for element in elements(path):
            _take(index, local_name(element.tag), element)
    except XmlEntityError as error:
        index.broken, index.refused = str(error), True
    except XmlError as error:
        index.broken = str(error)
    except OSError as error:
        index.broken = error.strerror or str(error)
    return index


def _take(index: InCellIndex, name: str, element: Element) -> None:
    attributes = element.attrib
    match name:
        case "Application":
            parts = (attributes.get("name", ""), attributes.get("software_version", ""))
            index.application = " ".join(part for part in parts if part)
        case "ObjectiveCalibration":
            factor = _TO_UM.get(attributes.get("unit", "µm").strip(), math.nan)
            height, width = (_number(attributes, f"pixel_{side}") for side in ("height", "width"))
            if height > 0 and width > 0:
                index.pixel_um = height * factor, width * factor
        case "Binning":
            index.binning = attributes.get("value", "").strip()
        case "Plate":
            index.plate_name = attributes.get("name", "")
            index.plate_rows = _integer(attributes, "rows") or 0
            index.plate_columns = _integer(attributes, "columns") or 0
        case "Wavelength":
            number = _integer(attributes, "index")
            index.waves[len(index.waves) if number is None else number] = _wavelength(element)
        case "offset_point":
            number = _integer(attributes, "index")
            place = len(index.offsets_um) if number is None else number
            index.offsets_um[place] = _number(attributes, "x"), _number(attributes, "y")
        case "Exclude":
            row, col = _integer(attributes, "row"), _integer(attributes, "col")
            if row is not None and col is not None:
                index.excluded.add((row - 1, col - 1))
        case "Image":
            index.images.append(_image(element))
            element.clear()
        case "Images":
            index.announced = _integer(attributes, "number") or 0


def _wavelength(element: Element) -> Wavelength:
    filters: dict[str, Mapping[str, str]] = {
        local_name(child.tag): child.attrib for child in element
    }
    excitation = filters.get("ExcitationFilter", {})
    emission = filters.get("EmissionFilter", {})
    names = [part.get("name", "").strip() for part in (excitation, emission)]
    told = [name for name in names if name]
    mode = element.get("imaging_mode", "")
    return Wavelength(
        name=" - ".join(dict.fromkeys(told)),
        in_names=" - ".join(told),
        fused=element.get("fusion_wave", "").lower() == "true",
        stacked=mode.upper().startswith("3") if mode else None,
        excitation_nm=_positive(excitation),
        emission_nm=_positive(emission),
    )


def _image(element: Element) -> InCellImage:
    parts: dict[str, Mapping[str, str]] = {}
    for part in element.iter():
        parts.setdefault(local_name(part.tag), part.attrib)
    identifier = parts.get("Identifier", {})
    offset = parts.get("OffsetFromWellCenter", {})
    taken = _number(element.attrib, "acquisition_time_ms") / 1000
    return InCellImage(
        filename=element.get("filename", ""),
        thumbnail=element.get("thumbnail", ""),
        row=_integer(parts.get("Row", {}), "number"),
        col=_integer(parts.get("Column", {}), "number"),
        field=_integer(identifier, "field_index"),
        wave=_integer(identifier, "wave_index"),
        z=_integer(identifier, "z_index"),
        t=_integer(identifier, "time_index"),
        offset_um=(_number(offset, "x"), _number(offset, "y")),
        z_um=_number(parts.get("FocusPosition", {}), "z"),
        exposure_s=_number(parts.get("Exposure", {}), "time") / 1000,
        time_s=taken,
    )


def _integer(attributes: Mapping[str, str], name: str) -> int | None:
    text = attributes.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _number(attributes: Mapping[str, str], name: str) -> float:
    try:
        value = float(attributes.get(name, "nan"))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _positive(attributes: Mapping[str, str]) -> float:
    value = _number(attributes, "wavelength")
    return value if value > 0 else math.nan
