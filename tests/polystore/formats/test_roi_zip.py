from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
from hypothesis import assume, given, settings
from tests.polystore.regions.test_rois_imagej import WRITTEN, covered, unpacked

from polystore import (
    Components,
    FormatError,
    Kind,
    Payload,
    Provenance,
    Region,
    RegionKind,
    Regions,
    Table,
    UnreadableError,
)
from polystore.backends import DiskStore
from polystore.formats import Format, RoiZipFormat, standard_formats
from polystore.rois import RoiLimits, read_roi_zip, write_roi_zip
from polystore.testing import FormatTests, assert_equal
from polystore.testing.strategies import payloads

if TYPE_CHECKING:
    from pathlib import Path

ZIP = RoiZipFormat()
SQUARE = [[0.5, 0.5], [0.5, 3.5], [2.5, 3.5], [2.5, 0.5]]


class TestRoiZip(FormatTests):
    def make(self) -> Format:
        return RoiZipFormat()


def written(payload: Payload) -> bytes:
    stream = io.BytesIO()
    ZIP.write(payload, stream)
    return stream.getvalue()


def read(content: bytes, made: RoiZipFormat = ZIP) -> Payload:
    return made.read(io.BytesIO(content), "nuclei.zip")


def payload(regions: Regions, **said: Any) -> Payload:
    return Payload(data=regions, kind=Kind.REGIONS, **said)


def squares(count: int, **columns: Any) -> Regions:
    corners = [np.add(SQUARE, 5 * number) for number in range(count)]
    return Regions.from_polygons(corners, properties=Table(columns))


def commented(note: bytes) -> bytes:
    return note + f"\ncrc32 {zlib.crc32(note):08x}".encode()


def changed(content: bytes, edit: Any = lambda _: None, comment: bytes | None = None) -> bytes:
    """The file with other entries, by name, or another comment."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment if comment is None else comment
    edit(entries)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        archive.comment = comment
    return stream.getvalue()


@settings(max_examples=100, deadline=None)
@given(payloads((Kind.REGIONS,)))
def test_regions_of_any_corners_come_back(made: Payload) -> None:
    assume(ZIP.refusal(made) is None)
    assert_equal(read(written(made)), with_usual_nan(made))


def with_usual_nan(made: Payload) -> Payload:
    """The same with one NaN for all; which NaN it was is not kept."""
    columns = dict(made.regions.properties)
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            columns[name] = np.where(np.isnan(column), np.nan, column).astype(column.dtype)
    table = made.regions.properties
    return replace(
        made, data=replace(made.regions, properties=Table(columns, table.units, table.missing))
    )


def test_every_entry_is_a_roi_and_what_else_is_known_is_the_comment() -> None:
    made = payload(squares(3), components=Components(well="B03", t=4), name="nuclei")
    with zipfile.ZipFile(io.BytesIO(written(made))) as archive:
        assert archive.namelist() == ["1.roi", "2.roi", "3.roi"]
        rois = [roifile.ImagejRoi.frombytes(archive.read(f"{number}.roi")) for number in (1, 2, 3)]
        note, checksum = archive.comment.split(b"\n")
    # where the regions are, in a stack that is open there
    assert [(roi.t_position, roi.z_position) for roi in rois] == [(5, 0)] * 3
    assert json.loads(note)["components"] == {"well": "B03", "t": 4}
    assert checksum == f"crc32 {zlib.crc32(note):08x}".encode()
    assert_equal(read(written(made)), made)
    assert len(read_roi_zip(written(made))) == 3


def test_everybody_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "store" / "B03" / "nuclei.zip"
    DiskStore(tmp_path / "store").store("B03/nuclei.zip", payload(squares(2)))
    rois = roifile.roiread(file)
    assert isinstance(rois, list)
    assert [roi.name for roi in rois] == ["1", "2"]


def test_what_imagej_made_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(WRITTEN):
            archive.writestr(f"{name}.roi", unpacked(name))
    (tmp_path / "RoiSet.zip").write_bytes(stream.getvalue())
    found = DiskStore(tmp_path).load("RoiSet.zip")
    assert found.components == Components()
    for number, name in enumerate(sorted(WRITTEN)):
        kind, pixels, checksum, _ = WRITTEN[name]
        one = found.regions.take([number])
        assert [region.kind for region in one] == [kind]
        assert covered(one) == (pixels, checksum)
    # and what is read can be kept with all that is known by now
    known = replace(
        found, components=Components(well="C04"), provenance=Provenance(sources=("RoiSet.zip",))
    )
    DiskStore(tmp_path).store("C04/nuclei.zip", known)
    assert_equal(DiskStore(tmp_path).load("C04/nuclei.zip"), known)


def test_what_imagej_saves_anew_has_its_regions_and_what_is_known_of_each() -> None:
    made = payload(
        squares(2, area=np.array([1.5, 2.5], np.float32)), components=Components(well="B03", z=2)
    )
    saved = changed(written(made), comment=b"")
    back = read(saved)
    assert back.components == Components()
    assert np.asarray(back.regions.properties["z"]).tolist() == [2, 2]
    assert np.asarray(back.regions.properties["area"]).tolist() == [1.5, 2.5]


def test_a_plane_that_was_changed_in_one_roi_is_a_property() -> None:
    made = payload(squares(2), components=Components(z=2))

    def move(entries: dict[str, bytes]) -> None:
        roi = roifile.ImagejRoi.frombytes(entries["2.roi"])
        roi.z_position = 9
        entries["2.roi"] = roi.tobytes()

    back = read(changed(written(made), move))
    assert back.components == made.components
    assert np.asarray(back.regions.properties["z"]).tolist() == [2, 8]


def test_a_property_goes_before_the_component_of_its_name() -> None:
    table = Table({"t": np.array([7, 0])}, missing={"t": np.array([False, True])})
    made = payload(replace(squares(2), properties=table), components=Components(t=4, channel=1))
    assert_equal(read(written(made)), made)


def test_a_roi_that_is_gone_or_was_added_is_noticed() -> None:
    content = written(payload(squares(3), components=Components(well="B03")))
    gone = changed(content, lambda entries: entries.pop("2.roi"))
    with pytest.raises(UnreadableError, match=r"nuclei\.zip holds 2 regions, .* written with 3"):
        read(gone)
    added = changed(content, lambda entries: entries.update({"9.roi": entries["1.roi"]}))
    with pytest.raises(UnreadableError, match="remove the comment"):
        read(added)
    assert len(read(changed(added, comment=b"made by hand")).regions) == 4


@pytest.mark.parametrize(
    ("regions", "why"),
    [
        (Regions.from_polygons([SQUARE, np.zeros((0, 2))], [7, 8]), "region 1, of label 8, .*corn"),
        (Regions.from_regions([Region.from_mask(9, np.zeros((2, 2)))]), "label 9, .*pixels"),
        (squares(2, note=("", "\ud800")), "column 'note' of region 1 .*Unicode"),
        (
            replace(squares(1), labels=np.array([-(2**63)])),
            "of label -9223372036854775808, has the least",
        ),
    ],
)
def test_regions_that_no_roi_can_be_are_refused_with_their_label_and_what_to_do(
    tmp_path: Path, regions: Regions, why: str
) -> None:
    store = DiskStore(tmp_path)
    store.store("a.zip", payload(squares(1)))
    with pytest.raises(FormatError, match=why):
        store.store("a.zip", payload(regions))
    assert_equal(store.load("a.zip"), payload(squares(1)))
    assert store.keys() == ["a.zip"]


def test_a_refusal_says_which_formats_could() -> None:
    nothing = payload(Regions.from_polygons([np.zeros((0, 2))]))
    with pytest.raises(FormatError, match=r"leave it out.*could hold it here: JSON"):
        standard_formats().to_bytes("a.zip", nothing)
    with pytest.raises(FormatError, match=r"it holds regions.*could hold it here: NPY"):
        standard_formats().to_bytes("a.zip", Payload(data=np.zeros((2, 2))))


def test_what_is_over_a_limit_is_neither_written_nor_read() -> None:
    few = RoiZipFormat(limits=RoiLimits(rois=2))
    with pytest.raises(FormatError, match="3 regions"):
        few.write(payload(squares(3)), io.BytesIO())
    with pytest.raises(UnreadableError, match="may have 2"):
        read(written(payload(squares(3))), few)
    bomb = changed(
        written(payload(squares(1))), lambda entries: entries.update({"b.roi": bytes(2**27)})
    )
    with pytest.raises(UnreadableError, match=r"'b\.roi' has 134217728 bytes"):
        read(bomb)
    much = payload(squares(1), provenance=Provenance(sources=("x" * 1000,) * 66))
    with pytest.raises(FormatError, match="has room for 65535"):
        written(much)


@pytest.mark.parametrize(
    "said",
    [
        b'{"polystore"',
        b'{"polystore": 9, "kind": "regions"}',
        b'{"polystore": 1, "kind": "image", "rois": 1}',
        b'{"polystore": 1, "kind": "regions", "rois": 1, "placed": 5}',
        b'{"polystore": 1, "kind": "regions", "rois": 1, "placed": [[]]}',
        b'{"polystore": 1, "kind": "regions", "rois": 1, "columns": {"area": "O"}}',
        b'{"polystore": 1, "kind": "regions", "rois": 1, "column_units": 5}',
        b'{"polystore": 1, "kind": "regions", "rois": "1"}',
        b'{"polystore": 1, "kind": "regions", "rois": 1, "else": 1}',
    ],
)
def test_a_note_that_cannot_be_is_an_error_that_names_the_file(said: bytes) -> None:
    content = written(payload(squares(1, area=np.array([1.5]))))
    assert read(changed(content, comment=said[1:])).regions == read(content).regions  # not ours
    with pytest.raises(UnreadableError, match="note in it is damaged"):
        read(changed(content, comment=said))
    with pytest.raises(UnreadableError, match=r"nuclei\.zip"):
        read(changed(content, comment=commented(said)))


def test_no_bit_that_flips_is_overlooked() -> None:
    made = payload(squares(2, name=("a", "b")), components=Components(well="B03", t=4), name="n")
    content = written(made)
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        try:
            back = read(bytes(damaged))
        except UnreadableError:
            continue
        assert_equal(back, made)  # as in the time of an entry


def test_what_is_no_region_is_an_error_or_skipped_as_asked() -> None:
    text = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="note", text="hello")
    text.subtype = roifile.ROI_SUBTYPE.TEXT
    stream = io.BytesIO()
    write_roi_zip(squares(2), stream)
    content = changed(stream.getvalue(), lambda entries: entries.update({"t.roi": text.tobytes()}))
    with pytest.raises(UnreadableError, match=r"'t\.roi', 'note', is text.*others='skip'"):
        read(content)
    assert len(read(content, RoiZipFormat(others="skip")).regions) == 2


def test_columns_of_no_regions_come_back() -> None:
    table = Table(
        {"area": np.empty(0, ">f4"), "name": (), "ok": np.empty(0, np.bool_)}, {"area": "µm²"}
    )
    nothing = payload(Regions.from_regions([], properties=table))
    assert_equal(read(written(nothing)), nothing)


def test_a_turned_ellipse_of_many_digits_comes_back_to_the_last_bit() -> None:
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-20, -8], [-20, 8], [20, 8], [20, -8]]) @ turn.T + [1000 / 3, 29_000.1]
    ellipse = Region(kind=RegionKind.ELLIPSE, label=1, rings=(corners.astype(np.float32),))
    made = payload(Regions.from_regions([ellipse]))
    assert_equal(read(written(made)), made)


def test_without_roifile_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['roifile'] = None\n"
        "import io, polystore\n"
        "from polystore.formats import standard_formats\n"
        "regions = polystore.Payload(\n"
        "    data=polystore.Regions.from_polygons([]), kind=polystore.Kind.REGIONS)\n"
        "try:\n    standard_formats().to_bytes('a.zip', regions)\n"
        "except polystore.MissingExtraError as error:\n"
        "    assert 'polystore[rois]' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
