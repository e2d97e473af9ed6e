"""The protocol of an acquisition of MetaXpress Acquire, a ``.jdce`` file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from openhcs.plates._texts import decoded

__all__ = ["Protocol", "parse_protocol"]

_LARGEST = 1e12  # beyond what any number here can be
_MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "nm": 1e-3, "m": 1e6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What was asked of the microscope.

    Parameters
    ----------
    plate
        Name, empty without.
    rows, columns
        Of the plate; 0 when unknown.
    tables
        Names of the tables of images.
    pixel_um_y, pixel_um_x
        NaN when unknown.
    filters
        Name of the emission filter by wavelength number.
    emission_nm
        By wavelength number.
    step_um
        Between planes; NaN when unknown.
    planes, times
        So many were planned; 0 when unknown.
    complete
        Whether the acquisition ran to its end; None when unknown.

    Notes
    -----
    The distances of wells and of the first of them from the corner of the plate state µm and are
    mm. They are not read: fields are placed from the middle of their well.
    """

    plate: str = ""
    rows: int = 0
    columns: int = 0
    tables: tuple[str, ...] = ()
    pixel_um_y: float = math.nan
    pixel_um_x: float = math.nan
    filters: dict[int, str] = field(default_factory=dict)
    emission_nm: dict[int, float] = field(default_factory=dict)
    step_um: float = math.nan
    planes: int = 0
    times: int = 0
    complete: bool | None = None


def parse_protocol(data: bytes) -> Protocol:
    """Read a protocol.

    Parameters
    ----------
    data
        The file: JSON in UTF-8, with a byte-order mark or without.

    Returns
    -------
    Protocol
        What it says; what it does not say is unknown.

    Raises
    ------
    ValueError
        If it is no JSON, or no protocol.
    """
    try:
        top = json.loads(decoded(data))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    stack = _part(top, "ImageStack")
    if not stack:
        raise ValueError("it has no ImageStack")
    protocol = _part(stack, "AutoLeadAcquisitionProtocol")
    calibration, plate = _part(protocol, "ObjectiveCalibration"), _part(protocol, "Plate")
    plate_map = _part(protocol, "PlateMap")
    depth, schedule = (_part(plate_map, n) for n in ("ZDimensionParameters", "TimeSchedule"))
    factor = _MICROMETRES.get(str(calibration.get("Unit", "µm")), math.nan)
    filters: dict[int, str] = {}
    emission: dict[int, float] = {}
    for wavelength in _items(protocol.get("Wavelengths")):
        number = wavelength.get("Index")
        if isinstance(number, int):
            found = _part(wavelength, "EmissionFilter")
            filters[number] = str(found.get("Name") or "")
            emission[number] = _positive(found.get("Wavelength"))
    complete = next(
        (
            part["CollectionComplete"]
            for part in (protocol, plate_map, stack, top)
            if isinstance(part.get("CollectionComplete"), bool)
        ),
        None,
    )
    return Protocol(
        plate=str(plate.get("Name") or stack.get("PlateId") or ""),
        rows=_whole(plate.get("Rows")),
        columns=_whole(plate.get("Columns")),
        tables=_table_names(stack.get("ImageMetadataFiles")),
        pixel_um_y=_positive(calibration.get("PixelHeight")) * factor,
        pixel_um_x=_positive(calibration.get("PixelWidth")) * factor,
        filters=filters,
        emission_nm=emission,
        step_um=_positive(depth.get("Step")) if depth.get("Enabled", True) else math.nan,
        planes=_whole(depth.get("NumberOfSlices")) if depth.get("Enabled", True) else 0,
        times=_whole(schedule.get("NumberOfTimepoints")),
        complete=complete,
    )


def _part(parent: Any, name: str) -> dict[str, Any]:
    found = parent.get(name) if isinstance(parent, dict) else None
    return found if isinstance(found, dict) else {}


def _items(found: Any) -> list[dict[str, Any]]:
    """Take a lone object for a list of one."""
    listed = found if isinstance(found, list) else [found]
    return [item for item in listed if isinstance(item, dict)]


def _table_names(found: Any) -> tuple[str, ...]:
    names = []
    for item in found if isinstance(found, list) else [found]:
        name = (item.get("Name") or item.get("FileName")) if isinstance(item, dict) else item
        if isinstance(name, str) and name:
            names.append(name)
    return tuple(names)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _positive(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and 0 < value < _LARGEST else math.nan
