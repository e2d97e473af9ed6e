"""OME-Zarr plates: what wells list, joined with what is on disk, in both versions."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import zarr
from tests.openhcs.formats.ome_zarr_plates import (
    BOTH,
    HEIGHT,
    WIDTH,
    codes,
    every_plane_is_its_own,
    group,
    image,
    plate_document,
    value,
    well_document,
    write_plate,
)

from openhcs._errors import PlaneUnreadableError
from openhcs.plates import open_plate
from openhcs.testing import FormatTests, synthetic_plate
from openhcs.testing.formats import OmeZarr04, OmeZarr05
from polystore.omezarr import (
    Acquisition,
    ChannelMeta,
    ImageMeta,
    ImageSlot,
    ImageWriter,
    PlateLayout,
    create_plate,
    store_problems,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing.formats import FaultKind, Layout


class OmeZarrTests(FormatTests):
    """The suite, but for what counts as a file."""

    ragged_plates = 12

    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "path-escape": frozenset({"METADATA_INVALID"})
    }

    def test_files_are_each_in_one_class(self, tmp_path_factory: Any) -> None:
        truth = self.whole(tmp_path_factory)
        index = open_plate(truth.folder, cache=False)
        documents = sum(kind == "metadata" for kind in truth.planes["kind"].tolist())
        assert index.files.metadata == documents
        assert index.files.planes == len({plane.path for plane in index})
        assert index.files.ignored == index.files.planes  # coarser levels
        assert index.files.named == 0


class TestOmeZarr04(OmeZarrTests):
    layout = OmeZarr04()


class TestOmeZarr05(OmeZarrTests):
    layout = OmeZarr05()


@BOTH
def test_every_plane_is_a_row_and_is_read(tmp_path: Path, version: str) -> None:
    index = open_plate(write_plate(tmp_path / "p.zarr", version, by_zarr=True), cache=False)
    assert (index.format, index.format_version, index.name) == ("ome-zarr", version, "screen 7")
    assert (index.wells, index.rows, index.columns) == (("A01", "B03"), 3, 4)
    assert len(index) == (2 + 3) * 2 * 2 * 3
    assert index.channel_names == ("DAPI", "GFP")
    assert index.pixel_um == (0.65, 0.65)
    assert index.dtype == np.uint16
    assert index.select(wells=["B03"]).fields == (0, 1, 2)
    assert index.select(wells=["A01"]).fields == (0, 1)
    assert not index.findings
    every_plane_is_its_own(index)
    first = next(iter(index.select(wells=["B03"], fields=[1], z=[2], t=[1])))
    assert (first.path, first.field_id, first.time_s, first.z_um) == ("B/3/1", "1", 60.0, 104.0)
    # from the centre of the first pixel to that of the tile
    assert first.x_um == pytest.approx(8.0 + (WIDTH - 1) / 2 * 0.65)
    assert first.y_um == pytest.approx(5.0 + (HEIGHT - 1) / 2 * 0.65)


@BOTH
def test_only_the_chunks_of_a_region_are_read(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    index = open_plate(root, cache=False)
    plane = next(iter(index.select(wells=["A01"], channels=[1], z=[1])))
    level = root / "A" / "1" / "0" / "0"
    chunk = level / ("c/0/1/1/1/0" if version == "0.5" else "0/1/1/1/0")
    chunk.write_bytes(b"\x00 no chunk at all")
    part = index.read(plane, region=(slice(2, 14), slice(0, 16)))
    assert part.shape == (12, 16)
    assert (part == value("A01", 0, 0, 1, 1)).all()
    with pytest.raises(PlaneUnreadableError, match="A/1/0"):
        index.read(plane)


@BOTH
def test_files_are_each_in_one_class(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version, levels=2)
    group(root / "A/1/0/labels", version, {"labels": ["cells"]})
    image(root / "A/1/0/labels/cells", version, names=(), levels=1)
    image(root / "A/1/7", version)
    (root / "A/1/notes.txt").write_text("who put this here")
    index = open_plate(root, cache=False)
    documents = sum(path.name.startswith((".z", "zarr.json")) for path in root.rglob("*"))
    assert index.files.metadata == documents
    assert index.files.planes == 5  # an array is one, however many chunks it has
    assert index.files.ignored == 5 + 1  # coarser levels and labels
    assert index.files.named == 1 + 1
    assert codes(index) == {"UNLISTED_FILE": 1, "UNMATCHED_NAME": 1}
    assert [f.path for f in index.findings] == ["A/1/7", "A/1/notes.txt"]


@BOTH
def test_an_image_without_translation_units_or_channels_has_none(
    tmp_path: Path, version: str
) -> None:
    root = group(tmp_path / "p.zarr", version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    image(root / "A/1/0", version, names=(), unit="parsec", shape=(1, 2, 1))
    index = open_plate(root, cache=False)
    plane = next(iter(index))
    assert math.isnan(plane.x_um)
    assert plane.pixel_um_x is None
    assert math.isnan(plane.z_um)
    assert index.channel_names == ("channel 0", "channel 1")
    assert codes(index) == {"POSITION_MISSING": 1, "PIXEL_SIZE_MISSING": 1}


@pytest.mark.parametrize(
    ("unit", "scale"), [("nanometer", 650.0), ("millimeter", 0.00065), ("meter", 6.5e-7)]
)
def test_units_of_the_axes_are_converted(tmp_path: Path, unit: str, scale: float) -> None:
    root = group(tmp_path / "p.zarr", "0.5", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.5", well_document(("0", 0)))
    image(root / "A/1/0", "0.5", unit=unit, scale=scale, at_um=(1000 * scale, 0.0))
    (plane, *_) = open_plate(root, cache=False)
    assert plane.pixel_um_x == pytest.approx(0.65)
    assert plane.x_um == pytest.approx(650 + (WIDTH - 1) / 2 * 0.65)


def test_positions_that_are_all_the_same_are_not_known(tmp_path: Path) -> None:
    root = group(tmp_path / "p.zarr", "0.5", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.5", well_document(("0", 0), ("1", 0)))
    for field in range(2):
        image(root / f"A/1/{field}", "0.5", field=field, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert np.isnan(index.column("x_um")).all()
    assert codes(index) == {"POSITION_MISSING": 1}


@BOTH
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx"])
def test_images_of_fewer_axes_are_read(tmp_path: Path, version: str, axes: str) -> None:
    root = group(tmp_path / "p.zarr", version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    names = ("DAPI", "GFP") if "c" in axes else ("DAPI",)
    image(root / "A/1/0", version, axes=axes, names=names, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert len(index) == math.prod(dict(zip("tcz", (2, 2, 3), strict=True))[a] for a in axes[:-2])
    every_plane_is_its_own(index)


@BOTH
def test_wells_are_where_their_indices_say_whatever_they_are_called(
    tmp_path: Path, version: str
) -> None:
    root = tmp_path / "p.zarr"
    document = plate_document([("C/1", 0, 0), ("D/1", 1, 0)], rows="CD", columns=1)
    group(root, version, document)
    for row, well in (("C", "A01"), ("D", "B01")):
        group(root / row / "1", version, well_document(("0", 0)))
        image(root / row / "1" / "0", version, well=well, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert index.wells == ("A01", "B01")
    every_plane_is_its_own(index)
    (finding,) = index.findings
    assert finding.code == "LABEL_MISMATCH"
    assert "C01 is A01, D01 is B01" in finding.message


@BOTH
def test_acquisitions_stay_apart_and_number_their_own_fields(tmp_path: Path, version: str) -> None:
    root = tmp_path / "p.zarr"
    runs = [{"id": 7, "name": "second"}, {"id": 4, "name": "first"}]
    group(root, version, plate_document([("A/1", 0, 0)], acquisitions=runs))
    listed = (("x", 4), ("b", 7), ("a", 4), ("c", 7))
    group(root / "A/1", version, well_document(*listed))
    fields = {"x": 0, "a": 1, "b": 0, "c": 1}
    for number, (name, field) in enumerate(fields.items()):
        at_um = (20.0 * number, 0.0)
        image(root / "A/1" / name, version, field=field, shape=(1, 1, 1), names=("A",), at_um=at_um)
    index = open_plate(root, cache=False)
    assert index.acquisitions == (0, 1)
    said = {plane.field_id: (plane.acquisition, plane.field) for plane in index}
    assert said == {"b": (0, 0), "c": (0, 1), "x": (1, 0), "a": (1, 1)}
    every_plane_is_its_own(index)


@BOTH
def test_members_that_only_fill_an_image_up_are_no_planes(tmp_path: Path, version: str) -> None:
    root = tmp_path / "p.zarr"
    group(root, version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    valid = [[0, 0, z] for z in range(3)] + [[0, 1, 1]]
    others = {"openhcs": {"valid": valid}}
    image(root / "A/1/0", version, shape=(1, 2, 3), others=others, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert {(p.t, p.channel, p.z) for p in index} == {tuple(each) for each in valid}
    every_plane_is_its_own(index)
    assert codes(index) == {"MIXED_DIMENSIONS": 1}


@BOTH
def test_whatever_is_written_again_makes_another_plate_of_it(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    chunk = root / "B/3/1/0" / ("c/0/0/0/0/0" if version == "0.5" else "0/0/0/0/0")
    attributes = root / "B/3/1" / ("zarr.json" if version == "0.5" else ".zattrs")

    def state() -> tuple[str, tuple[int, ...]]:
        index = open_plate(root, cache=False)
        part = index.select(wells=["B03"], fields=[1], status=None)
        return index.identity, tuple(part.column("mtime_ns").tolist())

    before = state()
    assert state() == before
    for changed in (chunk, attributes):
        stat = changed.stat()
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
        after = state()
        assert after[0] != before[0]
        before = after
    chunk.unlink()
    assert state()[0] != before[0]


def test_an_array_of_many_chunks_is_looked_at_no_further_than_is_cheap(tmp_path: Path) -> None:
    root = group(tmp_path / "p.zarr", "0.4", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.4", well_document(("0", 0)))
    image(root / "A/1/0", "0.4", chunks=(1, 1, 1, 4, 4), levels=1, at_um=(0.0, 0.0))
    first = open_plate(root, cache=False)
    chunk = root / "A/1/0/0/1/1/2/5/7"
    chunk.write_bytes(chunk.read_bytes())  # in place: nothing but the chunk says so
    assert open_plate(root, cache=False).identity == first.identity
    (root / "A/1/0/0/1/1/2").touch()  # a folder of chunks in which one was replaced
    second = open_plate(root, cache=False)
    assert second.identity != first.identity
    shutil.rmtree(root / "A/1/0/0/1")  # a time point
    assert open_plate(root, cache=False).identity != second.identity


@BOTH
def test_images_that_are_replaced_while_the_plate_is_open_are_read_anew(
    tmp_path: Path, version: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    index = open_plate(root, cache=False)
    plane = next(iter(index.select(wells=["A01"], fields=[0])))
    assert (index.read(plane) == value("A01", 0, 0, 0, 0)).all()
    shutil.rmtree(root / "A/1/0")
    image(root / "A/1/0", version, well="A01", field=5, shape=(1, 1, 1), names=("DAPI",))
    assert (index.read(plane) == value("A01", 5, 0, 0, 0)).all()
    other = next(iter(index.select(wells=["A01"], fields=[0], z=[2])))
    with pytest.raises(PlaneUnreadableError, match="has no image 2"):
        index.read(other)


@BOTH
def test_plates_of_polystore_open_with_the_planes_that_were_written(
    tmp_path: Path, version: str
) -> None:
    root = tmp_path / "p.zarr"
    layout = PlateLayout.regular(
        "written",
        rows=8,
        columns=12,
        wells=["B03"],
        images=["f0", "f1", ImageSlot("stitched", 1)],
        acquisitions=[Acquisition(0, "fields"), Acquisition(1, "stitched")],
    )
    create_plate(root, layout, version=version)
    meta = ImageMeta(channels=(ChannelMeta("DAPI"), ChannelMeta("GFP")), pixel_um=(0.5, 0.5))
    for name, size in (("f0", 40), ("f1", 40), ("stitched", 70)):
        with ImageWriter(root, "B03", name, (1, 2, 1, size, size), np.uint16, meta) as writer:
            for channel in range(2 if name != "f1" else 1):
                writer.write_plane(np.full((size, size), size + channel, np.uint16), c=channel)
            writer.commit(partial=True)
    write_labels(root, "B03", "f0", "cells", np.ones((40, 40), np.uint32))
    index = open_plate(root, cache=False)
    assert (index.rows, index.columns, index.acquisitions) == (8, 12, (0, 1))
    assert [(p.field_id, p.channel_name) for p in index.select(status="missing")] == [("f1", "GFP")]
    for plane in index.select():
        size = 70 if plane.acquisition else 40
        assert (index.read(plane) == size + plane.channel).all()
        assert plane.shape == (size, size)
    assert set(codes(index)) == {"MISSING_PLANE", "POSITION_MISSING"}


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("layout", [OmeZarr04(), OmeZarr05(levels=3)])
def test_plates_of_the_generator_are_what_other_readers_read(
    tmp_path: Path, layout: Layout, compression: Any
) -> None:
    yaozarrs = pytest.importorskip("yaozarrs", reason="needs yaozarrs")
    truth = synthetic_plate(
        tmp_path / "p.zarr",
        format=layout,
        wells=("A01", "H12"),
        grid=(1, 2),
        channels=("DAPI", "GFP"),
        single_plane=("GFP",),
        z=2,
        size_px=(48, 64),
        cells_per_field=2,
        compression=compression,
    )
    yaozarrs.validate_zarr_store(str(truth.folder))
    assert store_problems(truth.folder) == ()
    index = open_plate(truth.folder, cache=False)
    for plane in index:
        assert plane.path is not None
        theirs: Any = zarr.open_array(truth.folder / plane.path / "0", mode="r")
        wanted = theirs[plane.t, plane.channel, plane.z]
        np.testing.assert_array_equal(index.read(plane), wanted)


@BOTH
def test_a_plate_is_indexed_without_the_library_that_reads_its_pixels(
    tmp_path: Path, version: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    code = (
        "import sys\n"
        "from openhcs.plates import open_plate\n"
        f"index = open_plate({str(root)!r}, cache=False)\n"
        "assert 'zarr' not in sys.modules\n"
        "assert index.read(next(iter(index))).size\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_many_images_are_read_alike_whether_documents_are_waited_for_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = PlateLayout.regular(
        "p", rows=8, columns=12, wells=["A01"], images=[str(field) for field in range(70)]
    )
    create_plate(tmp_path / "p.zarr", layout)
    for field in range(70):
        meta = ImageMeta(pixel_um=(1.0, 1.0), origin_um=(0.0, 9.0 * field))
        with ImageWriter(
            tmp_path / "p.zarr", "A01", str(field), (1, 8, 8), np.uint8, meta
        ) as writer:
            writer.write_plane(np.full((8, 8), field, np.uint8))
            writer.commit()
    worked = time.thread_time
    near = open_plate(tmp_path / "p.zarr", cache=False)
    monkeypatch.setattr(time, "thread_time", lambda: worked() / 1e6)  # a disk far away
    far = open_plate(tmp_path / "p.zarr", cache=False)
    assert near == far
    assert [plane.x_um for plane in near] == [9.0 * field + 3.5 for field in range(70)]
