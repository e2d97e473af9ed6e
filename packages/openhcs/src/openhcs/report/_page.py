"""The report: one HTML file without anything to fetch."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openhcs._words import counted
from openhcs.report import _sketch
from openhcs.report._assay import assay_view
from openhcs.report._doses import dose_views
from openhcs.report._layout import layout_view
from openhcs.report._plate import load_plate_view
from openhcs.report._quality import FEWEST_OBJECTS
from openhcs.report._scores import stand_outs, well_scores, write_scores
from openhcs.report._thumbnails import plate_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.report._assay import AssayView
    from openhcs.report._doses import DoseView
    from openhcs.report._measures import Measure
    from openhcs.report._plate import PlateView, ReportWell
    from openhcs.report._quality import Flag
    from openhcs.report._scores import Scores, StandOut
    from openhcs.report._thumbnails import PlatePictures

__all__ = ["write_report"]

_MOST_ROWS: Final = 200
_MOST_TRACEBACKS: Final = 20
_MOST_MEASURES: Final = 12
_MOST_DOSED: Final = 3
_MOST_FAR: Final = 20
_MOST_CURVES: Final = 48


def write_report(folder: str | Path, *, fewest_objects: int = FEWEST_OBJECTS) -> Path:
    """Write ``report.html`` and ``scores.parquet`` into a result folder, from what is in it.

    Parameters
    ----------
    folder
        A result folder with ``run.json`` and ``wells.parquet``; pictures come from its
        ``plate.zarr``, quality flags from its tables of image quality.
    fewest_objects
        Wells with fewer objects are flagged, and marked in the scores; 0 or more.

    Returns
    -------
    pathlib.Path
        The page. Older files are replaced, each in one step.

    Raises
    ------
    ResultFolderError
        If the folder holds no finished run.
    OSError
        If a file cannot be written.
    ValueError
        If ``fewest_objects`` is below 0.
    """
    import jinja2
    from markupsafe import Markup

    from polystore.files import write_bytes

    folder = Path(folder)
    view = load_plate_view(folder, fewest_objects=fewest_objects)
    pictures = plate_pictures(folder, [well.well for well in view.wells])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("openhcs.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["figure"] = _figure
    values = {well.well: well.values for well in view.wells if well.values}
    assay: AssayView | None = None
    doses: tuple[DoseView, ...] = ()
    if view.platemap is not None:
        assay = assay_view(view.platemap, values, view.measures)
        doses = dose_views(view.platemap, values, _dosed(assay))
    scores, layout = well_scores(view), layout_view(view)
    write_scores(folder / "scores.parquet", view, scores, fewest_objects=fewest_objects)
    flags = [*view.flags, *layout.flags, *(flag for well in view.flagged for flag in well.flags)]
    page = environment.get_template("report.html.j2").render(
        view=view,
        # Our own files, and JSON that cannot end the element it stands in.
        style=Markup(_own("report.css")),
        script=Markup(_own("report.js")),
        data=Markup(_embedded(_data(view, pictures, scores))),
        sentence=_sentence(view),
        summary=_summary(view),
        facts=_facts(view),
        steps=_steps(view),
        flags=flags[:_MOST_ROWS],
        more_flags=len(flags) - _MOST_ROWS,
        failed=view.failed[:_MOST_ROWS],
        most_tracebacks=_MOST_TRACEBACKS,
        stitching=_stitching(view),
        assay=assay,
        layout=layout,
        few=[well.well for well in view.wells if _is_few(well, fewest_objects)],
        fewest_objects=fewest_objects,
        far=_far(view, assay, scores),
        most_far=_MOST_FAR,
        doses=doses,
        sketch=_sketch,
        most_measures=_MOST_MEASURES,
        most_curves=_MOST_CURVES,
    )
    target = folder / "report.html"
    write_bytes(target, page.encode("utf-8"))
    return target


def _own(name: str) -> str:
    return resources.files("openhcs.report").joinpath("templates", name).read_text("utf-8")


def _data(view: PlateView, pictures: PlatePictures, scores: Sequence[Scores]) -> dict[str, Any]:
    """Give what the script draws; values by measure, in the order of the wells."""
    scored = {each.measure.name: each for each in scores}
    return {
        "rows": view.rows,
        "columns": view.columns,
        "channels": [
            {"name": name, "colour": list(colour), "low": _short(low), "high": _short(high)}
            for name, colour, low, high in pictures.channels
        ],
        "measures": [
            {
                "name": measure.name,
                "group": measure.group,
                "label": measure.label,
                "unit": measure.unit,
                "low": measure.low,
                "high": measure.high,
                "least": measure.least,
                "most": measure.most,
                "values": [_short(well.values.get(measure.name)) for well in view.wells],
                **_scored(scored.get(measure.name)),
            }
            for measure in view.measures
        ],
        "wells": [
            {
                "well": well.well,
                "row": well.row,
                "col": well.col,
                "outcome": well.outcome,
                "error": well.error,
                "conditions": dict(well.conditions),
                "words": dict(well.words),
                "flags": [_flag_text(flag) for flag in well.flags],
                "image": pictures.wells.get(well.well),
            }
            for well in view.wells
        ],
    }


def _scored(scores: Scores | None) -> dict[str, Any]:
    """Give what the page scores a measure by: straight lines, and B-scores of two decimals."""
    if scores is None:
        return {}
    found: dict[str, Any] = {"lines": scores.lines}
    if np.isfinite(scores.b_score).any():
        rounded = np.round(scores.b_score, 2).tolist()
        found["b"] = [value if math.isfinite(value) else None for value in rounded]
        found["b_sparse"] = scores.sparse
    return found


def _short(value: float | None) -> float | None:
    """Keep the six digits that a page can show."""
    return None if value is None else float(f"{value:.6g}")


def _embedded(data: Mapping[str, Any]) -> str:
    """Encode JSON so that no text in it can end the script element that holds it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _flag_text(flag: Flag) -> str:
    text = " ".join(part for part in (flag.channel, flag.what) if part)
    if flag.value is not None and flag.median is not None:
        text += f" {_number(flag.value)}, usually {_number(flag.median)}"
    return f"{text} ({flag.where})" if flag.where else text


def _number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


def _figure(value: float, form: str = "") -> str:
    """Write a number; nothing where it is not known."""
    if not math.isfinite(value):
        return ""
    return form % value if form else _number(value)


def _is_few(well: ReportWell, fewest_objects: int) -> bool:
    return well.values.get("count", math.inf) < fewest_objects


def _far(
    view: PlateView, assay: AssayView | None, scores: Sequence[Scores]
) -> list[tuple[Measure, tuple[StandOut, ...]]]:
    """Give the samples that lie far from the others, by the clearest measures of the controls."""
    if assay is None or not assay.controlled:
        return []
    by_name = {each.measure.name: each for each in scores}
    return [(measure, stand_outs(view, by_name[measure.name])) for measure in _dosed(assay)]


def _dosed(assay: AssayView) -> list[Measure]:
    """Choose the measures whose doses are shown: the clearest, with the number of objects.

    Of mean, median and spread of one feature only the clearest is among them.
    """
    features: dict[tuple[str, str], Measure] = {}
    for each in assay.separations:
        name = each.measure.label.partition(",")[0]
        features.setdefault((each.measure.group, name), each.measure)
    counts = [measure for measure in features.values() if measure.group == "Objects"]
    clearest = [measure for measure in features.values() if measure not in counts[:1]]
    return [*clearest[: _MOST_DOSED - len(counts[:1])], *counts[:1]]


def _sentence(view: PlateView) -> str:
    """Say in one sentence how the run went."""
    total = len(view.wells)
    if not total:
        return "The run had no wells."
    if not view.failed:
        return "Every well is done." if total > 1 else "The well is done."
    counts = Counter(well.outcome for well in view.failed)
    parts = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    reason = view.run.get("reason")
    have = "has" if len(view.failed) == 1 else "have"
    return f"{len(view.failed)} of {counted(total, 'well')} {have} no result: {parts}." + (
        f" {reason[0].upper()}{reason[1:]}." if reason else ""
    )


def _summary(view: PlateView) -> str:
    """Say in one line what was imaged, and when it was run."""
    plate, options = view.run.get("plate", {}), view.run.get("options", {})
    pixel = options.get("pixel_um")
    parts = [
        str(plate.get("format") or ""),
        f"{len(view.wells)} of {counted(view.rows * view.columns, 'well')}",
        ", ".join(view.channels),
        f"{pixel[1]:g} µm" if pixel else "",
        str(view.run.get("started") or "").partition("T")[0],
    ]
    return " · ".join(part for part in parts if part)


def _facts(view: PlateView) -> list[tuple[str, str]]:
    run, plate, options = view.run, view.run.get("plate", {}), view.run.get("options", {})
    pixel = options.get("pixel_um")
    workers = options.get("workers")
    facts = [
        ("Plate", str(plate.get("path") or "")),
        ("Format", " ".join(str(plate.get(key) or "") for key in ("format", "format_version"))),
        ("Wells", f"{len(view.wells)} of a {view.rows} x {view.columns} plate"),
        ("Fields", f"{len(options.get('fields', ()))} a well at most"),
        ("Channels", ", ".join(view.channels)),
        ("Pixel size", f"{pixel[0]:g} x {pixel[1]:g} µm" if pixel else "unknown"),
        ("Missing planes", str(options.get("missing") or "")),
        ("Started", str(run.get("started") or "").replace("T", " ").replace("Z", " UTC")),
        (
            "Time",
            _duration(run.get("seconds")) + (f", {counted(workers, 'worker')}" if workers else ""),
        ),
        ("Run", str(run.get("run_id") or "")),
        ("Versions", _versions(run)),
        ("Computer", str(run.get("platform") or "")),
    ]
    facts += [("Note", str(note)) for note in run.get("notes", ())]
    return [(name, value) for name, value in facts if value.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepTime:
    name: str
    seconds: str
    share: float
    parameters: str


def _steps(view: PlateView) -> list[_StepTime]:
    """Give the time of each step, reading and writing, as a part of all of it."""
    io = view.run.get("io_seconds") or {}
    rows = [("reading", io.get("read"), "")]
    rows += [
        (str(step.get("name")), step.get("seconds"), _parameters(step))
        for step in view.run.get("steps", ())
    ]
    rows.append(("writing", io.get("write"), ""))
    known = [(name, float(seconds), text) for name, seconds, text in rows if seconds is not None]
    total = sum(seconds for _, seconds, _ in known)
    return [
        _StepTime(
            name=name, seconds=_duration(seconds), share=100 * seconds / total, parameters=text
        )
        for name, seconds, text in known
        if total > 0
    ]


def _parameters(step: Mapping[str, Any]) -> str:
    given = step.get("parameters") or {}
    return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)


def _stitching(view: PlateView) -> Mapping[str, Any] | None:
    """Sum up the verdicts of stitching; None when nothing was stitched."""
    rows = [well for well in view.wells if "stitch_verdict" in well.words]
    if not rows:
        return None
    residuals = sorted(
        well.values["stitch_residual_95_px"]
        for well in rows
        if "stitch_residual_95_px" in well.values
    )
    return {
        "wells": rows,
        "verdicts": Counter(well.words["stitch_verdict"] for well in rows).most_common(),
        "median": residuals[len(residuals) // 2] if residuals else None,
        "worst": residuals[-1] if residuals else None,
    }


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _versions(run: Mapping[str, Any]) -> str:
    versions = {"Python": run.get("python"), **run.get("versions", {})}
    # 1!0.1.0: the epoch says nothing to a reader.
    return ", ".join(
        f"{name} {str(version).rpartition('!')[2]}" for name, version in versions.items() if version
    )
