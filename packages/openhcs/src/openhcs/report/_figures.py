"""Figures of a plate as files: each a PNG, and beside it a CSV with the numbers in it."""

from __future__ import annotations

import base64
import csv
import difflib
import io
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from openhcs._errors import ResultFolderError
from openhcs.plates import Role, roles_of, well_name
from openhcs.report._grid import grid_of, values_of
from openhcs.report._measures import tells_of_the_assay
from openhcs.report._plate import load_plate_view
from openhcs.report._thumbnails import plate_pictures
from polystore import MissingExtraError, PolystoreError
from polystore.files import write_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from openhcs.report._measures import Measure
    from openhcs.report._plate import PlateView, ReportWell

__all__ = ["write_figures"]

_DPI: Final = 120
_GAP_PX: Final = 4
_LONGEST_NAME: Final = 120
_SPREAD: Final = 0.3
"""By which points of a strip lie apart, of the distance between two strips."""


def write_figures(
    folder: str | Path,
    target: str | Path | None = None,
    *,
    measures: Sequence[str] | None = None,
) -> tuple[Path, ...]:
    """Write figures of a finished run: a heatmap of each measure, its controls, and the wells.

    Parameters
    ----------
    folder
        A result folder.
    target
        Where they go; ``figures`` in the result folder by default. Files of the same names are
        replaced, others stay.
    measures
        Columns of ``wells.parquet``; None for all that are numbers.

    Returns
    -------
    tuple of Path
        The pictures: ``heatmap/NAME.png`` by the place on the plate, from the 2nd to the 98th
        percentile of its wells; ``controls/NAME.png`` by the role in the platemap, where it names
        roles; ``wells.png`` with all wells in one contrast. Each has a CSV of the same name.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ResultFolderError
        If the folder holds no finished run, or the figures cannot be written.
    ValueError
        If there is no such measure.
    """
    figure = _figure_maker()
    view = load_plate_view(folder)
    chosen = _chosen(view.measures, measures)
    roles = {} if view.platemap is None else roles_of(view.platemap)
    files = _file_names([measure.name for measure in chosen])
    folder = Path(folder)
    target = folder / "figures" if target is None else Path(target)
    written: list[Path] = []
    try:
        for measure in chosen:
            name = files[measure.name]
            wells = [well for well in view.wells if measure.name in well.values]
            path = target / "heatmap" / f"{name}.png"
            _write(path, _heatmap(figure(), view, measure), _places(measure, wells))
            written.append(path)
            strips = _strips(measure, wells, roles)
            if len(strips) > 1:
                path = target / "controls" / f"{name}.png"
                _write(path, _controls(figure(), measure, strips), _by_role(measure, strips))
                written.append(path)
        montage = _montage(folder, view)
        if montage is not None:
            path = target / "wells.png"
            _write(path, *montage)
            written.append(path)
    except (OSError, PolystoreError) as error:
        message = f"the figures could not be written into {target}: {error}"
        raise ResultFolderError(message) from error
    return tuple(written)


def _figure_maker() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "figures need matplotlib: pip install 'openhcs[figures]'"
        raise MissingExtraError(message) from error
    return Figure


def _chosen(known: Sequence[Measure], names: Sequence[str] | None) -> Sequence[Measure]:
    if names is None:
        return known
    by_name = {measure.name: measure for measure in known}
    for name in names:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            message = f"the wells have no number {name!r}{advice}"
            raise ValueError(message)
    return [by_name[name] for name in dict.fromkeys(names)]


def _file_names(names: Sequence[str]) -> Mapping[str, str]:
    """Give each measure a name that every file system takes, and no two the same."""
    taken: Counter[str] = Counter()
    found: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:_LONGEST_NAME]
        taken[plain.lower()] += 1
        count = taken[plain.lower()]
        found[name] = plain if count == 1 else f"{plain}-{count}"
    return found


def _write(path: Path, picture: bytes, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    write_bytes(path.with_suffix(".csv"), table.getvalue().encode("utf-8"))
    write_bytes(path, picture)


def _title(measure: Measure) -> str:
    unit = f" ({measure.unit})" if measure.unit else ""
    return f"{measure.group}: {measure.label}{unit}"


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def _heatmap(figure: Figure, view: PlateView, measure: Measure) -> bytes:
    values = grid_of(view).plate(values_of(view, measure))
    figure.set_size_inches(1.8 + 0.3 * view.columns, 1.2 + 0.3 * view.rows)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    spread = measure.high > measure.low
    low, high = (measure.low, measure.high) if spread else (measure.low - 0.5, measure.low + 0.5)
    shown = axes.imshow(values, vmin=low, vmax=high, cmap="viridis")
    axes.set_facecolor("0.9")
    axes.set_xticks(range(view.columns), [str(column + 1) for column in range(view.columns)])
    axes.set_yticks(range(view.rows), [well_name(row, 0)[:-2] for row in range(view.rows)])
    axes.tick_params(labelsize=7, length=0, labeltop=True, labelbottom=False)
    axes.set_title(f"{view.name}: {_title(measure)}", fontsize=9)
    figure.colorbar(shown, ax=axes, extend="both" if spread else "neither")
    return _png(figure)


def _places(measure: Measure, wells: Sequence[ReportWell]) -> Iterable[Sequence[object]]:
    yield ("well", "row", "column", measure.name)
    for well in wells:
        yield (well.well, well.row + 1, well.col + 1, repr(well.values[measure.name]))


def _strips(
    measure: Measure, wells: Sequence[ReportWell], roles: Mapping[str, Role]
) -> Mapping[str, Sequence[ReportWell]]:
    """Give the wells of each role that has some, controls first."""
    found: dict[str, list[ReportWell]] = {role.value: [] for role in Role}
    for well in wells:
        if well.well in roles and tells_of_the_assay(measure):
            found[roles[well.well].value].append(well)
    return {role: members for role, members in found.items() if members}


def _controls(
    figure: Figure, measure: Measure, strips: Mapping[str, Sequence[ReportWell]]
) -> bytes:
    figure.set_size_inches(1.5 + 1.1 * len(strips), 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    for place, wells in enumerate(strips.values()):
        values = np.array([well.values[measure.name] for well in wells])
        across = place + _SPREAD * (np.arange(len(values)) / max(1, len(values) - 1) - 0.5)
        axes.plot(across, values, ".", color="0.3", markersize=5)
        axes.hlines(np.median(values), place - _SPREAD, place + _SPREAD, color="tab:red")
    names = [f"{role}\n({len(wells)})" for role, wells in strips.items()]
    axes.set_xticks(range(len(strips)), names)
    axes.set_xlim(-0.6, len(strips) - 0.4)
    axes.set_title(_title(measure), fontsize=9)
    return _png(figure)


def _by_role(
    measure: Measure, strips: Mapping[str, Sequence[ReportWell]]
) -> Iterable[Sequence[object]]:
    yield ("role", "well", measure.name)
    for role, wells in strips.items():
        for well in wells:
            yield (role, well.well, repr(well.values[measure.name]))


def _montage(folder: Path, view: PlateView) -> tuple[bytes, list[Sequence[object]]] | None:
    """Lay small pictures of the wells out as the plate is; None where no well has an image."""
    import imagecodecs

    pictures = plate_pictures(folder, [well.well for well in view.wells]).wells
    if not pictures:
        return None
    small = {
        well: imagecodecs.jpeg_decode(base64.b64decode(uri.partition(",")[2]))
        for well, uri in pictures.items()
    }
    height, width = (max(each.shape[axis] for each in small.values()) + _GAP_PX for axis in (0, 1))
    canvas: NDArray[np.uint8] = np.full((view.rows * height, view.columns * width, 3), 32, np.uint8)
    rows: list[Sequence[object]] = [("well", "y_px", "x_px", "height_px", "width_px")]
    for well in view.wells:
        if well.well in small:
            picture = small[well.well]
            y, x = well.row * height, well.col * width
            canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
            rows.append((well.well, y, x, *picture.shape[:2]))
    return bytes(imagecodecs.png_encode(canvas)), rows
