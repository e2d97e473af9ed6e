"""Rows of an acquisition of MetaXpress Acquire: its tables joined with its protocol and files."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._listed import ListedImages, channel_names
from openhcs.plates._plane import PlaneKind
from openhcs.plates._rows import Row, dense
from openhcs.plates._wells import well_name
from openhcs.plates.formats.hcs_ai._table import row_of_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates.formats.hcs_ai._protocol_file import Protocol
    from openhcs.plates.formats.hcs_ai._table import TableRow

__all__ = ["Experiment", "make_rows"]


@dataclass(slots=True, kw_only=True)
class Experiment:
    """A folder ``experiment`` or ``experiment_z_stack``: its protocol, and rows of its tables."""

    folder: str
    stack: bool
    protocol: Protocol
    listed: list[TableRow]


def make_rows(
    experiments: Sequence[Experiment], files: ListedImages, findings: FindingLog
) -> tuple[list[Row], tuple[str, ...]]:
    """Make the rows of a plate.

    Parameters
    ----------
    experiments
        One, or the one of stacks with the one of projections.
    files
        Joins rows with files.
    findings
        Takes what is odd.

    Returns
    -------
    tuple
        The rows, and the name of each channel.
    """
    listed = [(e, item) for e in experiments for item in e.listed]
    stacked = {item.wavelength for experiment, item in listed if experiment.stack}
    two = len(experiments) > 1
    fields = dense(item.field for _, item in listed)
    channels = dense(item.wavelength for _, item in listed)
    times = dense(item.time for _, item in listed)
    kinds = [
        PlaneKind.UNKNOWN
        if two and not experiment.stack and item.wavelength in stacked
        else PlaneKind.PLANE
        for experiment, item in listed
    ]
    depths = dense(
        item.z for (_, item), kind in zip(listed, kinds, strict=True) if kind == PlaneKind.PLANE
    )
    names = channel_names(
        [
            (
                channels[item.wavelength],
                item.filters or experiment.protocol.filters.get(item.wavelength, ""),
            )
            for experiment, item in listed
        ],
        list(map(str, channels)),
    )
    focus = _focus(listed)
    start = min((item.taken_s for _, item in listed if item.taken_s >= 0), default=math.nan)
    rows = []
    for (experiment, item), kind in zip(listed, kinds, strict=True):
        protocol, channel = experiment.protocol, channels[item.wavelength]
        row = Row(
            well=well_name(item.row, item.col),
            row=item.row,
            col=item.col,
            field=fields[item.field],
            channel=channel,
            z=depths[item.z] if kind == PlaneKind.PLANE else 0,
            t=times[item.time],
            kind=kind.value,
            x_um=item.x_um,
            y_um=item.y_um,
            z_um=focus[_stack(experiment, item)].get(item.z, math.nan),
            pixel_um_y=protocol.pixel_um_y,
            pixel_um_x=protocol.pixel_um_x,
            channel_name=names[channel],
            emission_nm=protocol.emission_nm.get(item.wavelength, math.nan),
            exposure_s=item.exposure_s,
            time_s=item.taken_s - start,
            field_id=str(item.field),
            channel_id=str(item.wavelength),
            z_id=str(item.z),
            t_id=str(item.time),
        )
        files.join(row, experiment.folder, item.name)
        if odd := _disagreement(item):
            findings.add_for(row, "LABEL_MISMATCH", f"{row.path} is named for {odd}.")
        rows.append(row)
    files.check(rows, names)
    return rows, names


_Stack = tuple[str, int, int, int, int, int]


def _stack(experiment: Experiment, item: TableRow) -> _Stack:
    return (experiment.folder, item.row, item.col, item.field, item.wavelength, item.time)


def _focus(listed: Sequence[tuple[Experiment, TableRow]]) -> dict[_Stack, dict[int, float]]:
    """Say where the planes of each stack lie: by the step, else where the stage was.

    The stage's place may be that of the stack for all of its planes; then, without a step, it is
    not known where they are.
    """
    stages: dict[_Stack, dict[int, float]] = defaultdict(dict)
    steps: dict[_Stack, float] = {}
    for experiment, item in listed:
        key = _stack(experiment, item)
        stages[key][item.z] = item.z_um
        steps[key] = experiment.protocol.step_um
    for key, stage in stages.items():
        known = [value for value in stage.values() if not math.isnan(value)]
        if len(stage) > 1 and steps[key] > 0:
            lowest = min(known, default=0.0) - min(stage) * steps[key]
            stages[key] = {z: lowest + z * steps[key] for z in stage}
        elif len(stage) > 1 and len(set(known)) < len(stage):
            stages[key] = dict.fromkeys(stage, math.nan)
    return stages


def _disagreement(item: TableRow) -> str:
    """Say in what the name of an image differs from its table; empty when in nothing."""
    named = row_of_name(item.name)
    if named is None:
        return ""
    pairs = (
        ("row", named.row + 1, item.row + 1),
        ("column", named.col + 1, item.col + 1),
        ("field", named.field, item.field),
        ("wavelength", named.wavelength, item.wavelength),
        ("time point", named.time, item.time),
        ("z", named.z, item.z),
    )
    return ", ".join(f"{what} {a}, listed as {b}" for what, a, b in pairs if a != b)
