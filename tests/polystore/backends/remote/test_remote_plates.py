from __future__ import annotations

import copy
import json
import os
import shutil
import socket
import tracemalloc
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from tests.polystore.backends.remote.counting import Counting

from polystore import (
    AccessDeniedError,
    Components,
    LayoutError,
    NotStoredError,
    NotWrittenError,
    Payload,
    StorageError,
    UnreachableError,
    UnreadableError,
)
from polystore.backends import RemoteAccess, ZarrReader, ZarrStore
from polystore.omezarr import (
    ChannelMeta,
    ImageMeta,
    ImageReader,
    ImageWriter,
    OmeVersion,
    PlateLayout,
    PlateReader,
    RemoteFolder,
    create_plate,
    extend_plate,
    open_image,
    open_labels,
    read_labels,
    read_plate,
    settle_plate,
    store_problems,
    upload_store,
    write_labels,
)
from polystore.testing import assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.polystore.backends.remote.conftest import Server

META = ImageMeta(
    channels=(ChannelMeta("DAPI", "0000FF"), ChannelMeta("GFP", window=(100, 900))),
    pixel_um=(0.65, 0.5),
    units="counts",
    lossy=True,
)
SHAPE = (2, 1500, 1400)  # four chunks a plane, all of them in one shard
BOTH = pytest.mark.parametrize("version", list(OmeVersion))


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).poisson(300, shape).astype(np.uint16)


def make(path: Path, *wells: str, version: OmeVersion = OmeVersion.V05, seed: int = 0) -> Path:
    layout = PlateLayout.regular("screen", rows=8, columns=12, wells=wells, images=["stitched"])
    create_plate(path, layout, version=version)
    image = noise(SHAPE, seed)
    for well in wells:
        with ImageWriter(path, well, "stitched", SHAPE, image.dtype, META) as writer:
            for c, plane in enumerate(image):
                writer.write_plane(plane, c=c)
            writer.commit()
        write_labels(path, well, "stitched", "nuclei", (image[0] > 340).astype(np.uint32))
    return path


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> dict[OmeVersion, Path]:
    folder = tmp_path_factory.mktemp("plates")
    return {each: make(folder / f"{each}.zarr", "A01", "B03", version=each) for each in OmeVersion}


@pytest.fixture(scope="module")
def kept(server: Server, plates: dict[OmeVersion, Path]) -> dict[OmeVersion, str]:
    """Buckets with the plates, for tests that change nothing."""
    buckets = {version: server.bucket() for version in plates}
    for version, bucket in buckets.items():
        upload_store(plates[version], there(server, bucket))
    return buckets


@pytest.fixture
def counting(server: Server) -> Iterator[Counting]:
    with Counting(server.port) as counting:
        yield counting


def there(server: Server, bucket: str, counting: Counting | None = None) -> RemoteFolder:
    access = server.access(**({} if counting is None else {"endpoint": counting.endpoint}))
    return RemoteFolder(f"s3://{bucket}/screens/7.zarr", access)


@pytest.mark.req("001.18")
@BOTH
def test_a_plate_in_an_object_store_is_read_as_one_in_a_folder(
    server: Server,
    plates: dict[OmeVersion, Path],
    kept: dict[OmeVersion, str],
    version: OmeVersion,
) -> None:
    local, remote = plates[version], there(server, kept[version])
    assert store_problems(remote) == ()
    assert read_plate(remote) == read_plate(local)
    plate, same = PlateReader(remote), PlateReader(local)
    assert (plate.version, plate.wells, plate.attributes) == (version, same.wells, same.attributes)
    assert plate.images("B03") == same.images("B03")
    for image, other in (
        (open_image(remote, "B03", "stitched"), open_image(local, "B03", "stitched")),
        (
            open_labels(remote, "B03", "stitched", "nuclei"),
            open_labels(local, "B03", "stitched", "nuclei"),
        ),
    ):
        assert image.shapes == other.shapes
        assert image.dtype == other.dtype
        assert image.channels == other.channels
        assert image.label_names == other.label_names
        assert (image.pixel_um, image.units, image.lossy) == (
            other.pixel_um,
            other.units,
            other.lossy,
        )
        for level, c in product(range(image.level_count), range(2 if "c" in image.axes else 1)):
            assert (image.read(level, c=c) == other.read(level, c=c)).all()
            first = (*(0 for _ in image.axes[:-2]), slice(9), slice(9))
            assert (image.level_array(level)[first] == other.read(level)[:9, :9]).all()
    region = slice(700, 820), slice(650, 1400)
    assert (image.read(0, region=region) == other.read(0, region=region)).all()
    assert (read_labels(remote, "A01", "stitched", "nuclei") == other.read()).all()


@pytest.mark.req("001.18", "001.23")
def test_what_is_read_is_what_is_fetched(
    server: Server,
    counting: Counting,
    plates: dict[OmeVersion, Path],
    kept: dict[OmeVersion, str],
) -> None:
    plate = PlateReader(there(server, kept[OmeVersion.V05], counting))
    assert len(counting.taken()) == 1
    image = plate.open_image("B03", "stitched")
    assert len(counting.taken()) == 1  # the image's own document, and neither well nor level

    whole = (plates[OmeVersion.V05] / "B/3/stitched/0/c/0/0/0/0/0").stat().st_size
    chunk = whole / 8
    part = image.read(0, c=1, region=(slice(0, 700), slice(0, 700)))
    assert (part == noise(SHAPE)[1, :700, :700]).all()
    shapes, index, pixels = counting.taken()
    assert shapes.path.endswith("/B/3/stitched/0/zarr.json")
    assert index.part == "bytes=-132"
    assert pixels.status == 206
    assert 0.9 * chunk < pixels.nbytes < 1.1 * chunk

    image.read(0, c=1, region=(slice(0, 700), slice(700, 800)))
    (pixels,) = counting.taken()  # the index is known, and so is the shape
    assert 0.9 * chunk < pixels.nbytes < 1.1 * chunk
    plane = image.read(0, c=0)
    assert (plane == noise(SHAPE)[0]).all()
    fetched = counting.taken()
    assert len(fetched) == 4
    assert sum(each.nbytes for each in fetched) < 0.55 * whole

    coarse = image.read(2, c=0)
    assert coarse.shape == (375, 350)
    assert all("/stitched/2/" in each.path for each in counting.taken())


@pytest.mark.req("001.18")
def test_an_image_of_terabytes_is_opened_and_read_in_little_memory(
    server: Server, counting: Counting, tmp_path: Path
) -> None:
    side, unit = 2**22, 2**14
    levels: list[dict[str, Any]] = []
    for level in range(3):
        scale = {"type": "scale", "scale": [2.0**level] * 2}
        levels.append({"path": str(level), "coordinateTransformations": [scale]})
        array = zarr.create_array(
            tmp_path / "huge" / str(level),
            shape=(side >> level,) * 2,
            shards=(unit, unit),
            chunks=(512, 512),
            dtype="u2",
            dimension_names=["y", "x"],
        )
        array[-1024:, -512:] = level + 7
    axes = [{"name": name, "type": "space"} for name in "yx"]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (tmp_path / "huge/zarr.json").write_text(json.dumps(group))
    bucket = server.bucket()
    upload_store(tmp_path / "huge", RemoteFolder(f"s3://{bucket}/huge", server.access()))

    tracemalloc.start()
    try:
        image = ImageReader(
            RemoteFolder(f"s3://{bucket}/huge", server.access(endpoint=counting.endpoint))
        )
        assert image.shapes[0] == (side, side)  # 32 TiB
        assert len(counting.taken()) == 4
        for level in range(3):
            corner = image.read(level, region=(slice(-600, None), slice(-300, None)))
            assert corner.shape == (600, 300)
            assert (corner == level + 7).all()
        assert not image.read(0, region=(slice(0, 600), slice(0, 300))).any()
        fetched = counting.taken()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(fetched) == 3 * 3 + 1  # an index and two chunks each, and one that is not there
    assert sum(each.nbytes for each in fetched) < 100_000
    assert peak_bytes < 20_000_000
    with pytest.raises(LayoutError, match="too many at once"):
        image.read(0)


def test_opening_a_plate_asks_for_one_document_however_many_wells_it_has(
    server: Server, counting: Counting, tmp_path: Path
) -> None:
    path = tmp_path / "plate.zarr"
    wells = [f"{row}{column:02}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    layout = PlateLayout.regular("384", rows=16, columns=24, wells=wells, images=["0", "1"])
    create_plate(path, layout)
    bucket = server.bucket()
    objects = there(server, bucket).objects
    for file in ("zarr.json", "P/24/zarr.json"):
        objects.put(f"screens/7.zarr/{file}" if objects.url.endswith(bucket) else file, path / file)
    plate = PlateReader(there(server, bucket, counting))
    assert len(plate.wells) == 384
    assert [slot.path for slot in plate.images("P24")] == ["0", "1"]
    assert [each.method for each in counting.taken()] == ["GET", "GET"]


@BOTH
def test_a_chunk_that_is_gone_is_an_error_and_no_zeros(
    server: Server, plates: dict[OmeVersion, Path], version: OmeVersion
) -> None:
    remote = there(server, server.bucket())
    upload_store(plates[version], remote)
    chunk = "c/0/0/0/0/0" if version is OmeVersion.V05 else "0/1/0/0/1"
    remote.objects.delete(f"B/3/stitched/0/{chunk}")
    image = open_image(remote, "B03", "stitched")
    with pytest.raises(UnreadableError, match=rf"7\.zarr.*/{chunk} is not there.*run it again"):
        image.read(0, c=1)
    assert (image.read(1, c=1) == open_image(remote, "A01", "stitched").read(1, c=1)).all()
    if version is OmeVersion.V04:
        image.read(0, c=1, region=(slice(0, 700), slice(0, 700)))  # the others are


def test_a_shard_that_is_replaced_is_never_mixed_with_the_one_before(
    server: Server, plates: dict[OmeVersion, Path], tmp_path: Path, counting: Counting
) -> None:
    bucket = server.bucket()
    upload_store(plates[OmeVersion.V05], there(server, bucket))
    other = make(tmp_path / "other.zarr", "B03", seed=1)
    shard = "B/3/stitched/0/c/0/0/0/0/0"
    image = open_image(there(server, bucket, counting), "B03", "stitched")
    assert (image.read(0, c=1) == noise(SHAPE)[1]).all()
    there(server, bucket).objects.put(shard, other / shard)
    assert (image.read(0, c=1) == noise(SHAPE, 1)[1]).all()

    asked: list[str] = []

    def replace(_method: str, path: str) -> None:
        if path.endswith(shard):
            asked.append(path)
            which = other if len(asked) % 2 else plates[OmeVersion.V05]
            there(server, bucket).objects.put(shard, which / shard)

    counting.before = replace
    with pytest.raises(UnreadableError, match="replaced again and again"):
        image.read(0, c=1)


def test_what_is_not_there_is_told_from_what_cannot_be_had(
    server: Server, kept: dict[OmeVersion, str]
) -> None:
    bucket = server.bucket()
    remote = there(server, bucket)
    with pytest.raises(NotStoredError, match=rf"s3://{bucket}/screens/7.zarr at http.*no Zarr"):
        PlateReader(remote)
    with pytest.raises(UnreachableError, match="no such bucket"):
        PlateReader(RemoteFolder("s3://no-such-bucket/7.zarr", server.access()))
    remote = there(server, kept[OmeVersion.V05])
    plate = PlateReader(remote)
    with pytest.raises(NotStoredError, match="no well H12"):
        plate.images("H12")
    with pytest.raises(NotStoredError, match="no Zarr group"):
        plate.open_image("B03", "raw")
    image = plate.open_image("B03", "stitched")
    with pytest.raises(NotStoredError, match="no Zarr group"):
        image.labels("cells")
    image.read(0, region=(slice(9), slice(9)))
    server.ask("POST", "/moto-api/reset-auth", b"0")  # from here on it looks at credentials
    try:
        with pytest.raises(AccessDeniedError, match="refuses access"):
            PlateReader(remote)
        with pytest.raises(AccessDeniedError, match="refuses access") as caught:
            image.read(1)
        with pytest.raises(AccessDeniedError, match="refuses access"):
            image.read(0)
    finally:
        server.ask("POST", "/moto-api/reset-auth", b"1000000")
    assert "never-to-be-seen" not in repr(caught.value.__cause__)
    image.read(1)


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        access = RemoteAccess(
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
            key_id="a",
            secret_key="b",
            timeout_s=0.3,
            retries=1,
        )
        with pytest.raises(UnreachableError, match=r"no answer in time.*after 1 retries"):
            PlateReader(RemoteFolder("s3://plates/7.zarr", access))


def test_a_process_that_was_forked_is_told_to_open_it_anew(
    server: Server, kept: dict[OmeVersion, str]
) -> None:
    image = open_image(there(server, kept[OmeVersion.V05]), "B03", "stitched")
    image.read(2)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            image.read(2, c=1)
        except UnreachableError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert b"opened by another process" in stream.read()
    # one that is handed to another process opens what it needs there
    copied = copy.deepcopy(image)
    assert (copied.read(2) == image.read(2)).all()
    assert (copy.deepcopy(image.level_array(2))[0, 0, 0] == image.read(2)).all()


def test_a_path_of_metadata_does_not_lead_out_of_a_remote_plate(
    server: Server, plates: dict[OmeVersion, Path]
) -> None:
    remote = there(server, server.bucket())
    upload_store(plates[OmeVersion.V05], remote)
    document = (plates[OmeVersion.V05] / "B/3/stitched/zarr.json").read_text()
    remote.objects.put(
        "B/3/stitched/zarr.json", document.replace('"path": "1"', '"path": "../../1"').encode()
    )
    with pytest.raises(UnreadableError, match="leads out of the image"):
        open_image(remote, "B03", "stitched")
    for path in ("..", "a/../..", "/etc", "a//b", "a\\b", ""):
        with pytest.raises(UnreadableError, match="may not be followed"):
            remote.below(path)


def test_what_is_written_is_written_to_a_folder(
    server: Server, kept: dict[OmeVersion, str], tmp_path: Path
) -> None:
    remote = there(server, kept[OmeVersion.V05])
    layout = read_plate(remote)
    plate: Any = PlateReader(remote)
    place: Any = remote
    for act in (
        lambda: create_plate(place, layout),
        lambda: extend_plate(place, layout),
        lambda: settle_plate(place),
        lambda: ImageWriter(plate, "B03", "stitched", (1, 5, 5), "u2"),
        lambda: write_labels(plate, "B03", "stitched", "cells", np.zeros((5, 5), int)),
        lambda: plate.open_image("B03", "stitched").level_path(0),
    ):
        with pytest.raises(LayoutError, match="upload_store"):
            act()
    url = "s3://key:secret@plates/7.zarr"
    for act in (lambda: create_plate(url, layout), lambda: PlateReader(url)):
        with pytest.raises(LayoutError, match=r"plates/7.zarr is the URL.*RemoteFolder") as caught:
            act()
        assert "secret" not in str(caught.value)
    with pytest.raises(StorageError, match="path"):
        RemoteFolder((tmp_path / "plate.zarr").as_uri())


def test_an_upload_that_is_interrupted_cannot_be_opened_and_goes_on(
    server: Server, counting: Counting, plates: dict[OmeVersion, Path]
) -> None:
    local = plates[OmeVersion.V05]
    files = [each for each in local.rglob("*") if each.is_file()]
    bucket = server.bucket()
    remote = there(server, bucket, counting)
    seen: list[str] = []

    def look(method: str, path: str) -> None:
        # whatever is there already can be read whole: of each document all that is below it
        if method == "PUT":
            seen.append(path.partition("/7.zarr/")[2])
            if len(seen) == len(files) - 4:
                raise ConnectionError

    counting.before = look
    access = server.access(endpoint=counting.endpoint, retries=0, timeout_s=5)
    with pytest.raises(NotWrittenError, match="was not written"):
        upload_store(local, RemoteFolder(f"s3://{bucket}/screens/7.zarr", access))
    with pytest.raises(NotStoredError):
        PlateReader(remote)
    counting.before = lambda _method, _path: None
    counting.taken()
    done = upload_store(local, remote)
    assert done.there + done.put == len(files)
    assert 4 <= done.put < len(files) / 2
    puts = [each.path for each in counting.taken() if each.method == "PUT"]
    assert puts[-1].endswith("/7.zarr/zarr.json")
    again = upload_store(local, remote)
    assert (again.put, again.put_bytes, again.there) == (0, 0, len(files))
    assert store_problems(remote) == ()


def test_a_file_that_goes_away_during_an_upload_is_named(
    server: Server, counting: Counting, plates: dict[OmeVersion, Path], tmp_path: Path
) -> None:
    local = tmp_path / "7.zarr"
    shutil.copytree(plates[OmeVersion.V04], local)
    last = local / "B/3/stitched/labels/nuclei/2/0/0/0/0"
    counting.before = lambda _method, _path: last.unlink(missing_ok=True)
    remote = there(server, server.bucket(), counting)
    with pytest.raises(NotWrittenError, match="nuclei/2/0/0/0/0 was not uploaded"):
        upload_store(local, remote)
    with pytest.raises(NotStoredError):
        PlateReader(remote)


@BOTH
def test_no_document_is_put_before_what_it_is_about(
    server: Server, counting: Counting, plates: dict[OmeVersion, Path], version: OmeVersion
) -> None:
    upload_store(plates[version], there(server, server.bucket(), counting))
    puts = [each.path.partition("/7.zarr/")[2] for each in counting.taken() if each.method == "PUT"]
    group = "zarr.json" if version is OmeVersion.V05 else ".zgroup"
    array = "zarr.json" if version is OmeVersion.V05 else ".zarray"
    for number, name in enumerate(puts):
        folder, _, last = name.rpartition("/")
        if last in {group, array}:
            below = f"{folder}/" if folder else ""
            assert not [each for each in puts[number + 1 :] if each.startswith(below)], name


def test_an_upload_that_would_mix_two_stores_is_refused(
    server: Server, plates: dict[OmeVersion, Path], tmp_path: Path
) -> None:
    remote = there(server, server.bucket())
    local = tmp_path / "7.zarr"
    shutil.copytree(plates[OmeVersion.V05], local)
    (local / "B" / ".lock-of-somebody").touch()
    upload_store(local, remote)
    shard = local / "B/3/stitched/0/c/0/0/0/0/0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"x")
    with pytest.raises(LayoutError, match=r"a store already, and differs in .*0/0/0/0/0'"):
        upload_store(local, remote)
    shard.write_bytes(whole)
    remote.objects.put("B/3/stitched/0/c/0/0/0/7/7", b"of others")
    with pytest.raises(LayoutError, match=r"holds 'B/3/stitched/0/c/0/0/0/7/7'"):
        upload_store(local, remote)
    remote.objects.delete("B/3/stitched/0/c/0/0/0/7/7")
    (local / "B" / "link").symlink_to(tmp_path)
    with pytest.raises(LayoutError, match="is a link"):
        upload_store(local, remote)
    (local / "B" / "link").unlink()
    shutil.rmtree(local / "B/3/stitched")
    with pytest.raises(LayoutError, match=r"not valid.*settle_plate"):
        upload_store(local, there(server, server.bucket()))
    with pytest.raises(NotStoredError):
        upload_store(tmp_path / "nothing", remote)


def test_images_in_an_object_store_are_payloads(
    server: Server, plates: dict[OmeVersion, Path], kept: dict[OmeVersion, str], tmp_path: Path
) -> None:
    plate = ZarrReader(there(server, kept[OmeVersion.V05]))
    here = ZarrReader(plates[OmeVersion.V05])
    assert plate.keys("B/") == ["B/3/stitched", "B/3/stitched/labels/nuclei"]
    for key in plate.keys("B/"):
        assert_equal(plate.load(key), here.load(key))

    payload = Payload(data=noise((40, 50)), components=Components(well="B03"), lossy=True)
    ZarrStore(tmp_path / "store").store("a/b", payload)
    upload_store(tmp_path / "store/a/b", there(server, bucket := server.bucket()))
    reader = ZarrReader(RemoteFolder(f"s3://{bucket}/screens", server.access()))
    assert reader.keys() == ["7.zarr"]
    assert reader.exists("7.zarr")
    assert_equal(reader.load("7.zarr"), payload)
    with pytest.raises(NotStoredError, match=r"no image is kept under '8\.zarr'"):
        reader.load("8.zarr")


def test_a_plate_may_be_in_memory(plates: dict[OmeVersion, Path]) -> None:
    memory = RemoteFolder("memory:///")
    upload_store(plates[OmeVersion.V05], memory)
    assert (PlateReader(memory).open_image("A01", "stitched").read(2)[:1, :3] > 0).all()
    assert memory.folders() == ("A", "B")
    assert memory.below("B/3/stitched").folders() == ("0", "1", "2", "labels")
