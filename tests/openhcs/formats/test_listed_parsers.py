"""Lists of images and protocols that are anything but what instruments write."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs.plates import well_name
from openhcs.plates.formats.hcs_ai._protocol_file import parse_protocol
from openhcs.plates.formats.hcs_ai._table import read_table, row_of_name
from openhcs.plates.formats.yokogawa._names import record_of_name
from openhcs.plates.formats.yokogawa._records import read_records

if TYPE_CHECKING:
    from pathlib import Path

SPACE = "http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"
NUMBERS = ("FieldIndex", "ZIndex", "TimePoint", "TimelineIndex", "ActionIndex", "Ch")
OURS = ("field", "z", "time_point", "timeline", "action", "channel")
SMALL = st.integers(1, 9999)

records = st.fixed_dictionaries(
    {"Row": st.integers(1, 32), "Column": st.integers(1, 48)},
    optional={
        **dict.fromkeys(NUMBERS, SMALL),
        "Type": st.sampled_from(["IMG", "ERR"]),
        "X": st.floats(-9e4, 9e4),
        "Other": st.from_regex(r"[a-z ]{0,8}", fullmatch=True),
    },
)


def listing(found: list[dict[str, Any]]) -> bytes:
    lines = []
    for number, record in enumerate(found):
        attributes = " ".join(f'bts:{name}="{value}"' for name, value in record.items())
        lines.append(f"<bts:MeasurementRecord {attributes}>{number}.tif</bts:MeasurementRecord>")
    body = "\n".join(lines)
    return f'<bts:MeasurementData xmlns:bts="{SPACE}">\n{body}\n</bts:MeasurementData>\n'.encode()


@settings(max_examples=40, deadline=None)
@given(found=st.lists(records, max_size=6))
def test_every_record_is_read_with_what_it_has(
    tmp_path_factory: Any, found: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "records.mlf"
    path.write_bytes(listing(found))
    read = read_records(path)
    assert not read.broken
    assert not read.nowhere
    for record, said in zip(read.found, found, strict=True):
        assert (record.row + 1, record.col + 1) == (said["Row"], said["Column"])
        assert record.failed == (said.get("Type") == "ERR")
        assert [getattr(record, name) for name in OURS] == [said.get(name) for name in NUMBERS]
        assert record.x_um == said["X"] if "X" in said else record.x_um != record.x_um


@settings(max_examples=40, deadline=None)
@given(found=st.lists(records, min_size=1, max_size=4), share=st.floats(0, 1))
def test_a_list_that_ends_early_gives_what_came_before(
    tmp_path_factory: Any, found: list[dict[str, Any]], share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.mlf"
    whole = listing(found)
    cut = whole[: int(share * (len(whole) - 2))]
    path.write_bytes(cut)
    read = read_records(path)
    assert read.broken
    assert len(read.found) == cut.count(b"</bts:MeasurementRecord>")


names = st.tuples(st.integers(0, 31), st.integers(0, 47), *[SMALL] * 6)


@given(key=names)
def test_names_of_a_cellvoyager_read_back(key: tuple[int, ...]) -> None:
    row, col, t, field, timeline, action, z, channel = key
    name = (
        f"any_A01_name_{well_name(row, col)}_T{t:04d}F{field:03d}L{timeline:02d}"
        f"A{action:02d}Z{z:02d}C{channel:02d}.tif"
    )
    record = record_of_name(name, 0)
    assert record is not None
    assert (record.row, record.col) == (row, col)
    assert [getattr(record, part) for part in OURS] == [field, z, t, timeline, action, channel]


@given(key=names, columns=st.integers(1, 48))
def test_names_of_a_cq1_read_back(key: tuple[int, ...], columns: int) -> None:
    row, col, t, field, _, _, z, channel = key
    col %= columns
    name = f"W{row * columns + col + 1:04d}F{field:04d}T{t:04d}Z{z:03d}C{channel}.png"
    record = record_of_name(f"Projection/{name}", columns)
    assert record is not None
    assert (record.row, record.col, record.field) == (row, col, field)
    assert (record.time_point, record.z, record.channel) == (t, z, channel)
    assert record_of_name(name, 0) is None  # where a row ends nobody knows


@given(key=names)
def test_names_of_an_hcs_ai_read_back(key: tuple[int, ...]) -> None:
    row, col, t, field, wavelength, z, _, _ = key
    name = f"p_t1_A01_t{t}_{well_name(row, col)}_s{field}_w{wavelength}_z{z}.tif"
    found = row_of_name(f"timepoint0/{name}")
    assert found is not None
    assert (found.row, found.col) == (row, col)
    assert (found.time, found.field, found.wavelength, found.z) == (t, field, wavelength, z)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3)
    ),
    max_leaves=6,
)
PARTS = {
    "ImageMetadataFiles": values,
    "PlateId": values,
    "AutoLeadAcquisitionProtocol": st.fixed_dictionaries(
        {},
        optional={
            "ObjectiveCalibration": st.fixed_dictionaries(
                {}, optional={"PixelWidth": values, "PixelHeight": values, "Unit": values}
            )
            | values,
            "Plate": st.fixed_dictionaries({}, optional={"Rows": values, "Columns": values}),
            "Wavelengths": st.lists(
                st.fixed_dictionaries({}, optional={"Index": values, "EmissionFilter": values}),
                max_size=2,
            )
            | values,
            "PlateMap": st.fixed_dictionaries(
                {}, optional={"ZDimensionParameters": values, "TimeSchedule": values}
            ),
            "CollectionComplete": values,
        },
    )
    | values,
}


@settings(max_examples=120, deadline=None)
@given(stack=st.fixed_dictionaries({}, optional=PARTS))
def test_a_protocol_of_anything_is_read_as_far_as_it_makes_sense(stack: dict[str, Any]) -> None:
    data = json.dumps({"ImageStack": stack or {"PlateId": "p"}}).encode()
    protocol = parse_protocol(data)
    assert protocol.rows >= 0
    assert all(isinstance(name, str) and name for name in protocol.tables)
    assert not protocol.pixel_um_x <= 0


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n"),
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.lists(st.integers(0, 9).map(str) | cells, min_size=5, max_size=8)))
def test_a_table_of_anything_places_a_row_or_says_that_it_cannot(
    tmp_path_factory: Any, lines: list[list[str]]
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "table.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["Row", "Column", "Field", "Wavelength", "ImageFileName", "FieldOffsetPointX"])
    writer.writerows(lines)
    path.write_bytes(text.getvalue().encode())
    table = read_table(path)
    kept = [line for line in lines if any(line)]
    assert len(table.rows) <= len(lines)
    assert bool(table.broken) or len(table.rows) == len(kept)
