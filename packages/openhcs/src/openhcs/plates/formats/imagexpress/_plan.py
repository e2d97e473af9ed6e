"""The plan of an ImageXpress acquisition: its ``.HTD`` file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openhcs.plates._texts import decoded
from openhcs.plates._wells import well_name

__all__ = ["HtdPlan", "parse_htd"]

# Known keys only: the description is free text and, in some files, runs on into the next key.
_KEY = re.compile(
    r'"(Description|PlateType|TimePoints|ZSeries|ZSteps|ZProjection|XWells|YWells|WellsSelection\d+'
    r"|Sites|XSites|YSites|SiteSelection\d+|Waves|NWavelengths|WaveName\d+|WaveCollect\d+"
    r'|UniquePlateIdentifier|EndFile)"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HtdPlan:
    """What was to be acquired.

    Parameters
    ----------
    rows, columns
        Of the physical plate.
    wells
        Names of the chosen wells.
    sites, time_points, z_steps
        How many; 1 without.
    wave_names
        One per wavelength, in the order of their numbers.
    is_whole
        Whether the file goes on to its ``EndFile``.
    """

    rows: int
    columns: int
    wells: tuple[str, ...]
    sites: int
    time_points: int
    z_steps: int
    wave_names: tuple[str, ...]
    is_whole: bool = True


def parse_htd(raw: bytes) -> HtdPlan:
    """Read an ``.HTD`` file.

    Parameters
    ----------
    raw
        The file.

    Returns
    -------
    HtdPlan
        What it says.

    Raises
    ------
    ValueError
        If it is none, or lacks the size of the plate.

    Notes
    -----
    Latin-1, because descriptions carry the bytes 0x82 0x81 as separators. ``SiteSelection`` is
    absent for one site; ``Waves`` is false for one wavelength although its name is given.
    """
    text = decoded(raw) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else raw.decode("latin-1")
    if '"HTSInfoFile"' not in text[:200]:
        raise ValueError("it does not start with HTSInfoFile")
    values = _values(text)
    rows, columns = _number(values, "YWells", 0), _number(values, "XWells", 0)
    if not (1 <= rows <= 32 and 1 <= columns <= 48):
        raise ValueError(f"it gives a plate of {rows} x {columns} wells")
    wells = tuple(
        well_name(row, col)
        for row in range(rows)
        for col, chosen in enumerate(_switches(values.get(f"WellsSelection{row + 1}", "")))
        if chosen and col < columns
    )
    selection = [
        chosen
        for y in range(_number(values, "YSites", 1))
        for chosen in _switches(values.get(f"SiteSelection{y + 1}", ""))
    ]
    waves = max(1, _number(values, "NWavelengths", 1))
    stacked = _switch(values.get("ZSeries", ""))
    return HtdPlan(
        rows=rows,
        columns=columns,
        wells=wells,
        sites=max(1, sum(selection)),
        time_points=max(1, _number(values, "TimePoints", 1)),
        z_steps=max(1, _number(values, "ZSteps", 1)) if stacked else 1,
        wave_names=tuple(values.get(f"WaveName{wave + 1}", "").strip('"') for wave in range(waves)),
        is_whole='"EndFile"' in text,
    )


def _values(text: str) -> dict[str, str]:
    keys = list(_KEY.finditer(text))
    values: dict[str, str] = {}
    for place, key in enumerate(keys):
        stop = keys[place + 1].start() if place + 1 < len(keys) else len(text)
        value = text[key.end() : stop].lstrip(" ,").split("\n")[0].strip()
        values.setdefault(key[1], value)
    return values


def _number(values: dict[str, str], key: str, default: int) -> int:
    match = re.match(r'"?(\d{1,6})', values.get(key, ""))
    return int(match[1]) if match else default


def _switches(text: str) -> list[bool]:
    return [_switch(part) for part in text.split(",")] if text else []


def _switch(text: str) -> bool:
    return text.strip().strip('"').upper() == "TRUE"
