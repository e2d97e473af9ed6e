"""The suite finds what it is for: each reader and layout here does one thing wrong."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from openhcs.plates import open_plate
from openhcs.plates.formats.harmony import Harmony
from openhcs.testing import FormatTests, read_truth, synthetic_plate
from openhcs.testing.formats import COMMON_FAULTS, Bench, Injection, Phenix, PlateFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing
    from openhcs.plates.formats import Reading
    from openhcs.testing import FaultKind, PlateSpec
    from openhcs.testing._geometry import TilePlace
    from openhcs.testing.formats._damage import Row as TruthRow


class Careless(Harmony):
    """Harmony's reader, of which something is done to every row, or to what is read as a whole."""

    def __init__(
        self,
        to_row: Callable[[Row], object] | None = None,
        to_reading: Callable[[Reading], Reading] | None = None,
        to_folder: Callable[[Path], object] | None = None,
    ) -> None:
        self._to_row = to_row
        self._to_reading = to_reading
        self._to_folder = to_folder

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        reading = super().read(listing, findings, deep=deep)
        for row in reading.rows:
            if self._to_row is not None:
                self._to_row(row)
        if self._to_folder is not None:
            self._to_folder(listing.root)
        return reading if self._to_reading is None else self._to_reading(reading)


def swap_channels(row: Row) -> None:
    row.channel = 1 - row.channel


def swap_files_of_depths(reading: Reading) -> Reading:
    rows = {(r.well, r.field, r.channel, r.z, r.t): r for r in reading.rows}
    low, high = (rows[reading.rows[0].well, 0, 0, z, 0] for z in (0, 1))
    low.path, high.path = high.path, low.path
    return reading


def point_up(row: Row) -> None:
    row.y_um = -row.y_um


def double_depth(row: Row) -> None:
    row.z_um *= 2


def lose_one(reading: Reading) -> Reading:
    return dataclasses.replace(reading, rows=reading.rows[:-1])


def miscount(reading: Reading) -> Reading:
    files = dataclasses.replace(
        reading.files, planes=reading.files.planes - 1, metadata=reading.files.metadata + 1
    )
    return dataclasses.replace(reading, files=files)


def rename_channels(reading: Reading) -> Reading:
    return dataclasses.replace(reading, channel_names=("ch1", "ch2"))


def enlarge(reading: Reading) -> Reading:
    return dataclasses.replace(reading, plate_rows=16, plate_columns=24)


def leave_a_note(folder: Path) -> None:
    (folder / "Images" / ".index").write_text("kept for later")


@pytest.mark.parametrize(
    ("reader", "test"),
    [
        (Careless(swap_channels), "test_the_index_is_the_table_of_planes"),
        (Careless(to_reading=lose_one), "test_the_index_is_the_table_of_planes"),
        (Careless(to_reading=rename_channels), "test_the_index_is_the_table_of_planes"),
        (Careless(to_reading=enlarge), "test_the_index_is_the_table_of_planes"),
        (Careless(to_reading=swap_files_of_depths), "test_every_stamp_decodes_to_its_row"),
        (Careless(point_up), "test_positions_are_those_of_the_stage"),
        (Careless(double_depth), "test_focus_differs_by_the_step_of_the_stack"),
        (Careless(to_reading=miscount), "test_files_are_each_in_one_class"),
        (Careless(to_folder=leave_a_note), "test_the_plate_is_left_as_it_was"),
    ],
)
def test_a_reader_that_does_one_thing_wrong_is_caught(
    tmp_path_factory: pytest.TempPathFactory, reader: Careless, test: str
) -> None:
    suite = FormatTests()
    suite.layout = Phenix(bom=False)
    truth = suite.whole(tmp_path_factory)
    getattr(suite, test)(tmp_path_factory)
    suite.reader = reader  # type: ignore[misc]  # of this instance alone
    try:
        with pytest.raises(AssertionError):
            getattr(suite, test)(tmp_path_factory)
    finally:
        (truth.folder / "Images" / ".index").unlink(missing_ok=True)


def do_nothing(bench: Bench, row: TruthRow) -> None:
    bench.note("error-record", row)


@dataclass(frozen=True, slots=True)
class Forgetful(Phenix):
    """Lists all but the planes of the second z: a reader cannot know of them."""

    name: ClassVar[str] = "forgetful"
    faults: ClassVar[Mapping[FaultKind, Injection]] = {
        **COMMON_FAULTS,
        "error-record": do_nothing,
    }

    def metadata(
        self, spec: PlateSpec, places: Mapping[str, tuple[TilePlace, ...]]
    ) -> Iterator[PlateFile]:
        for file in Phenix.metadata(self, spec, places):
            yield dataclasses.replace(file, data=file.data.replace(b"p02-ch1", b"p99-ch1"))


def test_a_layout_and_a_reader_that_disagree_are_caught(tmp_path: Path) -> None:
    suite = FormatTests()
    suite.layout = Forgetful()
    with pytest.raises(AssertionError):
        suite.test_plates_full_of_gaps_are_read(tmp_path)
    with pytest.raises(AssertionError):
        suite.test_a_fault_is_one_finding(tmp_path / "fault", "error-record")


def test_a_layout_of_ones_own_makes_plates_in_any_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other processes import this module by its name, wherever the tests were started from.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    truth = synthetic_plate(
        tmp_path / "p",
        format=Forgetful(crlf=False),
        wells=("A01", "B02"),
        grid=(1, 1),
        z=1,
        size_px=48,
        cells_per_field=1,
        processes=2,
    )
    assert truth.spec.format == "forgetful"
    assert len(open_plate(truth.folder, cache=False)) == 4
    assert read_truth(truth.folder).spec == truth.spec
    with pytest.raises(ValueError, match="'forgetful' is no format of synthetic plates"):
        synthetic_plate(tmp_path / "q", format="forgetful")


def test_a_reader_of_ones_own_is_asked_alone_and_its_index_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    truth = synthetic_plate(
        tmp_path / "p", format="phenix", wells=("A01",), grid=(1, 1), z=1, size_px=48
    )
    index = open_plate(truth.folder, format=Careless(to_reading=rename_channels))
    assert index.channel_names == ("ch1", "ch2")
    assert open_plate(truth.folder).channel_names == ("DAPI", "GFP")
    assert len(list((tmp_path / "cache" / "openhcs" / "plates").iterdir())) == 1
