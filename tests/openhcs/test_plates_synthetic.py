"""Every reader against plates of which all is known: stamps, positions, faults, file classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import PlateTruth, decode_stamp, synthetic_plate
from openhcs.testing._faults import FaultKind
from openhcs.testing._spec import PlateFormat

if TYPE_CHECKING:
    from pathlib import Path

FORMATS: tuple[PlateFormat, ...] = get_args(PlateFormat)
READERS = {
    "imagexpress": "imagexpress",
    "imagexpress-database": "imagexpress-database",
    "phenix": "harmony",
}
FAULTS = [
    (layout, kind)
    for layout in FORMATS
    for kind in get_args(FaultKind)
    if kind not in {"path-escape", "unlisted-file"} or layout == "phenix"
]


def make(
    folder: Path,
    layout: PlateFormat,
    faults: tuple[FaultKind, ...] = (),
    *,
    z: int = 2,
    t: int = 2,
    exact: bool = False,
) -> PlateTruth:
    return synthetic_plate(
        folder / "plate",
        format=layout,
        wells=("A01", "C12"),
        grid=(2, 2),
        size_px=(48, 64),
        z=z,
        t=t,
        projections=layout != "phenix" and z > 1,
        cells_per_field=2,
        stamp=True,
        noise=not exact,
        stage_error_px=0.0 if exact else 2.0,
        faults=faults,
        seed=5,
    )


def folder_state(folder: Path) -> dict[str, tuple[int, int, str]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_size,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def planes_of(truth: PlateTruth) -> Counter[tuple[object, ...]]:
    table = {name: values.tolist() for name, values in truth.planes.items()}
    names = ("path", "well", "row", "col", "field", "channel", "z", "t", "kind")
    return Counter(
        row
        for row in zip(*(table[name] for name in names), strict=True)
        if row[-1] in {"plane", "max"}
    )


def rows_of(index: PlateIndex) -> Counter[tuple[object, ...]]:
    return Counter(
        (p.path, p.well, p.row, p.col, p.field, p.channel, p.z, p.t, p.kind) for p in index
    )


@pytest.fixture(scope="module", params=FORMATS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    return make(tmp_path_factory.mktemp(request.param), request.param)


def test_the_index_is_the_table_of_planes(whole: PlateTruth) -> None:
    index = open_plate(whole.folder, cache=False)
    assert index.format == READERS[whole.spec.format]
    assert rows_of(index) == planes_of(whole)
    assert index.wells == whole.spec.wells
    assert index.channel_names == whole.spec.channels
    assert index.pixel_um == pytest.approx((0.65, 0.65))
    assert index.dtype == np.uint16
    assert {plane.shape for plane in index} == {(48, 64)}
    assert all(finding.severity == "info" for finding in index.findings)


def test_every_stamp_decodes_to_its_row(whole: PlateTruth) -> None:
    index = open_plate(whole.folder, cache=False)
    for plane in index.select(kind=None):
        stamp = decode_stamp(index.read(plane))
        key = stamp.key
        assert (key.row, key.col, key.field) == (plane.row, plane.col, plane.field)
        assert (key.channel, key.z, key.t) == (plane.channel, plane.z, plane.t)
        assert key.kind == plane.kind


def test_positions_are_those_of_the_stage(whole: PlateTruth) -> None:
    tiles = {
        (well, field): (x, y)
        for well, field, x, y in zip(
            *(whole.tiles[name].tolist() for name in ("well", "field", "stage_x_um", "stage_y_um")),
            strict=True,
        )
    }
    for plane in open_plate(whole.folder, cache=False):
        x, y = tiles[plane.well, plane.field]
        assert plane.x_um == pytest.approx(x, abs=0.01)
        assert plane.y_um == pytest.approx(y, abs=0.01)


def test_focus_differs_by_the_step_of_the_stack(whole: PlateTruth) -> None:
    index = open_plate(whole.folder, cache=False).select(t=[0])
    low, high = (index.select(z=[z]).column("z_um") for z in (0, 1))
    np.testing.assert_allclose(high - low, whole.spec.z_step_um, atol=0.01)


def test_files_are_each_in_one_class(whole: PlateTruth) -> None:
    index = open_plate(whole.folder, cache=False)
    on_disk = sum(path.is_file() for path in whole.folder.rglob("*"))
    kinds = Counter(whole.planes["kind"].tolist())
    assert index.files.total == on_disk
    assert index.files.planes == kinds["plane"] + kinds["max"]
    assert index.files.metadata == kinds["metadata"]
    assert index.files.thumbnails == kinds["thumbnail"]


def test_the_plate_is_left_as_it_was(whole: PlateTruth) -> None:
    before = folder_state(whole.folder)
    index = open_plate(whole.folder, cache=False, deep=True)
    index.read(next(iter(index)))
    assert folder_state(whole.folder) == before


def test_a_deep_look_finds_nothing_new_on_a_whole_plate(whole: PlateTruth) -> None:
    shallow, deep = (open_plate(whole.folder, cache=False, deep=deep) for deep in (False, True))
    assert rows_of(shallow) == rows_of(deep)
    assert shallow.findings == deep.findings


def test_the_stored_index_is_equal(
    whole: PlateTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = open_plate(whole.folder)
    assert len(list((tmp_path / "openhcs" / "plates").iterdir())) == 1
    again = open_plate(whole.folder)
    assert again == first
    assert list(again.select())[:3] == list(first.select())[:3]


@pytest.mark.parametrize(("layout", "kind"), FAULTS)
def test_a_fault_is_one_finding(tmp_path: Path, layout: PlateFormat, kind: FaultKind) -> None:
    truth = make(tmp_path, layout, (kind,), t=1)
    index = open_plate(truth.folder, cache=False, deep=True)
    expected = Counter(fault.code for fault in truth.faults)
    found = [finding for finding in index.findings if finding.severity != "info"]
    if (layout, kind) == ("phenix", "corrupt-xml"):  # positions end where the index does
        found = [f for f in found if f.code != "POSITION_MISSING"]
    assert Counter(finding.code for finding in found) == expected
    for fault in truth.faults:
        finding = next(f for f in found if fault.path in f"{f.message} {f.path}" or _at(f, fault))
        if fault.well and finding.well and kind not in {"duplicate-content", "swapped-label"}:
            assert _at(finding, fault)
        assert finding.remedy
    lost = {"missing-plane": "missing", "empty-file": "empty", "truncated": "unreadable"}
    lost |= {"duplicate-key": "conflict", "path-escape": "unreadable"}
    statuses = Counter(index.column("status").tolist())
    assert statuses[lost[kind]] >= 1 if kind in lost else set(statuses) == {"ok"}


def _at(finding: object, fault: object) -> bool:
    return all(
        getattr(finding, name) == getattr(fault, name)
        for name in ("well", "field", "channel", "z", "t")
    )


@pytest.mark.parametrize("layout", FORMATS)
def test_whole_planes_of_a_damaged_plate_stay_usable(tmp_path: Path, layout: PlateFormat) -> None:
    faults: tuple[FaultKind, ...] = ("missing-plane", "empty-file", "truncated", "duplicate-key")
    truth = make(tmp_path, layout, faults, t=1)
    index = open_plate(truth.folder, cache=False, deep=True)
    damaged = {fault.path for fault in truth.faults}
    whole = {row[0] for row in planes_of(truth) if row[0] not in damaged}
    usable = index.select(kind=None)
    assert {plane.path for plane in usable} == whole
    assert all(not np.isnan(plane.x_um) for plane in usable)
    for plane in usable:
        assert decode_stamp(index.read(plane)).key.field == plane.field


def test_the_same_cells_are_read_from_every_format(tmp_path: Path) -> None:
    pixels = {}
    for layout in FORMATS:
        truth = make(tmp_path / layout, layout, t=1, exact=True)
        index = open_plate(truth.folder, cache=False)
        chosen = index.select(wells=["C12"], channels=[1], z=[1])
        pixels[layout] = {round(p.x_um) * 10_000 + round(p.y_um): index.read(p) for p in chosen}
    first, *others = pixels.values()
    for other in others:
        assert other.keys() == first.keys()
        for place, tile in first.items():
            np.testing.assert_array_equal(other[place][1:], tile[1:])  # stamps name the field


def test_a_replaced_row_is_another_plane(whole: PlateTruth) -> None:
    plane = next(iter(open_plate(whole.folder, cache=False)))
    assert replace(plane, z=plane.z + 1).key != plane.key
