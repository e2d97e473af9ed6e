"""Harmony's ``Assaylayout``: the platemap beside the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.plates._platemap import Platemap
from openhcs.plates._wells import well_name
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

    from openhcs.plates._findings import FindingLog

__all__ = ["read_assay_layout"]

_MOST_BYTES = 64 << 20


def read_assay_layout(root: Path, path: str, findings: FindingLog) -> Platemap | None:
    """Read an assay layout.

    Parameters
    ----------
    root
        The plate's folder.
    path
        The file, relative to it.
    findings
        Takes what is wrong with the file.

    Returns
    -------
    Platemap | None
        One column per layer, one entry per well that has a value in some layer; None when no
        well has one, or the file cannot be read.
    """
    layers: list[tuple[str, dict[tuple[int, int], str]]] = []
    try:
        check_size(root / path, _MOST_BYTES)
        if read_prolog(root / path).root != "AssayLayout":
            return None
        for element in elements(root / path):
            if local_name(element.tag) == "Layer":
                name = ""
                values: dict[tuple[int, int], str] = {}
                for child in element:
                    if local_name(child.tag) == "Name":
                        name = (child.text or "").strip()
                    elif local_name(child.tag) == "Well":
                        cell = {local_name(part.tag): (part.text or "").strip() for part in child}
                        if cell.get("Value"):
                            values[int(cell["Row"]) - 1, int(cell["Col"]) - 1] = cell["Value"]
                layers.append((name, values))
                element.clear()
        places = sorted({place for _, values in layers for place in values})
        wells = {
            well_name(*place): tuple(values.get(place, "") for _, values in layers)
            for place in places
        }
    except (XmlEntityError, XmlError, OSError, KeyError, ValueError) as error:
        report_unread(findings, path, error)
        return None
    if not wells:
        return None
    return Platemap(source=path, columns=tuple(name for name, _ in layers), wells=wells)
