"""What needs a look before the numbers are trusted: planes, fields and wells that stand out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from openhcs._words import counted
from openhcs.functions import Outlier, cell_counts, flag_outliers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["FEWEST_OBJECTS", "Flag", "plane_flags", "read_planes", "well_flags"]

Columns = dict[str, "NDArray[Any]"]

FEWEST_OBJECTS: Final = 50
"""Objects below which what is measured of a well's objects is not to be trusted."""

_LIMIT: Final = 5.0
_SATURATED: Final = 0.01
# Below a tenth of what is usual a difference is real on an even plate, but nothing to look at.
_LEAST_CHANGE: Final = 0.1
# Digits of the hashes of versions that took every 32nd row.
_OF_ROWS: Final = 16
_ROWS: Final = "the same in every 32nd row, by an earlier version, as"
_FEATURES: Final = {
    "background": "background",
    "background_gradient": "uneven background",
    "focus_laplacian": "sharpness",
    "focus_slope": "sharpness (spectrum)",
    "mean": "mean level",
    "noise": "noise",
    "p99": "brightest 1 %",
    "saturated_fraction": "saturated share",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Something that a person should look at.

    Attributes
    ----------
    well
        The well; None when it concerns the plate as a whole.
    what
        What stands out, in a few words.
    where
        Fields and z planes; empty when it is the whole well.
    channel
        The channel; empty when it is not one alone.
    value, median
        What it is, and what is usual on this plate; None where no number says it.
    robust_z
        Distance from what is usual in robust standard deviations; None as above.
    """

    well: str | None
    what: str
    where: str = ""
    channel: str = ""
    value: float | None = None
    median: float | None = None
    robust_z: float | None = None


def read_planes(folder: Path, names: Iterable[str], wells: Iterable[str]) -> Columns:
    """Read the image quality of all planes.

    Parameters
    ----------
    folder
        A result folder.
    names
        Folders of it that hold tables of ``measure_image_quality``.
    wells
        Wells to read; one without a table is left out.

    Returns
    -------
    dict
        Columns of one length; empty when nothing was measured.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: list[pa.Table] = []
    wanted = list(wells)
    for name in names:
        for well in wanted:
            path = folder / name / f"{well}.parquet"
            if path.is_file():
                # A file by itself: a folder's name with "=" in it would be read as a column.
                tables.append(pq.ParquetFile(path).read())
    if not tables:
        return {}
    table = pa.concat_tables(tables, promote_options="permissive")
    return {name: _array(table[name]) for name in table.column_names}


def plane_flags(planes: Mapping[str, NDArray[Any]]) -> tuple[Flag, ...]:
    """Name the planes that stand out, those of one well, channel and feature together.

    Parameters
    ----------
    planes
        From `read_planes`.

    Returns
    -------
    tuple of Flag
        Outliers (robust z beyond 5 among planes of the same channel and z, and a tenth away from
        the median or more), fields in which nothing stands out from the background, saturated,
        constant and repeated planes; farthest first. What holds for more than half of a channel is
        one flag of the plate.
    """
    if not planes or not len(planes["well"]):
        return ()
    return (
        *_outliers(planes),
        *_shares(
            planes,
            np.asarray(planes["saturated_fraction"], np.float64) > _SATURATED
            if "saturated_fraction" in planes
            else None,
            "saturated: more than 1 % of the pixels",
        ),
        *_shares(planes, _constant(planes), "constant: all pixels alike"),
        *_shares(planes, _empty_stacks(planes), "empty: nothing stands out from the background"),
        *_repeated(planes),
    )


def well_flags(
    rows: Sequence[Mapping[str, Any]],
    verdict: str = "stitch_verdict",
    why: Mapping[str, str] = MappingProxyType({}),
    fewest_objects: int = FEWEST_OBJECTS,
) -> tuple[Flag, ...]:
    """Name wells by what they say as a whole: stitching, illumination, fields, number of objects.

    Parameters
    ----------
    rows
        Rows of ``wells.parquet`` that are ok.
    verdict
        Column of the stitching verdict.
    why
        By channel, why its illumination was not learned as it should be.
    fewest_objects
        Wells with fewer objects are flagged; once for the plate where they are more than half.
    """
    flags: list[Flag] = []
    for row in rows:
        if row.get(verdict) in {"partly", "stage-only"}:
            accepted = row.get("stitch_accepted_fraction")
            share = "" if accepted is None else f", {accepted:.0%} of the pairs accepted"
            flags.append(Flag(well=row["well"], what=f"stitched {row[verdict]}{share}"))
    flags += _illumination(rows, why)
    known = [row for row in rows if isinstance(row.get("count"), int | float)]
    flags += [Flag(well=row["well"], what="no objects") for row in known if row["count"] == 0]
    flags += [
        Flag(well=row["well"], what=f"{out} of {out + row['fields']} fields left out by a rule")
        for row in rows
        if (out := row.get("fields_excluded"))
    ]
    made = {
        row["well"]: row["fields"] + (row.get("fields_excluded") or 0)
        for row in rows
        if row.get("fields") is not None
    }
    most = max(made.values(), default=0)
    flags += [
        Flag(well=well, what=f"objects of {count} fields; {most} in other wells")
        for well, count in made.items()
        if count < most
    ]
    columns = {
        "well": np.array([row["well"] for row in known]),
        "count": np.array([row["count"] for row in known], np.float64),
    }
    if known:
        flags += [
            _flag(outlier, "number of objects")
            for outlier in flag_outliers(columns, features=["count"], by=(), limit=_LIMIT)
            if _matters(outlier) and outlier.value > 0
        ]
        flags += _too_few(columns, fewest_objects)
    return tuple(flags)


def _too_few(columns: Columns, fewest: int) -> list[Flag]:
    """Flag wells with some objects, but too few for what is measured of them to be trusted."""
    counts = columns["count"]
    few = cell_counts(counts, fewest=fewest).too_few & (counts > 0)
    what = f"fewer than {fewest} objects: what is measured of them is uncertain"
    if few.mean() > 0.5:
        share = f"fewer than {fewest} objects in {few.sum()} of {counted(len(few), 'well')}"
        return [Flag(well=None, what=f"{share}: what is measured of them is uncertain")]
    usual = float(np.median(counts))
    return [
        Flag(well=str(well), what=what, value=float(count), median=usual)
        for well, count in zip(columns["well"][few], counts[few], strict=True)
    ]


def _outliers(planes: Mapping[str, NDArray[Any]]) -> list[Flag]:
    groups: dict[tuple[Any, ...], list[Outlier]] = {}
    for outlier in flag_outliers(planes, limit=_LIMIT):
        if _matters(outlier):
            key = (outlier.well, outlier.channel, outlier.feature)
            groups.setdefault(key, []).append(outlier)
    flags: list[Flag] = []
    for (_, _, feature), found in groups.items():
        where = _places(planes, [outlier.row for outlier in found])
        flags.append(_flag(found[0], _FEATURES.get(feature, feature), where))
    return flags


def _matters(outlier: Outlier) -> bool:
    change = abs(outlier.value - outlier.median)
    return outlier.feature == "saturated_fraction" or change >= _LEAST_CHANGE * abs(outlier.median)


def _flag(outlier: Outlier, what: str, where: str = "") -> Flag:
    return Flag(
        well=outlier.well,
        what=what,
        where=where,
        channel="" if outlier.channel is None else str(outlier.channel),
        value=outlier.value,
        median=outlier.median,
        robust_z=outlier.robust_z,
    )


def _constant(planes: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    return np.asarray(planes["constant"], bool) if "constant" in planes else None


def _empty_stacks(planes: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
    """Give the planes of stacks that are empty from the first z to the last."""
    if "empty" not in planes:
        return None
    keys = list(zip(*_keys(planes, "well", "t", "field", "channel"), strict=True))
    empty = np.asarray(planes["empty"], bool)
    constant = _constant(planes)
    alive = {key for key, is_empty in zip(keys, empty, strict=True) if not is_empty}
    found = np.array([key not in alive for key in keys], bool)
    return found if constant is None else found & ~constant


def _shares(
    planes: Mapping[str, NDArray[Any]], bad: NDArray[np.bool_] | None, what: str
) -> list[Flag]:
    """Flag wells by channel; once for the plate where more than half of a channel is bad."""
    if bad is None or not bad.any():
        return []
    well, channel = _keys(planes, "well", "channel")
    flags: list[Flag] = []
    for name in dict.fromkeys(channel[bad].tolist()):
        of_channel = channel == name
        share = float(bad[of_channel].mean())
        if share > 0.5:
            text = f"{what} ({share:.0%} of the channel's planes)"
            flags.append(Flag(well=None, what=text, channel=str(name)))
            continue
        for each in dict.fromkeys(well[bad & of_channel].tolist()):
            rows = np.flatnonzero(bad & of_channel & (well == each))
            where = _places(planes, rows.tolist())
            flags.append(Flag(well=str(each), what=what, where=where, channel=str(name)))
    return flags


def _repeated(planes: Mapping[str, NDArray[Any]]) -> list[Flag]:
    """Flag planes with the very same pixels as another one; constant ones are no copies."""
    if "content_hash" not in planes:
        return []
    hashes = planes["content_hash"].tolist()
    constant = np.asarray(planes.get("constant", np.zeros(len(hashes))), bool)
    counts = Counter(text for text, same in zip(hashes, constant, strict=True) if not same)
    first: dict[str, int] = {}
    flags: list[Flag] = []
    well, channel = _keys(planes, "well", "channel")
    for row, text in enumerate(hashes):
        if constant[row] or counts[text] < 2:
            continue
        if text not in first:
            first[text] = row
            continue
        other = first[text]
        like = f"{well[other]}, {channel[other]}, {_places(planes, [other])}"
        flags.append(
            Flag(
                well=str(well[row]),
                what=f"{'the same pixels as' if len(text) != _OF_ROWS else _ROWS} {like}",
                where=_places(planes, [row]),
                channel=str(channel[row]),
            )
        )
    return flags


def _illumination(rows: Sequence[Mapping[str, Any]], why: Mapping[str, str]) -> list[Flag]:
    """Flag profiles that are not to be trusted; one flag for the plate where all wells agree."""
    names = dict.fromkeys(name for row in rows for name in row if name.endswith("_confidence"))
    flags: list[Flag] = []
    for name in names:
        poor = [row for row in rows if row.get(name) in {"low", "none"}]
        channel = name.removesuffix("_confidence").removeprefix("illumination_")
        for value in dict.fromkeys(row[name] for row in poor):
            wells = [row for row in poor if row[name] == value]
            fields = wells[0].get(name.replace("_confidence", "_fields"))
            source = f" from {fields:.0f} fields, 50 or more are better" if fields else ""
            what = (
                f"illumination estimated with low confidence{source}"
                if value == "low"
                else "illumination not corrected"
            )
            what += f"; {why[channel]}" if channel in why else ""
            chosen = [None] if len(wells) == len(rows) else [row["well"] for row in wells]
            flags += [Flag(well=well, what=what, channel=channel) for well in chosen]
    return flags


def _places(planes: Mapping[str, NDArray[Any]], rows: Sequence[int], most: int = 4) -> str:
    """Say which fields and z planes rows are, the first ones by name."""
    names = [name for name in ("field", "z", "t") if name in planes]
    varied = [name for name in names if name != "t" or len(np.unique(planes["t"])) > 1]
    texts = dict.fromkeys(
        " ".join(f"{name} {int(planes[name][row])}" for name in varied) for row in sorted(rows)
    )
    shown = [text for text in texts if text]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def _keys(planes: Mapping[str, NDArray[Any]], *names: str) -> list[NDArray[Any]]:
    """Give key columns, empty text where the tables have none."""
    length = len(planes["well"])
    return [np.asarray(planes.get(name, np.full(length, ""))) for name in names]


def _array(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    import pyarrow as pa

    kind, whole = column.type, column.null_count == 0
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    # pyarrow's own conversion imports pandas wherever it is installed: most of a second
    if number and whole:
        numbers: NDArray[Any] = np.from_dlpack(column.combine_chunks())
        return numbers
    values = column.to_pylist()
    if number:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array(values, np.bool_ if pa.types.is_boolean(kind) and whole else np.str_)
