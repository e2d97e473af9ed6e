from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st

from polystore import LayoutError, NotStoredError, NotWrittenError, UnreadableError
from polystore.files import remove_leftovers
from polystore.omezarr import (
    Acquisition,
    ChannelMeta,
    ImageMeta,
    ImageReader,
    ImageSlot,
    ImageWriter,
    LabelsWriter,
    OmeVersion,
    PlateLayout,
    PlateReader,
    create_plate,
    extend_plate,
    open_image,
    open_labels,
    read_labels,
    read_plate,
    settle_plate,
    store_problems,
    write_labels,
)
from polystore.omezarr._pyramid import halve_labels, halve_mean, level_shapes
from polystore.omezarr._shards import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

META = ImageMeta(
    channels=(ChannelMeta("DAPI", "0000FF"), ChannelMeta("GFP", window=(100, 900))),
    pixel_um=(0.65, 0.5),
    attributes={"openhcs": {"verdict": "aligned"}},
)
# a DeprecationWarning of napari's own imports
NAPARI_WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def layout(*wells: str, images: tuple[str | ImageSlot, ...] = ("stitched",)) -> PlateLayout:
    return PlateLayout.regular("my plate", rows=8, columns=12, wells=wells, images=images)


@pytest.fixture
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "plate.zarr"
    version = getattr(request, "param", OmeVersion.V05)
    create_plate(path, layout("A01", "B03", "H12"), version=version)
    return path


BOTH = pytest.mark.parametrize("plate", list(OmeVersion), indirect=True)


def noise(shape: tuple[int, ...], dtype: str = "u2", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).poisson(300, shape).astype(dtype)


def write(
    plate: Path, well: str, image: NDArray[Any], meta: ImageMeta = META, **options: Any
) -> Path:
    with ImageWriter(plate, well, "stitched", image.shape, image.dtype, meta, **options) as writer:
        for c, plane in enumerate(image):
            writer.write_plane(plane, c=c)
        return writer.commit()


def validate(path: Path) -> None:
    """By another program, and by ours."""
    yaozarrs.validate_zarr_store(str(path))
    assert store_problems(path) == ()


def ome_of(path: Path) -> dict[str, Any]:
    if (path / "zarr.json").exists():
        ome: dict[str, Any] = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
        return ome
    attributes: dict[str, Any] = json.loads((path / ".zattrs").read_text())
    return attributes


def names(folder: Path) -> list[str]:
    """What is in a folder beside what is said about it."""
    said = {"zarr.json", ".zgroup", ".zattrs"}
    return sorted(path.name for path in folder.iterdir() if path.name not in said)


@BOTH
def test_a_plate_of_images_and_labels_is_valid_and_comes_back(plate: Path) -> None:
    image = noise((2, 1300, 1101))
    labels = np.zeros(image.shape[1:], np.int32)
    labels[100:400, 200:300] = 7
    for well in ("A01", "B03", "H12"):
        write(plate, well, image)
        write_labels(plate, well, "stitched", "nuclei", labels)
    validate(plate)

    reader = open_image(plate, "B03", "stitched")
    assert reader.axes == ("t", "c", "z", "y", "x")
    assert reader.shapes == (
        (1, 2, 1, 1300, 1101),
        (1, 2, 1, 650, 551),
        (1, 2, 1, 325, 276),
    )
    assert reader.dtype == np.uint16
    assert reader.channel_names == ("DAPI", "GFP")
    assert reader.windows[1] == (100, 900)
    assert reader.pixel_um == (0.65, 0.5)
    assert reader.attributes["openhcs"] == {"verdict": "aligned"}
    assert reader.label_names == ("nuclei",)
    for c in (0, 1):
        np.testing.assert_array_equal(reader.read(c=c), image[c])
        np.testing.assert_array_equal(reader.read(1, c=c), halve_mean(image[c]))
    part = (slice(1000, 1200), slice(50, 60))
    np.testing.assert_array_equal(reader.read(c=1, region=part), image[1][part])

    read = open_labels(plate, "B03", "stitched", "nuclei")
    assert read.level_count == reader.level_count
    assert read.axes == ("t", "z", "y", "x")
    assert read.pixel_um == (0.65, 0.5)
    np.testing.assert_array_equal(read.read(), labels)
    np.testing.assert_array_equal(
        read_labels(plate, "B03", "stitched", "nuclei", level=1), labels[::2, ::2]
    )


@BOTH
def test_zarr_itself_reads_what_was_written(plate: Path) -> None:
    image = noise((2, 1300, 1101))
    write(plate, "A01", image)
    array = zarr.open_array(plate / "A" / "1" / "stitched" / "0", mode="r")
    np.testing.assert_array_equal(np.asarray(array[0, :, 0]), image)
    if array.metadata.zarr_format == 3:
        assert array.metadata.dimension_names == ("t", "c", "z", "y", "x")
    assert max(array.chunks[-2:]) <= 1024


@BOTH
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8", ">u2"])
def test_every_type_of_image_comes_back(plate: Path, dtype: str) -> None:
    image = noise((1, 40, 30), dtype)
    write(plate, "A01", image, ImageMeta())
    validate(plate / "A" / "1" / "stitched")
    np.testing.assert_array_equal(open_image(plate, "A01", "stitched").read(), image[0])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i4", "i8"])
def test_every_type_of_labels_comes_back(plate: Path, dtype: str) -> None:
    write(plate, "A01", noise((2, 600, 30)))
    labels = noise((600, 30), dtype)
    write_labels(plate, "A01", "stitched", "cells", labels)
    validate(plate / "A" / "1" / "stitched")
    np.testing.assert_array_equal(read_labels(plate, "A01", "stitched", "cells"), labels)


@BOTH
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 2000), (2, 3, 5, 7), (2, 1, 2, 513, 40), (1, 1, 5, 530, 300)]
)
def test_stacks_and_odd_sizes_come_back(
    plate: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # so that one of them is too large for one shard, and small enough for a test
    monkeypatch.setattr("polystore.omezarr._shards._SHARD_MOST_BYTES", 1_000_000)
    image = noise(shape)
    full = image.reshape({3: (1, shape[0], 1, *shape[1:]), 4: (1, *shape), 5: shape}[len(shape)])
    with ImageWriter(plate, "A01", "stitched", shape, "u2") as writer:
        # in any order
        for t, c, z in reversed(list(product(*map(range, full.shape[:3])))):
            writer.write_plane(full[t, c, z], t=t, c=c, z=z)
        path = writer.commit()
    validate(path)
    reader = ImageReader(path)
    for t, c, z in product(*map(range, full.shape[:3])):
        np.testing.assert_array_equal(reader.read(t=t, c=c, z=z), full[t, c, z])
        coarse = full[t, c, z]
        for level in range(1, reader.level_count):
            coarse = halve_mean(coarse)
            np.testing.assert_array_equal(reader.read(level, t=t, c=c, z=z), coarse)


def test_labels_of_a_stack_in_time_come_back(plate: Path) -> None:
    shape = (2, 1, 3, 20, 30)
    with ImageWriter(plate, "A01", "stitched", shape, "u2") as image:
        for t, z in product(range(2), range(3)):
            image.write_plane(noise((20, 30)), t=t, z=z)
        image.commit()
    labels = noise((2, 3, 20, 30), "i4")
    validate(write_labels(plate, "A01", "stitched", "cells", labels))
    for t, z in product(range(2), range(3)):
        read = read_labels(plate, "A01", "stitched", "cells", t=t, z=z)
        np.testing.assert_array_equal(read, labels[t, z])


@BOTH
def test_levels_lie_over_each_other(plate: Path) -> None:
    write(plate, "A01", noise((2, 1300, 1101)))
    datasets = ome_of(plate / "A" / "1" / "stitched")["multiscales"][0]["datasets"]
    for level, dataset in enumerate(datasets):
        transforms = dataset["coordinateTransformations"]
        scale = transforms[0]["scale"]
        assert scale[-2:] == [0.65 * 2**level, 0.5 * 2**level]
        translation = transforms[1]["translation"] if level else [0.0] * 5
        # the first pixel begins where the image begins, at every level
        edges = [shift - size / 2 for shift, size in zip(translation, scale, strict=True)]
        assert edges[-2:] == pytest.approx([-0.325, -0.25])


def test_a_size_that_is_not_known_has_no_unit(plate: Path) -> None:
    write(plate, "A01", noise((1, 20, 20)), ImageMeta())
    reader = open_image(plate, "A01", "stitched")
    assert reader.pixel_um is None
    assert reader.windows[0][1] > reader.windows[0][0]


def test_floats_that_are_no_numbers_have_a_window_nevertheless(plate: Path) -> None:
    image = np.full((2, 20, 20), np.nan, np.float32)
    image[1, 3] = np.inf
    image[1, 5:9] = 7
    write(plate, "A01", image, ImageMeta())
    assert open_image(plate, "A01", "stitched").windows == ((0, 1), (7, 8))
    np.testing.assert_array_equal(open_image(plate, "A01", "stitched").read(c=1), image[1])


def test_metadata_that_cannot_be_are_refused() -> None:
    for sizes in ((0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(LayoutError, match="above 0"):
            ImageMeta(pixel_um=sizes)
    with pytest.raises(LayoutError, match="blue"):
        ChannelMeta("DAPI", "blue")
    with pytest.raises(LayoutError, match="finite"):
        ChannelMeta("DAPI", window=(0, float("inf")))


def test_the_metadata_of_a_plate_are_those_of_the_format(plate: Path) -> None:
    ome = json.loads((plate / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == ome["plate"]["version"] == "0.5"
    assert len(ome["plate"]["rows"]) == 8
    assert len(ome["plate"]["columns"]) == 12
    assert ome["plate"]["wells"][1] == {"path": "B/3", "rowIndex": 1, "columnIndex": 2}
    assert ome["plate"]["field_count"] == 1
    assert ome["plate"]["acquisitions"] == [{"id": 0, "name": "0", "maximumfieldcount": 1}]
    assert names(plate) == ["A", "B", "H"]
    assert read_plate(plate) == layout("A01", "B03", "H12")


def test_an_equal_plate_may_be_created_again_and_another_may_not(plate: Path) -> None:
    write(plate, "A01", noise((2, 20, 20)))
    before = (plate / "zarr.json").stat().st_mtime_ns
    create_plate(plate, layout("H12", "B03", "A01"))
    assert (plate / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(LayoutError, match="wells differ"):
        create_plate(plate, layout("A01"))
    assert open_image(plate, "A01", "stitched").level_count == 1


@BOTH
def test_wells_images_and_acquisitions_are_added(plate: Path) -> None:
    write(plate, "A01", noise((2, 20, 20)))
    more = PlateLayout.regular(
        "my plate",
        rows=8,
        columns=12,
        wells=("A01", "C05"),
        images=(ImageSlot("0", 1),),
        acquisitions=(Acquisition(1, "fields"),),
    )
    both = extend_plate(plate, more)
    assert both == read_plate(plate)
    assert list(both.wells) == ["A01", "B03", "C05", "H12"]
    assert both.wells["A01"] == (ImageSlot("stitched", 0), ImageSlot("0", 1))
    assert open_image(plate, "A01", "stitched").level_count == 1
    slots = (ImageSlot("0", 1), ImageSlot("first", 0), ImageSlot("stitched", 0))
    every = dataclasses.replace(more, wells={"A01": slots}, acquisitions=both.acquisitions)
    assert extend_plate(plate, every).wells["A01"] == read_plate(plate).wells["A01"] == slots
    with pytest.raises(LayoutError, match="rows differ"):
        extend_plate(
            plate,
            PlateLayout.regular(
                "my plate", rows=16, columns=12, wells=("A01",), images=("stitched",)
            ),
        )
    with pytest.raises(LayoutError, match="acquisition 1"):
        extend_plate(plate, dataclasses.replace(more, acquisitions=(Acquisition(1, "other"),)))
    with pytest.raises(NotStoredError, match="nothing"):
        extend_plate(plate.with_name("nothing.zarr"), more)


@BOTH
def test_what_was_planned_and_not_written_is_taken_out(plate: Path) -> None:
    assert settle_plate(plate) == layout("A01", "B03", "H12")
    write(plate, "B03", noise((2, 20, 20)))
    assert settle_plate(plate) == layout("B03")
    validate(plate)
    extend_plate(plate, layout("A01", "B03", "H12"))
    assert read_plate(plate) == layout("A01", "B03", "H12")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"wells": ()}, "no wells"),
        ({"wells": ("I01",)}, "I01"),
        ({"wells": ("A13",)}, "A13"),
        ({"wells": ("A1/2",)}, "A1/2"),
        ({"images": ()}, "images"),
        ({"images": ("a/b",)}, "a/b"),
        ({"images": ("a", "a")}, "images"),
        ({"images": (ImageSlot("a", 3),)}, "acquisition 3"),
        ({"acquisitions": (Acquisition(-1, "x"),)}, "ids"),
    ],
)
def test_layouts_that_cannot_be_are_refused(options: dict[str, Any], what: str) -> None:
    usual: dict[str, Any] = {"wells": ("A01",), "images": ("stitched",)}
    with pytest.raises(LayoutError, match=what):
        PlateLayout.regular("p", rows=8, columns=12, **(usual | options))


def test_a_plate_of_1536_wells_has_two_letters() -> None:
    wells = ("A01", "Z48", "AA01", "AF48")
    big = PlateLayout.regular("p", rows=32, columns=48, wells=wells, images=("stitched",))
    assert list(big.wells) == list(wells)
    assert big.rows[-1] == "AF"


@BOTH
def test_an_image_is_there_whole_or_not_at_all(plate: Path) -> None:
    folder = plate / "A" / "1"
    image = noise((2, 60, 50))
    with ImageWriter(plate, "A01", "stitched", image.shape, "u2") as writer:
        writer.write_plane(image[0])
        with pytest.raises(NotStoredError):
            open_image(plate, "A01", "stitched")
        with pytest.raises(LayoutError, match=r"1 of 2 planes.*'c': 1"):
            writer.commit()
    assert names(folder) == []
    write(plate, "A01", image)
    write_labels(plate, "A01", "stitched", "nuclei", np.ones((60, 50), np.uint8))
    with ImageWriter(plate, "A01", "stitched", image.shape, "u2") as writer:
        writer.write_plane(image[1])
    np.testing.assert_array_equal(open_image(plate, "A01", "stitched").read(), image[0])
    write(plate, "A01", image + 1)
    np.testing.assert_array_equal(open_image(plate, "A01", "stitched").read(), image[0] + 1)
    # labels belonged to the image that was replaced
    assert open_image(plate, "A01", "stitched").label_names == ()
    assert names(folder) == ["stitched"]


@BOTH
def test_planes_may_be_missing_when_said_and_are_listed(plate: Path) -> None:
    image = noise((2, 60, 50))
    with ImageWriter(plate, "A01", "stitched", image.shape, "u2") as writer:
        writer.write_plane(image[1], c=1)
        writer.commit(partial=True)
        writer.abort()
    reader = open_image(plate, "A01", "stitched")
    assert reader.attributes["polystore"]["missing_planes"] == [[0, 0, 0]]
    assert not reader.read(c=0).any()
    np.testing.assert_array_equal(reader.read(c=1), image[1])


def test_what_does_not_fit_is_refused(plate: Path) -> None:
    with pytest.raises(NotStoredError, match="extend_plate"):
        ImageWriter(plate, "A01", "other", (1, 4, 4), "u2")
    with pytest.raises(NotStoredError, match="no well C01: it has A01, B03, H12"):
        ImageWriter(plate, "C01", "stitched", (1, 4, 4), "u2")
    for shape in ((4, 4), (0, 4, 4)):
        with pytest.raises(LayoutError):
            ImageWriter(plate, "A01", "stitched", shape, "u2")
    with pytest.raises(LayoutError, match="complex"):
        ImageWriter(plate, "A01", "stitched", (1, 4, 4), "c8")
    with pytest.raises(LayoutError, match="2 are described"):
        ImageWriter(plate, "A01", "stitched", (1, 4, 4), "u2", META)
    with ImageWriter(plate, "A01", "stitched", (1, 4, 4), "u2") as writer:
        for wrong in (np.zeros((4, 5), "u2"), np.zeros((4, 4), "u1")):
            with pytest.raises(LayoutError, match="was opened for"):
                writer.write_plane(wrong)
        with pytest.raises(LayoutError, match="no plane"):
            writer.write_plane(np.zeros((4, 4), "u2"), c=1)
        writer.write_plane(np.zeros((4, 4), "u2"))
        writer.commit()
        with pytest.raises(LayoutError, match="finished"):
            writer.write_plane(np.zeros((4, 4), "u2"))
    for name in ("", "a/b", "..", "a b"):
        with pytest.raises(LayoutError, match="called"):
            LabelsWriter(plate, "A01", "stitched", name, "u1")
    with pytest.raises(LayoutError, match="integers"):
        LabelsWriter(plate, "A01", "stitched", "nuclei", "f4")
    with pytest.raises(NotStoredError):
        LabelsWriter(plate, "B03", "stitched", "nuclei", "u1")
    with pytest.raises(LayoutError, match="was opened for"):
        write_labels(plate, "A01", "stitched", "nuclei", np.ones((5, 5), "u1"))
    reader = open_image(plate, "A01", "stitched")
    places: list[dict[str, Any]] = [{"c": 1}, {"t": 1}, {"level": 1}, {"z": -1}]
    for place in places:
        with pytest.raises(LayoutError):
            reader.read(**place)


def test_a_shard_that_is_gone_or_damaged_is_an_error(plate: Path) -> None:
    path = write(plate, "A01", noise((2, 60, 50)))
    shard = path / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    for damaged in (content[:-10], content[:-20] + bytes(20), content[: len(content) // 2]):
        shard.write_bytes(damaged)
        with pytest.raises(UnreadableError, match="stitched"):
            open_image(plate, "A01", "stitched").read()
    shard.unlink()
    with pytest.raises(UnreadableError, match="is not there"):
        open_image(plate, "A01", "stitched").read()
    (path / "zarr.json").write_text("{")
    with pytest.raises(UnreadableError, match=r"zarr\.json"):
        open_image(plate, "A01", "stitched")
    (plate / "zarr.json").write_text('{"zarr_format": 3, "attributes": {"ome": {"plate": 1}}}')
    with pytest.raises(UnreadableError, match="plate"):
        read_plate(plate)


@BOTH
def test_a_full_disk_names_the_image_and_keeps_the_old_one(plate: Path) -> None:
    old = noise((2, 60, 50))
    write(plate, "A01", old)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(NotWrittenError, match=r"stitched.*was not written"):
            write(plate, "A01", noise((2, 700, 700)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    np.testing.assert_array_equal(open_image(plate, "A01", "stitched").read(), old[0])
    assert names(plate / "A" / "1") == ["stitched"]


def test_a_plane_that_found_no_room_may_be_written_again(plate: Path) -> None:
    image = noise((3, 700, 700))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with ImageWriter(plate, "A01", "stitched", image.shape, "u2") as writer:
        writer.write_plane(image[0])
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, before[1]))
            with pytest.raises(NotWrittenError):
                writer.write_plane(image[1], c=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        writer.write_plane(image[2], c=2)
        writer.write_plane(image[1], c=1)
        writer.commit()
    reader = open_image(plate, "A01", "stitched")
    for level, c in product(range(reader.level_count), range(3)):
        expected = image[c] if level == 0 else halve_mean(image[c])
        np.testing.assert_array_equal(reader.read(level, c=c), expected)


IMAGE_LOOP = """
import sys
import numpy as np
from polystore.omezarr import ImageWriter
number = 0
while True:
    number += 1
    with ImageWriter(sys.argv[1], "A01", "stitched", (3, 600, 600), "u2") as writer:
        for c in range(3):
            writer.write_plane(np.full((600, 600), number, "u2"), c=c)
        writer.commit()
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 5])
def test_a_killed_writer_leaves_the_old_image_or_the_new(plate: Path, lines: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", IMAGE_LOOP, str(plate)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(lines):
        assert child.stdout.readline()
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    reader = open_image(plate, "A01", "stitched")
    values = {
        int(value)
        for level, c in product(range(reader.level_count), range(3))
        for value in np.unique(reader.read(level, c=c))
    }
    assert len(values) == 1
    assert values.pop() >= lines
    remove_leftovers(plate)
    assert names(plate / "A" / "1") == ["stitched"]


ONE_WELL = """
import sys
import numpy as np
from polystore.omezarr import ImageWriter, write_labels
plate, well, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
image = np.random.default_rng(seed).poisson(300, (2, 300, 300)).astype("u2")
with ImageWriter(plate, well, "stitched", image.shape, image.dtype) as writer:
    for c, values in enumerate(image):
        writer.write_plane(values, c=c)
        if well == "H12":
            print("one plane is written", flush=True)
            sys.stdin.read()
    writer.commit()
write_labels(plate, well, "stitched", "nuclei", image[0].astype("i4"))
"""


@BOTH
def test_processes_write_different_wells_at_once_and_the_death_of_one_harms_no_other(
    plate: Path,
) -> None:
    wells = ("H12", "A01", "B03")
    killed, *others = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_WELL, str(plate), well, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed, well in enumerate(wells)
    ]
    assert killed.stdout is not None
    assert killed.stdout.readline()
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    for child in others:
        child.communicate()
        assert child.returncode == 0
    killed.communicate()
    with pytest.raises(NotStoredError, match="H/12"):
        open_image(plate, "H12", "stitched")
    assert [path.parent.name for path in remove_leftovers(plate)] == ["12"]
    assert list(settle_plate(plate).wells) == ["A01", "B03"]
    validate(plate)
    for seed, well in enumerate(wells[1:], 1):
        image = noise((2, 300, 300), seed=seed)
        np.testing.assert_array_equal(open_image(plate, well, "stitched").read(c=1), image[1])
        labels = open_labels(plate, well, "stitched", "nuclei")
        np.testing.assert_array_equal(labels.read(), image[0].astype("i4"))


def files_below(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("version", "most", "least"), [(OmeVersion.V05, 5500, 0), (OmeVersion.V04, 60_000, 20_000)]
)
def test_a_plate_of_384_wells_with_fields_is_a_few_thousand_files(
    tmp_path: Path, version: OmeVersion, most: int, least: int
) -> None:
    # 4 fields of 3 channels without coarser levels, as processing needs them; two wells of it
    wells = ("A01", "A02")
    fields = tuple("0123")
    path = tmp_path / "p.zarr"
    plan = PlateLayout.regular("p", rows=16, columns=24, wells=wells, images=fields)
    create_plate(path, plan, version=version)
    plane = np.ones((2048, 2048), np.uint16)
    for well, field in product(wells, fields):
        with ImageWriter(path, well, field, (3, *plane.shape), "u2", coarsest_px=2048) as writer:
            for c in range(3):
                writer.write_plane(plane, c=c)
            writer.commit()
    per_well = files_below(path / "A" / "1")
    assert per_well == files_below(path / "A" / "2")
    rest = 17 * (1 if version is OmeVersion.V05 else 2)  # the plate and 16 rows
    assert files_below(path) == 2 * per_well + rest * 2 // 17
    assert least < 384 * per_well + rest < most


def test_a_stitched_well_with_its_levels_is_seven_files(plate: Path) -> None:
    path = write(plate, "A01", noise((3, 2000, 2000)), ImageMeta())
    assert files_below(path) * 384 < 3000


@pytest.mark.req("001.15", "001.23")
@pytest.mark.parametrize("version", list(OmeVersion))
def test_opening_reads_metadata_only_and_a_well_as_much_as_in_a_small_plate(
    tmp_path: Path, version: OmeVersion
) -> None:
    counts = []
    for rows, columns in ((2, 3), (16, 24)):
        path = tmp_path / f"{rows}.zarr"
        empty = PlateLayout.regular("p", rows=rows, columns=columns, wells=["A01"], images=["0"])
        wells = [f"{row}{column:02d}" for row in empty.rows for column in range(1, columns + 1)]
        plan = dataclasses.replace(empty, wells=dict.fromkeys(wells, empty.wells["A01"]))
        create_plate(path, plan, version=version)
        with ImageWriter(path, "B03", "0", (2, 60, 50), "u2", coarsest_px=30) as writer:
            for c, plane in enumerate(noise((2, 60, 50))):
                writer.write_plane(plane, c=c)
            writer.commit()
        write_labels(path, "B03", "0", "cells", np.ones((60, 50), np.uint8))
        with opened_below(path) as opened:
            reader = PlateReader(path)
            assert len(reader.wells) == rows * columns
            listed = len(opened)
            (slot,) = reader.images("B03")
            asked = len(opened)
            image = reader.open_image("B03", slot.path)
            assert image.shapes[1] == (1, 2, 1, 30, 25)
            assert image.label_names == ("cells",)
            assert image.windows
            metadata = len(opened)
            assert all(file.name.startswith((".z", "zarr.json")) for file in opened)
            image.read(1, c=1)
            pixels = {file for file in opened if not file.name.startswith((".z", "zarr.json"))}
            assert len(pixels) == 1
        counts.append((listed, asked - listed, metadata))
    assert counts[0] == counts[1]
    assert max(counts[1]) <= 14


@contextlib.contextmanager
def opened_below(folder: Path) -> Iterator[list[Path]]:
    """Note each file below a folder that this process opens, by whatever program."""
    found: list[Path] = []
    HOOKED.append((folder, found))
    if len(HOOKED) == 1:
        sys.addaudithook(note)  # for as long as the process lives
    try:
        yield found
    finally:
        HOOKED[0] = (Path("/nothing"), [])
        del HOOKED[1:]


HOOKED: list[tuple[Path, list[Path]]] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, Path)):
        path = Path(arguments[0])
        for folder, found in HOOKED:
            if path.is_relative_to(folder):
                found.append(path)


@BOTH
@NAPARI_WARNS
def test_the_reader_of_napari_opens_plate_image_and_labels(
    plate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("napari_ome_zarr._reader", exc_type=ImportError)
    image = noise((2, 700, 600))
    labels = np.ones(image.shape[1:], np.int32)
    for well in ("A01", "B03", "H12"):
        write(plate, well, image)
        write_labels(plate, well, "stitched", "nuclei", labels)
    shown = reader.napari_get_reader(str(plate))(str(plate))
    assert [layer[2] for layer in shown] == ["image", "labels"]
    assert shown[0][0][0].shape == (1, 2, 1, 8 * 700, 12 * 600)
    part = shown[0][0][0][0, 1, 0, 700:1400, 1200:1800]
    np.testing.assert_array_equal(np.asarray(part), image[1])

    path = str(plate / "A" / "1" / "stitched")
    data, options, kind = reader.napari_get_reader(path)(path)[0]
    assert kind == "image"
    assert options["name"] == ["stitched: DAPI", "stitched: GFP"]
    assert options["scale"] == pytest.approx([1, 1, 0.65, 0.5])
    np.testing.assert_array_equal(np.asarray(data[0][0, 0, 0]), image[0])
    capsys.readouterr()  # the reader prints


@BOTH
def test_wells_of_different_depth_get_the_levels_of_the_deepest(plate: Path) -> None:
    images = {"A01": noise((2, 512, 300)), "B03": noise((2, 513, 300)), "H12": noise((2, 1100, 9))}
    for well, image in images.items():
        write(plate, well, image)
        write_labels(plate, well, "stitched", "nuclei", image[0].astype("i4"))
    settle_plate(plate)
    validate(plate)
    for well, image in images.items():
        reader = open_image(plate, well, "stitched")
        labels = open_labels(plate, well, "stitched", "nuclei")
        assert reader.level_count == labels.level_count == 3
        np.testing.assert_array_equal(reader.read(2, c=1), halve_mean(halve_mean(image[1])))
        np.testing.assert_array_equal(labels.read(2), image[0][::4, ::4])
        datasets = ome_of(reader.path)["multiscales"][0]["datasets"]
        assert [each["path"] for each in datasets] == ["0", "1", "2"]
        shift = datasets[2]["coordinateTransformations"][1]["translation"]
        assert shift == pytest.approx([0, 0, 0, 0.65 * 1.5, 0.5 * 1.5])


@BOTH
@NAPARI_WARNS
def test_wells_of_different_sizes_are_laid_side_by_side(
    plate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("napari_ome_zarr._reader", exc_type=ImportError)
    images = {
        "A01": noise((2, 700, 600)),
        "B03": noise((2, 707, 598)),
        "H12": noise((2, 681, 605)),
    }
    for well, image in images.items():
        write(plate, well, image)
        write_labels(plate, well, "stitched", "nuclei", image[0].astype(np.int32))
    for _ in range(2):
        settle_plate(plate)
        validate(plate)
        shown = reader.napari_get_reader(str(plate))(str(plate))
        capsys.readouterr()  # the reader prints
        for layer in shown:
            assert layer[0][0].shape[-2:] == (8 * 707, 12 * 605)
            assert layer[0][1].shape[-2:] == (8 * 354, 12 * 303)
        whole = shown[0][0][0][0, 1, 0]
        part = np.asarray(whole[707 : 2 * 707, 2 * 605 : 3 * 605])
        np.testing.assert_array_equal(part[:707, :598], images["B03"][1])
        assert not part[:, 598:].any()
        for well, image in images.items():
            # readers of ours never take the filling for data
            ours = open_image(plate, well, "stitched")
            assert ours.shapes[0] == (1, 2, 1, *image.shape[1:])
            np.testing.assert_array_equal(ours.read(c=1), image[1])
            np.testing.assert_array_equal(ours.read(1, c=1), halve_mean(image[1]))
            labels = read_labels(plate, well, "stitched", "nuclei")
            np.testing.assert_array_equal(labels, image[0])
            tail = (slice(-10, None), slice(None))
            np.testing.assert_array_equal(ours.read(region=tail), image[0][tail])
    # and labels may come later
    write_labels(plate, "H12", "stitched", "cells", images["H12"][0].astype(np.int32))
    settle_plate(plate)
    validate(plate)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_levels_are_halved_until_they_are_small(height: int, width: int) -> None:
    shapes = level_shapes(height, width)
    assert shapes[0] == (height, width)
    assert max(shapes[-1]) <= 512
    assert all(max(shape) > 512 for shape in shapes[:-1])


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
    most=st.sampled_from([2**14 - 1, 2**14, 2**16 - 1]),
)
def test_a_coarser_pixel_is_the_mean_of_those_it_covers(
    height: int, width: int, seed: int, most: int
) -> None:
    plane = np.random.default_rng(seed).integers(0, most + 1, (height, width)).astype(np.uint16)
    plane[:2, :2] = most
    small = halve_mean(plane)
    floats = halve_mean(plane.astype(np.float64))
    for y, x in product(range(small.shape[0]), range(small.shape[1])):
        mean = plane[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean()
        assert small[y, x] == np.floor(mean + 0.5)
        assert floats[y, x] == pytest.approx(mean)
    assert set(halve_labels(plane).ravel()) <= set(plane.ravel())


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4"])
def test_the_mean_of_extreme_values_does_not_overflow(dtype: str) -> None:
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max):
        assert (halve_mean(np.full((4, 4), value, dtype)) == value).all()
    with pytest.raises(TypeError, match="complex"):
        halve_mean(np.zeros((2, 2), complex))


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
