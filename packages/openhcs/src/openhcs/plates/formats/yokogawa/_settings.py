"""What a Yokogawa measurement says of plate and channels: ``.mrf`` and ``.mes``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._numbers import whole
from openhcs.plates._wells import MOST_COLUMNS, MOST_ROWS, holds_wells
from openhcs.plates._xml import (
    XmlEntityError,
    XmlError,
    check_size,
    elements,
    local_name,
    read_prolog,
    report_unread,
)

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from openhcs.plates._findings import FindingLog

__all__ = ["MOST_BYTES", "ChannelSetting", "Settings", "read_settings"]

MOST_BYTES = 32 << 20
"""Of a file of settings; they have some 100 kB."""

_EMISSION = re.compile(r"(\d{3})")


@dataclass(slots=True)
class ChannelSetting:
    """What is configured for a channel number, whether it was used or not.

    Parameters
    ----------
    name
        Empty without.
    pixel_um_y, pixel_um_x
        NaN when unknown.
    excitation_nm, emission_nm, exposure_s
        NaN when unknown.
    shading
        Name of the shading image; empty without.
    camera
        Its number, as in the name of its dark image; empty when unknown.
    optics
        Numbers of method, objective and filter; each empty when unknown.
    """

    name: str = ""
    pixel_um_y: float = math.nan
    pixel_um_x: float = math.nan
    excitation_nm: float = math.nan
    emission_nm: float = math.nan
    exposure_s: float = math.nan
    shading: str = ""
    camera: str = ""
    optics: tuple[str, str, str] = ("", "", "")


@dataclass(slots=True)
class Settings:
    """The settings of a measurement.

    Parameters
    ----------
    title
        The plate's name, empty without.
    system
        ``CV8000``, ``CQ1`` …; empty without.
    rows, columns
        Of the plate; 0 when unknown.
    fields, planes, times
        So many were planned; 0 when unknown.
    wells
        Row and column, 0-based, of the wells that were to be measured.
    channels
        By the vendor's number.
    """

    title: str = ""
    system: str = ""
    rows: int = 0
    columns: int = 0
    fields: int = 0
    planes: int = 0
    times: int = 0
    wells: set[tuple[int, int]] = field(default_factory=set)
    channels: dict[int, ChannelSetting] = field(default_factory=dict)

    def channel(self, number: int) -> ChannelSetting:
        """Give the setting of a channel, empty where nothing was said."""
        return self.channels.setdefault(number, ChannelSetting())


def read_settings(root: Path, paths: list[str], findings: FindingLog) -> Settings:
    """Read the files of settings, each as far as it goes.

    Parameters
    ----------
    root
        The plate's folder.
    paths
        ``MeasurementDetail.mrf`` and files that end in ``.mes``, relative to it.
    findings
        Takes what cannot be read.

    Returns
    -------
    Settings
        Of all files together.
    """
    settings = Settings()
    lights: dict[str, float] = {}
    for path in paths:
        try:
            check_size(root / path, MOST_BYTES)
            read_prolog(root / path)
            for element in elements(root / path):
                _take(settings, lights, local_name(element.tag), element)
        except (XmlEntityError, XmlError, OSError, ValueError) as error:
            report_unread(findings, path, error)
    return settings


def _take(settings: Settings, lights: dict[str, float], name: str, element: Element) -> None:
    said = {local_name(tag): text.strip() for tag, text in element.attrib.items()}
    match name:
        case "MeasurementDetail":
            settings.title = settings.title or said.get("Title", "")
            settings.system = said.get("TargetSystem", "")
            settings.rows = _whole(said.get("RowCount"))
            settings.columns = _whole(said.get("ColumnCount"))
            settings.fields = _whole(said.get("FieldCount"))
            settings.planes = _whole(said.get("ZCount"))
            settings.times = _whole(said.get("TimePointCount"))
        case "MeasurementSamplePlate":
            settings.title = said.get("Name", "")
        case "MeasurementChannel":
            channel = settings.channel(_whole(said.get("Ch")))
            channel.pixel_um_x = _positive(said.get("HorizontalPixelDimension"))
            channel.pixel_um_y = _positive(said.get("VerticalPixelDimension"))
            channel.shading = said.get("ShadingCorrectionSource", "")
            channel.camera = said.get("CameraNumber", "")
        case "Channel" if "Ch" in said:
            channel = settings.channel(_whole(said["Ch"]))
            channel.name = said.get("Target") or said.get("Fluorophore") or ""
            channel.exposure_s = _positive(said.get("ExposureTime")) / 1000
            channel.optics = (
                said.get("MethodID", ""),
                said.get("ObjectiveID", ""),
                said.get("FilterID", ""),
            )
            emission = _EMISSION.search(said.get("Acquisition", ""))
            channel.emission_nm = float(emission[1]) if emission else math.nan
            used = [(child.text or "").strip() for child in element]
            channel.excitation_nm = next((lights[n] for n in used if n in lights), math.nan)
        case "LightSource":
            lights[said.get("Name", "")] = _positive(said.get("WaveLength"))
        case "TargetWell" if (element.text or "").strip().lower() == "true":
            place = _whole(said.get("Row")) - 1, _whole(said.get("Column")) - 1
            if holds_wells(MOST_ROWS, MOST_COLUMNS, [place]):
                settings.wells.add(place)
        case _:
            pass


def _whole(text: str | None) -> int:
    return whole(text) or 0


def _positive(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if value > 0 else math.nan
