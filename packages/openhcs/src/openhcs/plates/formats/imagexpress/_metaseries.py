"""The XML that MetaMorph and MetaXpress put into the description of a TIFF file."""

from __future__ import annotations

import html
import math
import re
from dataclasses import dataclass
from datetime import datetime
from xml.parsers import expat

from openhcs.plates._plane import PlaneKind

__all__ = ["MetaSeries", "metaseries_damage", "parse_metaseries"]

# One search over some 6 kB takes 9 µs, a parse of all of it 90; a plate has 20,000 of them. Nothing
# but character references is resolved, so entities that a file declares have no effect.
_PROPERTY = re.compile(
    rb'<(?:custom-)?prop\s+id="(stage-position-[xy]|OffsetFromWellCenterUm[XY]'
    rb"|spatial-calibration-(?:state|units|x|y)|stage-label|z-position|wavelength|_IllumSetting_"
    rb'|Exposure Time|Z Step|Z Projection Method|acquisition-time-local)"'
    rb'\s+type="[^"]*"\s+value="([^"]*)"'
)
_LABEL = re.compile(r"([A-Z]{1,2}\d{2})\s*:\s*Site (\d{1,9})")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_UNITS = {"um": 1.0, "µm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3}
_METHODS = {
    "maximum": PlaneKind.MAX,
    "minimum": PlaneKind.MIN,
    "sum": PlaneKind.SUM,
    "average": PlaneKind.MEAN,
    "mean": PlaneKind.MEAN,
    "best focus": PlaneKind.BEST_FOCUS,
}
_EPOCH = datetime(1970, 1, 1)  # without a zone, as the times are


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaSeries:
    """What one image says about itself; NaN, None and empty text where it says nothing.

    Parameters
    ----------
    offset_um
        Centre of the tile from the centre of the well (x, y), y downward.
    stage_um
        Centre of the tile on the stage (x, y), y downward.
    z_um
        Focus.
    pixel_um
        Size of a pixel (y, x).
    label
        Well and site that the stage was at.
    channel
        Name of the illumination setting.
    emission_nm, exposure_s
        Of the channel.
    time
        When it was taken, local time in s.
    step
        1-based place in the stack, on planes of a stack only.
    projection
        Kind of the projection, on projections only.
    """

    offset_um: tuple[float, float]
    stage_um: tuple[float, float]
    z_um: float
    pixel_um: tuple[float, float]
    label: tuple[str, int] | None
    channel: str
    emission_nm: float
    exposure_s: float
    time: float
    step: int | None
    projection: str | None


def parse_metaseries(description: bytes) -> MetaSeries:
    """Read the description of an image.

    Parameters
    ----------
    description
        Tag 270.

    Returns
    -------
    MetaSeries
        What it says.
    """
    found = {
        key.decode(): value.decode("utf-8", "replace")
        for key, value in _PROPERTY.findall(description)
    }
    label = _LABEL.fullmatch(found.get("stage-label", ""))
    emission = _number(found, "wavelength")
    step = _number(found, "Z Step")
    method = found.get("Z Projection Method")
    return MetaSeries(
        offset_um=(
            _number(found, "OffsetFromWellCenterUmX"),
            _number(found, "OffsetFromWellCenterUmY"),
        ),
        stage_um=(_number(found, "stage-position-x"), _number(found, "stage-position-y")),
        z_um=_number(found, "z-position"),
        pixel_um=_pixel(found),
        label=(label[1], int(label[2])) if label else None,
        channel=html.unescape(found.get("_IllumSetting_", "")),
        emission_nm=emission if emission > 0 else math.nan,
        exposure_s=_exposure(found.get("Exposure Time", "")),
        time=_time(found.get("acquisition-time-local", "")),
        step=int(step) if step >= 0 else None,
        projection=None
        if method is None
        else _METHODS.get(method.lower(), PlaneKind.UNKNOWN).value,
    )


def metaseries_damage(description: bytes) -> str:
    """Say where a description breaks.

    Parameters
    ----------
    description
        Tag 270.

    Returns
    -------
    str
        Empty when it is whole, or is no XML at all: other software writes plain text there.

    Notes
    -----
    Only a description whose angle brackets do not pair is parsed; a damaged one has lost some.
    """
    if not description.startswith(b"<MetaData>"):
        return ""
    if description.count(b"<") == description.count(b">") and description.rstrip().endswith(
        b"</MetaData>"
    ):
        return ""
    try:
        expat.ParserCreate().Parse(description, True)
    except expat.ExpatError as error:
        return str(error)
    return ""


def _number(found: dict[str, str], key: str) -> float:
    text = found.get(key)
    return float(text) if text is not None and _NUMBER.fullmatch(text) else math.nan


def _pixel(found: dict[str, str]) -> tuple[float, float]:
    factor = _UNITS.get(found.get("spatial-calibration-units", "").lower())
    y, x = _number(found, "spatial-calibration-y"), _number(found, "spatial-calibration-x")
    if factor is None or found.get("spatial-calibration-state") == "off" or not (y > 0 and x > 0):
        return math.nan, math.nan
    return y * factor, x * factor


def _exposure(text: str) -> float:
    number, _, unit = text.partition(" ")
    if not _NUMBER.fullmatch(number):
        return math.nan
    return float(number) * {"ms": 1e-3, "s": 1.0, "sec": 1.0, "us": 1e-6}.get(unit, math.nan)


def _time(text: str) -> float:
    for written in (text, text.replace(":", "-", 2)):
        try:
            return (datetime.fromisoformat(written) - _EPOCH).total_seconds()
        except (ValueError, TypeError):  # TypeError: a time zone, which MetaSeries never states
            continue
    return math.nan
