"""The report: one HTML file without anything to fetch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from openhcs.report._plate import load_plate_view
from openhcs.report._thumbnails import well_thumbnails

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.report._plate import PlateView

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a result folder, from what is in it.

    Parameters
    ----------
    folder
        A result folder with ``run.json`` and ``wells.parquet``; thumbnails come from its
        ``plate.zarr``.

    Returns
    -------
    pathlib.Path
        The page. An older one is replaced in one step.

    Raises
    ------
    ResultFolderError
        If the folder holds no finished run.
    OSError
        If the page cannot be written.
    """
    import jinja2

    from polystore.backends import write_bytes

    view = load_plate_view(folder)
    thumbnails = well_thumbnails(folder, [well.well for well in view.wells])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("openhcs.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        view=view,
        data=_embedded(_data(view, thumbnails)),
        facts=_facts(view),
        steps=_steps(view),
        troubled=[well for well in view.wells if well.outcome != "ok" or well.flags],
    )
    target = folder / "report.html"
    write_bytes(target, page.encode("utf-8"))
    return target


def _data(view: PlateView, thumbnails: Mapping[str, str]) -> dict[str, Any]:
    return {
        "rows": view.rows,
        "columns": view.columns,
        "measures": [
            {"name": measure.name, "low": measure.low, "high": measure.high}
            for measure in view.measures
        ],
        "wells": [
            {
                "well": well.well,
                "row": well.row,
                "col": well.col,
                "outcome": well.outcome,
                "error": well.error,
                "values": dict(well.values),
                "words": dict(well.words),
                "image": thumbnails.get(well.well),
            }
            for well in view.wells
        ],
    }


def _embedded(data: Mapping[str, Any]) -> str:
    """Encode JSON so that no text in it can end the script element that holds it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _facts(view: PlateView) -> list[tuple[str, str]]:
    plate = view.run.get("plate", {})
    pixel = plate.get("pixel_um")
    facts = [
        ("Plate", str(plate.get("path", ""))),
        ("Format", str(plate.get("format", ""))),
        ("Wells", f"{len(view.wells)} of a {view.rows} x {view.columns} plate"),
        ("Channels", ", ".join(map(str, plate.get("channels", ())))),
        ("Pixel size", f"{pixel[0]:g} x {pixel[1]:g} µm" if pixel else "unknown"),
        ("Started", str(view.run.get("started", ""))),
        ("Time", _duration(view.run.get("seconds"))),
        ("Versions", _versions(view.run.get("versions", {}))),
    ]
    return [(name, value) for name, value in facts if value]


def _steps(view: PlateView) -> list[tuple[str, str]]:
    seconds = view.run.get("step_seconds", {})
    return [(name, _duration(value)) for name, value in seconds.items()]


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(float(seconds), 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
