"""The suite that the reader of a format has to pass, on plates of which all is known."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from openhcs.plates import PlateIndex, open_plate
from openhcs.testing._plates import synthetic_plate
from openhcs.testing._stamp import decode_stamp, encode_stamp
from openhcs.testing._truth import PlateTruth, read_truth
from openhcs.testing.formats import ImageXpressExport, quirks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.plates import Finding
    from openhcs.plates.formats import Format
    from openhcs.testing._faults import FaultKind, InjectedFault
    from openhcs.testing.formats import Layout

__all__ = ["FormatTests"]

_SIZES = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))
_PLACE = ("path", "page", "well", "row", "col", "field", "channel", "z", "t", "kind")
_MEMBER = ("well", "field", "channel", "kind", "z", "t")
_LOST: Mapping[str, str] = {
    "missing-plane": "missing",
    "empty-file": "empty",
    "truncated": "unreadable",
    "duplicate-key": "conflict",
    "path-escape": "unreadable",
    "error-record": "error-record",
}

Record: TypeAlias = tuple[object, ...]


class FormatTests:
    """Subclass it in a test module and name the layout; pytest runs the rest.

    Attributes
    ----------
    layout
        Writes the plates. Its `reader` has to index them.
    reader
        A reader of your own; None for the one that a folder's content chooses.
    usual
        Codes of warnings that a sound plate of the layout has.
    consequences
        Codes that a fault brings along besides its own.
    ragged_plates
        So many plates full of gaps are made and read.
    """

    layout: Layout
    reader: ClassVar[Format | None] = None
    usual: ClassVar[frozenset[str]] = frozenset()
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {}
    ragged_plates: ClassVar[int] = 25

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make a test of each fault that the layout can have."""
        if "fault" in metafunc.fixturenames:
            metafunc.parametrize("fault", list(self.layout.faults))

    def plate(self, folder: Path, layout: Layout | None = None, **changes: Any) -> PlateTruth:
        """Make a small plate: two wells with as much as the layout can hold.

        Parameters
        ----------
        folder
            To make it in.
        layout
            Another layout than the suite's.
        changes
            Arguments of `synthetic_plate`.

        Returns
        -------
        PlateTruth
            All about it.
        """
        axes = self.layout.axes
        few: dict[str, Any] = {
            "wells": ("A01", "C12"),
            "grid": (2, 2) if "field" in axes else (1, 1),
            "z": 2 if "z" in axes else 1,
            "t": 2 if "t" in axes else 1,
            "size_px": (48, 64),
            "projections": "max" in self.layout.projections,
            "cells_per_field": 2,
            "stamp": True,
            "seed": 5,
        }
        return synthetic_plate(folder / "plate", format=layout or self.layout, **few | changes)

    def open(self, folder: Path, *, cache: bool = False, deep: bool = False) -> PlateIndex:
        """Index a plate with the reader that is tried."""
        return open_plate(folder, format=self.reader, cache=cache, deep=deep)

    def whole(self, tmp_path_factory: Any) -> PlateTruth:
        """Give a plate without a fault, made once; tests only read it."""
        quirks = hashlib.sha256(repr(quirks_of(self.layout)).encode()).hexdigest()[:8]
        folder: Path = tmp_path_factory.getbasetemp() / f"whole-{self.layout.name}-{quirks}"
        if not folder.exists():
            self.plate(folder)
        return read_truth(folder / "plate")

    def test_the_index_is_the_table_of_planes(self, tmp_path_factory: Any) -> None:
        """Every plane has one row, under its path and page, and the plate is as it is."""
        truth = self.whole(tmp_path_factory)
        index = self.open(truth.folder)
        assert index.format == self.layout.reader
        assert _rows_of(index) == _images_of(truth)
        assert index.wells == truth.spec.wells
        assert {plane.shape for plane in index} == {(48, 64)}
        assert index.dtype == np.dtype(self.layout.dtype)
        self.check_facts(index, truth)

    def check_facts(self, index: PlateIndex, truth: PlateTruth) -> None:
        """Compare what the layout tells of a sound plate, and see that nothing odd is found."""
        lacking = set(self.usual)
        if "channel-name" in self.layout.tells:
            assert index.channel_names == self.layout.channel_names(truth.spec)
        if "plate-size" in self.layout.tells:
            assert (index.rows, index.columns) == (
                truth.spec.plate_rows,
                truth.spec.plate_columns,
            )
        if "pixel-size" in self.layout.tells:
            assert index.pixel_um is not None
            np.testing.assert_allclose(index.pixel_um, truth.spec.pixel_um, rtol=1e-6)
        else:
            assert index.pixel_um is None
            lacking.add("PIXEL_SIZE_MISSING")
        if "position" not in self.layout.tells:
            lacking.add("POSITION_MISSING")
        odd = [f for f in index.findings if f.severity != "info" and f.code not in lacking]
        assert not odd, odd

    def check_planes(self, index: PlateIndex, truth: PlateTruth) -> None:
        """See that the rows are the images of the plate, and their pixels those of the rows."""
        assert _rows_of(index) == _images_of(truth)
        assert _check_stamps(index, truth) == len(index)

    def test_every_stamp_decodes_to_its_row(self, tmp_path_factory: Any) -> None:
        """The pixels that are read for a plane are those that were taken for it."""
        truth = self.whole(tmp_path_factory)
        self.check_planes(self.open(truth.folder), truth)

    def test_positions_are_those_of_the_stage(self, tmp_path_factory: Any) -> None:
        """Within 0.01 µm; unknown ones are unknown, not 0."""
        truth = self.whole(tmp_path_factory)
        self.check_positions(self.open(truth.folder), truth)

    def check_positions(self, index: PlateIndex, truth: PlateTruth) -> None:
        """Compare the positions of all planes, whatever their status."""
        if "position" not in self.layout.tells:
            assert np.isnan(index.column("x_um")).all()
            assert np.isnan(index.column("y_um")).all()
            return
        tiles = dict(_records(truth.tiles, ("well", "field"), ("stage_x_um", "stage_y_um")))
        for plane in index:
            if plane.status == "missing" and np.isnan(plane.x_um):
                continue  # nothing says where a field would have been that was never taken
            x, y = tiles[plane.well, plane.field]
            assert abs(plane.x_um - x) < 0.01, plane
            assert abs(plane.y_um - y) < 0.01, plane

    def test_focus_differs_by_the_step_of_the_stack(self, tmp_path_factory: Any) -> None:
        """Where the format has stacks and says how far their planes are apart."""
        truth = self.whole(tmp_path_factory)
        if truth.spec.z == 1:
            return
        index = self.open(truth.folder).select(t=[0])
        low, high = (index.select(z=[z]).column("z_um") for z in (0, 1))
        if "focus" in self.layout.tells:
            np.testing.assert_allclose(high - low, truth.spec.z_step_um, atol=0.01)
        else:
            assert np.isnan([low, high]).all()

    def test_files_are_each_in_one_class(self, tmp_path_factory: Any) -> None:
        """None is lost, and none counted twice."""
        truth = self.whole(tmp_path_factory)
        index = self.open(truth.folder)
        on_disk = sum(path.is_file() for path in truth.folder.rglob("*"))
        kinds = dict(_records(truth.planes, ("file",), ("kind",)))
        counts = Counter(kind for (kind,) in kinds.values())
        assert index.files.total == on_disk
        assert index.files.metadata == counts["metadata"]
        assert index.files.thumbnails == counts["thumbnail"]
        assert index.files.ignored == counts["ignored"]
        others = counts["metadata"] + counts["thumbnail"] + counts["ignored"]
        assert index.files.planes == len(kinds) - others

    def test_the_plate_is_left_as_it_was(self, tmp_path_factory: Any) -> None:
        """Names, sizes, bytes and times of change, after opening, checking and reading."""
        truth = self.whole(tmp_path_factory)
        before = _folder_state(truth.folder)
        index = self.open(truth.folder, deep=True)
        index.read(next(iter(index)))
        assert _folder_state(truth.folder) == before

    def test_a_deep_look_finds_nothing_new_on_a_whole_plate(self, tmp_path_factory: Any) -> None:
        """What is taken from one header of many is true of all."""
        truth = self.whole(tmp_path_factory)
        shallow, deep = (self.open(truth.folder, deep=deep) for deep in (False, True))
        assert _rows_of(shallow) == _rows_of(deep)
        assert shallow.findings == deep.findings

    def test_the_stored_index_is_equal(
        self, tmp_path_factory: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """An index that was kept says the same as one that is made anew."""
        truth = self.whole(tmp_path_factory)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        first = self.open(truth.folder, cache=True)
        if self.reader is not None:
            return  # its index is never stored
        assert len(list((tmp_path / "openhcs" / "plates").iterdir())) == 1
        again = self.open(truth.folder, cache=True)
        assert again == first
        # As text: an unknown position is NaN, which equals nothing.
        assert list(map(repr, again.select()))[:3] == list(map(repr, first.select()))[:3]

    def test_a_fault_is_one_finding(self, tmp_path: Path, fault: FaultKind) -> None:
        """Of the right code, about the right file; no other plane is lost."""
        truth = self.plate(tmp_path, t=1, faults=(fault,))
        index = self.open(truth.folder, deep=True)
        brought = set(self.consequences.get(fault, ())) | self.usual
        if "pixel-size" not in self.layout.tells:
            brought.add("PIXEL_SIZE_MISSING")
        if "position" not in self.layout.tells:
            brought.add("POSITION_MISSING")
        found = [f for f in index.findings if f.severity != "info" and f.code not in brought]
        assert Counter(f.code for f in found) == Counter(f.code for f in truth.faults), found
        for injected in truth.faults:
            about = [f for f in found if _is_about(f, injected)]
            assert about, (injected, found)
            assert all(finding.remedy for finding in about)
        statuses = Counter(index.column("status").tolist())
        if fault in _LOST:
            assert statuses.pop(_LOST[fault], 0) >= 1
        assert set(statuses) == {"ok"}

    def test_whole_planes_of_a_damaged_plate_stay_usable(self, tmp_path: Path) -> None:
        """All of them, at their places, and no other."""
        faults = [kind for kind in self.layout.faults if kind in _LOST]
        truth = self.plate(tmp_path, t=1, faults=faults)
        index = self.open(truth.folder, deep=True)
        usable = index.select(kind=None)
        assert _rows_of(usable) == _images_of(truth, whole_only=True)
        self.check_positions(usable, truth)
        assert _check_stamps(usable, truth) == len(usable)

    def test_the_same_cells_are_read_from_every_format(self, tmp_path: Path) -> None:
        """Pixel by pixel as from an ImageXpress, in the 8 or 16 bits of the format."""
        sharp = {"t": 1, "noise": False, "stage_error_px": 0.0, "projections": False}
        tiles: list[dict[Record, NDArray[Any]]] = []
        for number, layout in enumerate((self.layout, ImageXpressExport())):
            truth = self.plate(tmp_path / str(number), layout, **sharp)
            index = (self.open if number == 0 else open_plate)(truth.folder, cache=False)
            cells = dict(_records(truth.tiles, ("well", "field"), ("grid_y", "grid_x")))
            tiles.append(
                {(p.channel, p.z, *cells[p.well, p.field], p.well): index.read(p) for p in index}
            )
        mine, theirs = tiles
        assert mine.keys() == theirs.keys()
        for key, pixels in mine.items():
            expected = theirs[key]
            if self.layout.dtype == "uint8":
                expected = np.minimum(expected >> 4, 255)
            np.testing.assert_array_equal(pixels[1:], expected[1:])  # stamps name the field

    def test_plates_of_all_sizes_are_read(self, tmp_path: Path) -> None:
        """From 6 wells to 1536, of which the last is AF48."""
        for rows, columns in _SIZES:
            last = f"{'A' if rows == 32 else ''}{'BDHPF'[_SIZES.index((rows, columns))]}"
            truth = self.plate(
                tmp_path / str(rows),
                wells=("A01", f"{last}{columns:02d}"),
                grid=(1, 1),
                z=1,
                t=1,
                plate_rows=rows,
                plate_columns=columns,
            )
            index = self.open(truth.folder)
            assert index.wells == truth.spec.wells
            self.check_facts(index, truth)
            assert _check_stamps(index, truth) == 4

    def test_plates_full_of_gaps_are_read(self, tmp_path: Path) -> None:
        """Unequal fields, sparse wells, mixed stacks, planes never taken: all there is, no more.

        A plane that nothing names and that the other wells and fields have is missing; where the
        metadata list the planes, one that was never taken is not expected.
        """
        from hypothesis import HealthCheck, Phase, given, settings

        from openhcs.testing.strategies import ragged_plates

        made = Counter[str]()

        @settings(
            max_examples=self.ragged_plates,
            deadline=None,
            # Plates are small as they are; to look for a smaller one takes minutes.
            phases=[phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)],
            suppress_health_check=list(HealthCheck),
        )
        @given(changes=ragged_plates(self.layout))
        def check(changes: dict[str, Any]) -> None:
            made["plates"] += 1
            folder = tmp_path / str(made["plates"])
            truth = synthetic_plate(folder / "plate", format=self.layout, **changes)
            index = self.open(truth.folder)
            there = index.where(
                ~np.isin(index.column("status"), np.array(["missing", "duplicate-content"]))
            )
            assert _rows_of(there) == _images_of(truth)
            assert _check_stamps(there, truth) == len(there)
            missing = set(_members_of(index.select(kind=None, status="missing")))
            assert missing == (set() if self.layout.lists_planes else _expected_missing(truth))
            copies = index.select(kind=None, status="duplicate-content").column("path").tolist()
            assert Counter(copies) == Counter(
                path for path, kind in _pairs(truth.planes, "path", "kind") if kind == "copy"
            )
            self.check_positions(there, truth)

        check()


def _records(
    table: Mapping[str, Any], key: Iterable[str], values: Iterable[str]
) -> Iterable[tuple[Any, Any]]:
    return zip(
        zip(*(table[name].tolist() for name in key), strict=True),
        zip(*(table[name].tolist() for name in values), strict=True),
        strict=True,
    )


def _pairs(table: Mapping[str, Any], first: str, second: str) -> Iterable[tuple[Any, Any]]:
    return zip(table[first].tolist(), table[second].tolist(), strict=True)


def _images_of(truth: PlateTruth, *, whole_only: bool = False) -> Counter[Record]:
    """Count the planes and projections of a plate by what a reader says of them."""
    return Counter(
        place
        for place, (fault, stamp) in _records(truth.planes, _PLACE, ("fault", "stamp"))
        if stamp and not (whole_only and fault)
    )


def _rows_of(index: PlateIndex) -> Counter[Record]:
    columns = [index.column(name).tolist() for name in _PLACE]
    return Counter(zip(*columns, strict=True))


def _members_of(index: PlateIndex) -> Iterable[Record]:
    return zip(*(index.column(name).tolist() for name in _MEMBER), strict=True)


def _expected_missing(truth: PlateTruth) -> set[Record]:
    """Say which planes the others lead one to expect and are not there.

    A channel is expected to have, in each well with any image, every field that it has in some
    well, each with every kind, z and t that it has in some field.
    """
    present: set[Record] = {
        member for member, (stamp,) in _records(truth.planes, _MEMBER, ("stamp",)) if stamp
    }
    wells = {well for well, *_ in present}
    fields = {(channel, field) for _, field, channel, *_ in present}
    members = {(channel, kind, z, t) for _, _, channel, kind, z, t in present}
    expected: set[Record] = {
        (well, field, channel, kind, z, t)
        for well in wells
        for channel, field in fields
        for other, kind, z, t in members
        if other == channel
    }
    return expected - present


def _check_stamps(index: PlateIndex, truth: PlateTruth) -> int:
    """Compare the stamps that are read with those that were written; count them."""
    written = dict(_records(truth.planes, ("path", "page"), ("stamp",)))
    dtype: Literal["uint8", "uint16"] = "uint8" if index.dtype.itemsize == 1 else "uint16"
    count = 0
    for plane in index:
        stamp = decode_stamp(index.read(plane))
        words = encode_stamp(stamp.key, truth.spec.seed, dtype)
        (expected,) = written[plane.path, plane.page]
        assert words.astype(words.dtype.newbyteorder(">")).tobytes().hex() == expected, plane
        count += 1
    return count


def _folder_state(folder: Path) -> dict[str, tuple[int, int, str]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_size,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _is_about(finding: Finding, fault: InjectedFault) -> bool:
    """Whether a finding names the file of a fault, or its plane."""
    if finding.code != fault.code:
        return False
    same = all(
        getattr(finding, name) == getattr(fault, name)
        for name in ("well", "field", "channel", "z", "t")
    )
    return same or bool(fault.path and fault.path in f"{finding.message} {finding.path}")
