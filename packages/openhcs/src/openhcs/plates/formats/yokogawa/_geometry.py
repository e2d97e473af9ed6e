"""How far a CellVoyager says that the images of its cameras lie from each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._xml import (
    XmlEntityError,
    XmlError,
    check_size,
    elements,
    local_name,
    read_prolog,
    report_unread,
)
from openhcs.plates.formats.yokogawa._settings import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates.formats.yokogawa._settings import Settings

__all__ = ["GEOMETRY", "read_geometry", "report_geometry"]

GEOMETRY = "geometry_parameter.xml"
"""Name of the file, which lies beside the list of images."""

_LEAST_PX = 0.25


@dataclass(frozen=True, slots=True)
class _Affine:
    """``x' = a x + b y + c`` and ``y' = d x + e y + f``, pixels from the upper left one."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def moves(self, x: float, y: float) -> float:
        """Give how far it moves a place, in pixels."""
        along = (self.a - 1) * x + self.b * y + self.c
        down = self.d * x + (self.e - 1) * y + self.f
        return math.hypot(along, down)


def _affine(said: Mapping[str, str]) -> _Affine:
    numbers = [float(said[name]) for name in "ABCDEF"]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"its parameters {numbers} are no displacement")
    return _Affine(*numbers)


def read_geometry(
    root: Path, path: str, findings: FindingLog
) -> Mapping[tuple[str, str, str], _Affine]:
    """Read the affine parameters that are in use.

    Parameters
    ----------
    root
        The plate's folder.
    path
        The file, relative to it.
    findings
        Takes what cannot be read.

    Returns
    -------
    Mapping
        By method, objective and filter, as the settings number them. The camera and filter that
        all others are laid upon has none.
    """
    found: dict[tuple[str, str, str], _Affine] = {}
    try:
        check_size(root / path, MOST_BYTES)
        read_prolog(root / path)
        for element in elements(root / path):
            if local_name(element.tag) != "AffineParameter":
                continue
            said = {local_name(tag): text.strip() for tag, text in element.attrib.items()}
            if said.get("Use", "").lower() != "true":
                continue
            key = (said["MethodID"], said["ObjectiveID"], said["FilterID"])
            found[key] = _affine(said)
    except (XmlEntityError, XmlError, OSError, ValueError) as error:
        report_unread(findings, path, error)
    except KeyError as error:
        findings.add("METADATA_UNREADABLE", f"{path} lacks {error} of a parameter.", path=path)
    return found


def report_geometry(
    geometry: Mapping[tuple[str, str, str], _Affine],
    settings: Settings,
    channels: Iterable[tuple[int, str]],
    rows: Iterable[Row],
    path: str,
    findings: FindingLog,
) -> None:
    """Say which channels are displaced, and how far.

    Parameters
    ----------
    geometry
        As `read_geometry` gives it.
    settings
        Of the channels.
    channels
        The vendor's number and the name of each channel that has images.
    rows
        Of the plate, with their sizes.
    path
        Of the file, relative to the plate.
    findings
        Takes at most one ``GEOMETRY_UNAPPLIED``.

    Notes
    -----
    Neither the file nor anything else in a measurement says whether the parameters lead from the
    camera's image to the right place or back, nor whether the instrument has applied them before
    it stored the images. Wrongly applied they would double what they are to undo, so pixels and
    positions are left as they are, and what the images show decides.
    """
    sizes = {(row.height, row.width) for row in rows if row.height > 0}
    if not sizes:
        return
    height, width = max(sizes)
    told = []
    for number, name in channels:
        affine = geometry.get(settings.channel(number).optics)
        if affine is None:
            continue
        corners = [(x, y) for x in (0, width - 1) for y in (0, height - 1)]
        far = max(affine.moves(*corner) for corner in corners)
        middle = affine.moves((width - 1) / 2, (height - 1) / 2)
        if far >= _LEAST_PX:
            told.append(f"{name} by {middle:.1f} px in the middle and {far:.1f} px in a corner")
    if told:
        findings.add(
            "GEOMETRY_UNAPPLIED",
            f"{path} states how far channels are displaced: {'; '.join(told)}. Pixels are as they "
            "were stored.",
            path=path,
        )
