from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaozarrs
import zarr

from polystore import (
    ChecksumError,
    Components,
    Folder,
    FormatError,
    KeyNameError,
    Kind,
    LayoutError,
    NotStoredError,
    NotWrittenError,
    Payload,
    Provenance,
    UnreadableError,
)
from polystore.backends import ZarrReader, ZarrStore
from polystore.omezarr import (
    ChannelMeta,
    ImageMeta,
    ImageReader,
    ImageWriter,
    OmeVersion,
    PlateLayout,
    create_plate,
    store_problems,
    write_labels,
)
from polystore.testing import BackendTests, Store, assert_equal

if TYPE_CHECKING:
    from pathlib import Path


class OfZarr(BackendTests):
    """The suite: images and labels with pixels."""

    version: Any = OmeVersion.V05
    checksum = False

    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path) -> None:
        self.folders = (tmp_path / str(number) for number in count())

    def make(self) -> Store:
        return ZarrStore(next(self.folders), version=self.version, checksum=self.checksum)

    def holds(self, payload: Payload) -> bool:
        return payload.kind in {Kind.IMAGE, Kind.LABELS} and payload.nbytes > 0


class TestZarr05(OfZarr):
    checksum = True


class TestZarr04(OfZarr):
    version: Any = OmeVersion.V04


WHERE = Components(plate="P 1", well="B03", field=2, channel=1)
PLANE = Payload(
    data=np.random.default_rng(0).poisson(300, (1100, 900)).astype(np.uint16),
    components=WHERE,
    name="stitched",
    pixel_um=(0.65, 0.5),
    origin_um=(-10.0, 3.5),
    units="counts",
    channel_name="DAPI",
    contrast_limits=(100.0, 900.0),
    provenance=Provenance(sources=("raw/1.tif",), software="openhcs 0.1.0"),
)
STACK = Payload(
    data=np.random.default_rng(1).poisson(300, (2, 3, 4, 30, 40)).astype(np.float32),
    axes=("z", "channel", "t", "y", "x"),
    lossy=True,
)
NUCLEI = Payload(
    data=(PLANE.array > 330).astype(np.uint32) * np.uint32(70_000), kind=Kind.LABELS, name="nuclei"
)
BOTH = pytest.mark.parametrize("version", list(OmeVersion))


def ome_of(folder: Path) -> dict[str, Any]:
    if (folder / "zarr.json").exists():
        ome: dict[str, Any] = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]
        return ome
    attributes: dict[str, Any] = json.loads((folder / ".zattrs").read_text())
    return attributes


@pytest.fixture
def store(tmp_path: Path) -> ZarrStore:
    return ZarrStore(tmp_path / "store")


@BOTH
def test_other_programs_read_what_is_stored(tmp_path: Path, version: OmeVersion) -> None:
    store = ZarrStore(tmp_path, version=version)
    items = {"B03/dapi": PLANE, "B03/stack.zarr": STACK, "B03/nuclei": NUCLEI}
    store.store_batch(items.items())
    for key in items:
        yaozarrs.validate_zarr_store(str(tmp_path / key))
        assert store_problems(tmp_path / key) == ()
    array = zarr.open_array(tmp_path / "B03/dapi/0", mode="r")
    np.testing.assert_array_equal(array[0], PLANE.array)
    assert zarr.open_array(tmp_path / "B03/dapi/1", mode="r").shape == (1, 550, 450)
    stack = zarr.open_array(tmp_path / "B03/stack.zarr/0", mode="r")
    assert stack.shape == (4, 3, 2, 30, 40)
    np.testing.assert_array_equal(stack[3, 2, 1], STACK.array[1, 2, 3])

    image = ImageReader(tmp_path / "B03/dapi")
    assert (image.name, image.version, image.axes) == ("stitched", version, ("c", "y", "x"))
    assert (image.pixel_um, image.units, image.lossy) == ((0.65, 0.5), "counts", False)
    assert [(each.name, each.window) for each in image.channels] == [("DAPI", (100.0, 900.0))]
    assert ImageReader(tmp_path / "B03/stack.zarr").axes == ("t", "c", "z", "y", "x")
    assert ImageReader(tmp_path / "B03/stack.zarr").lossy
    labels = ImageReader(tmp_path / "B03/nuclei")
    assert labels.is_labels
    assert labels.level_count == 3
    assert set(np.unique(labels.read(2))) == {0, 70_000}  # no number that was not there


def test_what_is_saved_has_a_name_of_its_components_and_kind(store: ZarrStore) -> None:
    store.save_batch([PLANE, replace(PLANE, name=""), NUCLEI])
    assert store.keys() == [
        "labels/nuclei.zarr",
        "plate=P 1/well=B03/field=2/channel=1/image.zarr",
        "plate=P 1/well=B03/field=2/channel=1/image/stitched.zarr",
    ]


@BOTH
def test_labels_below_an_image_are_its_labels(tmp_path: Path, version: OmeVersion) -> None:
    store = ZarrStore(tmp_path, version=version)
    store.store("B03/dapi", PLANE)
    store.store("B03/dapi/labels/nuclei", NUCLEI)
    store.store("B03/dapi/labels/cells", NUCLEI)
    store.store("B03/dapi/labels/cells", replace(NUCLEI, name="cells"))
    image = ImageReader(tmp_path / "B03/dapi")
    assert image.label_names == ("cells", "nuclei")
    assert (image.labels("nuclei").read() == NUCLEI.array).all()
    assert ome_of(tmp_path / "B03/dapi/labels/nuclei")["image-label"]["source"] == {
        "image": "../../"
    }
    yaozarrs.validate_zarr_store(str(tmp_path / "B03/dapi"))
    assert store_problems(tmp_path / "B03/dapi") == ()

    keys = ["B03/dapi", "B03/dapi/labels/cells", "B03/dapi/labels/nuclei"]
    assert store.keys() == store.keys("B03/dapi") == keys
    assert store.keys("B03/dapi/") == store.keys("B03/dapi/labels/") == keys[1:]
    assert store.folder("B03").folders == ("B03/dapi",)
    assert store.folder("B03/dapi").folders == ("B03/dapi/labels",)
    assert store.folder("B03/dapi/0").folders == ()
    assert_equal(store.load("B03/dapi/labels/nuclei"), NUCLEI)
    assert_equal(store.load("B03/dapi"), PLANE)

    # nothing is gone with the image unless somebody says so
    with pytest.raises(KeyNameError, match=r"labels cells, nuclei.*delete them first"):
        store.store("B03/dapi", PLANE)
    with pytest.raises(NotWrittenError, match=r"labels cells, nuclei.*delete them first"):
        store.delete("B03/dapi")
    for key in keys[:0:-1]:
        store.delete(key)
        assert store_problems(tmp_path / "B03/dapi") == ()
    assert store.keys() == ["B03/dapi"]
    assert ImageReader(tmp_path / "B03/dapi").label_names == ()
    store.store("B03/dapi", PLANE)
    store.delete("B03/dapi")
    assert list(tmp_path.iterdir()) == []


def test_names_that_a_disk_takes_for_one_are_refused(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path, folds_case=True)
    assert store.capabilities.folds_case
    store.store("case/Ab", PLANE)
    for key in ("case/aB", "Case/Ab"):
        with pytest.raises(KeyNameError, match=f"'{key}' cannot be kept beside"):
            store.store(key, STACK)
    assert_equal(store.load("case/Ab"), PLANE)


def test_what_does_not_belong_below_an_image_is_refused(store: ZarrStore) -> None:
    store.store("a/b", PLANE)
    for key, payload in (
        ("a/b/c", PLANE),
        ("a/b/labels/c", PLANE),
        ("a/b/c", NUCLEI),
        ("a/b/labels", NUCLEI),
        ("a/b/labels/c/d", NUCLEI),
        ("a/b/0", NUCLEI),
    ):
        with pytest.raises(KeyNameError, match=rf"'{key}' cannot be kept below 'a/b'"):
            store.store(key, payload)
    small = replace(NUCLEI, data=NUCLEI.array[:50])
    with pytest.raises(FormatError, match=r"'a/b/labels/c' cannot be kept: .*50 x 900"):
        store.store("a/b/labels/c", small)
    with pytest.raises(KeyNameError, match=r"zarr\.json is a name of Zarr's own"):
        store.store("a/zarr.json/b", PLANE)
    assert store.keys() == ["a/b"]


@BOTH
def test_zeros_come_back_with_their_signs(tmp_path: Path, version: OmeVersion) -> None:
    store = ZarrStore(tmp_path, version=version)
    for number, zeros in enumerate((np.zeros((4, 5), "f4"), np.full((4, 5), -0.0, "f4"))):
        store.store(str(number), Payload(data=zeros))
        assert_equal(store.load(str(number)), Payload(data=zeros))


def test_what_is_no_array_is_refused_with_where_to_keep_it(store: ZarrStore) -> None:
    table = Payload(data={"area": np.arange(3.0)}, kind=Kind.TABLE)
    with pytest.raises(FormatError, match=r"holds images and labels.*of kind table.*DiskStore"):
        store.store("B03/cells", table)
    with pytest.raises(FormatError, match="no pixels"):
        store.save(Payload(data=np.empty((0, 5))))
    assert store.capabilities.kinds == {Kind.IMAGE, Kind.LABELS}
    assert not store.root.exists()
    with pytest.raises(LayoutError, match=r"0\.4 has no checksum"):
        ZarrStore(store.root, version="0.4", checksum=True)
    with pytest.raises(LayoutError, match=r"0\.6"):
        ZarrStore(store.root, version="0.6")


def test_the_images_of_a_plate_are_payloads(tmp_path: Path) -> None:
    path = tmp_path / "plate.zarr"
    layout = PlateLayout.regular("p", rows=8, columns=12, wells=["B03", "C04"], images=["0"])
    create_plate(path, layout)
    meta = ImageMeta(
        channels=(ChannelMeta("DAPI", window=(1, 9)),), pixel_um=(0.65, 0.5), units="counts"
    )
    with ImageWriter(path, "B03", "0", (1, *PLANE.array.shape), "u2", meta) as image:
        image.write_plane(PLANE.array)
        image.commit()
    write_labels(path, "B03", "0", "nuclei", NUCLEI.array)
    with ImageWriter(path, "C04", "0", (2, 3, 20, 30), "u2") as image:
        for c, z in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
            image.write_plane(np.full((20, 30), 10 * c + z, np.uint16), c=c, z=z)
        image.commit(partial=True)

    reader = ZarrReader(path)
    assert reader.keys() == ["B/3/0", "B/3/0/labels/nuclei", "C/4/0"]
    assert reader.folder("B/3") == Folder(name="B/3", folders=("B/3/0",), keys=("B/3/0",))
    assert reader.capabilities.keys_below_keys
    found = reader.load("B/3/0")
    assert_equal(
        found,
        Payload(
            data=PLANE.array,
            name="0",
            pixel_um=(0.65, 0.5),
            units="counts",
            channel_name="DAPI",
            contrast_limits=(1.0, 9.0),
        ),
    )
    labels = reader.load("B/3/0/labels/nuclei")
    assert labels.kind is Kind.LABELS
    assert (labels.array == NUCLEI.array).all()
    for key in ("B", "B/3", "B/3/0/labels", "B/3/0/0", "D/5/0", "B/3/0/labels/cells"):
        assert not reader.exists(key)
        with pytest.raises(NotStoredError, match="no image is kept"):
            reader.load(key)
    with pytest.raises(UnreadableError, match="C/4/0 is not finished"):
        reader.load("C/4/0")  # and no zeros that nobody measured
    with ImageWriter(path, "C04", "0", (2, 3, 20, 30), "u2") as image:
        for c, z in np.ndindex(2, 3):
            image.write_plane(np.full((20, 30), 10 * c + z, np.uint16), c=c, z=z)
        image.commit()
    several = reader.load("C/4/0")
    assert several.axes == ("channel", "z", "y", "x")
    assert several.array[:, :, 0, 0].tolist() == [[0, 1, 2], [10, 11, 12]]


def test_a_damaged_image_is_listed_and_named(store: ZarrStore) -> None:
    store.store("a/b", PLANE)
    store.store("a/c", PLANE)
    file = store.root / "a/b/zarr.json"
    said = file.read_text()
    for broken, match in (
        (said[:-30], r"a/b/zarr\.json cannot be read"),
        (said.replace('"<u2"', '"<f8"'), "not what was stored"),
        (said.replace('"well": "B03"', '"well": 3'), "note cannot be|no payload"),
        (said.replace('"kind": "image"', '"kind": "table"'), "no payload"),
    ):
        file.write_text(broken)
        assert store.keys() == ["a/b", "a/c"]
        assert store.exists("a/b")
        with pytest.raises(UnreadableError, match=match):
            store.load("a/b")
    file.write_text(said)
    (store.root / "a/b/0/c/0/0/0").unlink()
    with pytest.raises(UnreadableError, match=r"a/b/0/c/0/0/0 is not there"):
        store.load("a/b")
    store.store("a/b", PLANE)  # damaged ones are replaced
    assert_equal(store.load("a/b"), PLANE)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path, checksum=True)
    store.store("a", PLANE)
    shard = tmp_path / "a/0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ChecksumError, match="not what was stored"):
        store.load("a")


def test_what_others_put_in_the_way_stays(store: ZarrStore, tmp_path: Path) -> None:
    store.store("a/b", PLANE)
    (store.root / "a/file").write_text("mine")
    (store.root / "folder").mkdir()
    (store.root / "folder/notes.txt").write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / "link").symlink_to(outside)
    store.store("inside/b", PLANE)
    (store.root / "a/other").symlink_to(store.root / "inside")
    assert store.keys() == ["a/b", "inside/b"]
    assert store.keys("link/") == []
    assert store.folder("link").keys == ()
    assert not store.exists("link")
    assert not store.exists("link/b")
    for key in ("a/other", "link", "link/b", "folder"):
        with pytest.raises(NotStoredError):
            store.delete(key)
    for key in ("a/file", "folder", "link", "a/other"):
        with pytest.raises(KeyNameError, match=f"'{key}' cannot be a key"):
            store.store(key, PLANE)
    with pytest.raises(KeyNameError, match="which is a file"):
        store.store("a/file/b", PLANE)
    with pytest.raises(NotWrittenError, match="is a link"):
        store.store("link/b", PLANE)
    assert (store.root / "a/file").read_text() == "mine"
    assert (store.root / "folder/notes.txt").read_text() == "mine"
    assert list(outside.iterdir()) == []
    assert not list(store.root.rglob(".*"))


def test_a_disk_that_is_full_is_an_error_and_the_old_image_stays(store: ZarrStore) -> None:
    store.store("a/b", STACK)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(NotWrittenError, match=r"a/b.* was not written"):
            store.store("a/b", PLANE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert_equal(store.load("a/b"), STACK)
    assert [path.name for path in (store.root / "a").iterdir()] == ["b"]
