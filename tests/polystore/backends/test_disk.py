from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polystore import (
    ChecksumError,
    Components,
    FormatError,
    KeyNameError,
    Kind,
    NotStoredError,
    NotWrittenError,
    Payload,
    UnknownFormatError,
    UnreadableError,
)
from polystore.backends import DiskStore
from polystore.files import Checksum, leftovers, remove_leftovers
from polystore.formats import (
    CsvFormat,
    Format,
    Formats,
    JsonFormat,
    NpyFormat,
    OmeTiffFormat,
    ParquetFormat,
    PngFormat,
    RoiZipFormat,
    TiffFormat,
)
from polystore.testing import BackendTests, Store, assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANE = Payload(data=np.arange(6, dtype=np.uint16).reshape(2, 3), components=Components(well="A01"))
TEXT = Payload(data="some", kind=Kind.TEXT)


class OnDisk(BackendTests):
    """The suite, with files of one format, in folders that are removed after each test."""

    folds_case: bool | None = None
    checksum: Checksum | None = None

    def format(self) -> Format:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _folders(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield

    def make(self) -> Store:
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        return DiskStore(
            Path(folder) / "store",
            formats=Formats([self.format()]),
            saved_as=dict.fromkeys(Kind, self.format().suffixes[0]),
            folds_case=self.folds_case,
            checksum=self.checksum,
        )

    def key(self, stem: str, payload: Payload) -> str:
        del payload
        return stem + self.format().suffixes[0]

    def holds(self, payload: Payload) -> bool:
        return self.format().refusal(payload) is None


class TestNpyOnDisk(OnDisk):
    def format(self) -> Format:
        return NpyFormat()


class TestJsonOnDisk(OnDisk):
    def format(self) -> Format:
        return JsonFormat()


class TestTiffOnDisk(OnDisk):
    def format(self) -> Format:
        return TiffFormat()


class TestOmeTiffOnDisk(OnDisk):
    def format(self) -> Format:
        return OmeTiffFormat()


class TestPngOnDisk(OnDisk):
    def format(self) -> Format:
        return PngFormat()


class TestParquetOnDisk(OnDisk):
    def format(self) -> Format:
        return ParquetFormat()


class TestCsvOnDisk(OnDisk):
    def format(self) -> Format:
        return CsvFormat()


class TestRoiZipOnDisk(OnDisk):
    def format(self) -> Format:
        return RoiZipFormat()


class TestDiskWithChecksums(OnDisk):
    checksum = Checksum.SHA256

    def format(self) -> Format:
        return NpyFormat()


class TestDiskThatFoldsCase(OnDisk):
    """As on macOS and Windows, whose disks these tests do not have."""

    folds_case = True

    def format(self) -> Format:
        return NpyFormat()


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "store")


def test_the_folder_is_made_when_something_is_stored(store: DiskStore) -> None:
    assert store.keys() == []
    assert not store.exists("a.npy")
    with pytest.raises(NotStoredError, match=r"store/a\.npy"):
        store.load("a.npy")
    assert not store.root.exists()
    store.store("a/b.npy", PLANE)
    assert np.load(store.root / "a" / "b.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_files_of_others_are_keys_if_a_format_reads_them(store: DiskStore) -> None:
    folder = store.root / "theirs"
    folder.mkdir(parents=True)
    np.save(folder / "plane.npy", np.ones((2, 2), np.uint8))
    for name in ("notes.md", ".hidden.npy", "Thumbs.db", "what?.npy", "trailing.npy "):
        (folder / name).write_text("x")
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff.npy"))).write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "a.npy").write_text("x")
    assert store.keys() == ["theirs/plane.npy"]
    assert store.folder("theirs").keys == ("theirs/plane.npy",)
    assert store.folder("theirs").folders == ()
    assert_equal(store.load("theirs/plane.npy"), Payload(data=np.ones((2, 2), np.uint8)))
    assert not store.exists("theirs/notes.md")
    with pytest.raises(UnknownFormatError, match=r"notes\.md.*\.npy"):
        store.load("theirs/notes.md")


def test_what_is_saved_has_a_name_of_its_components(store: DiskStore) -> None:
    store.save(PLANE)
    store.save(Payload(data="x", kind=Kind.TEXT, name="a/b: 100%"))
    assert store.keys() == ["text/a%2Fb%3A 100%25.json", "well=A01/image.npy"]
    with pytest.raises(UnknownFormatError, match=r"\.tif"):
        DiskStore(store.root, formats=Formats([NpyFormat()]), saved_as={Kind.IMAGE: ".tif"})


def test_a_link_leads_nowhere(store: DiskStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    np.save(outside / "secret.npy", np.ones((2, 2)))
    store.store("a/b.npy", PLANE)
    (store.root / "folder").symlink_to(outside)
    (store.root / "a" / "file.npy").symlink_to(outside / "secret.npy")
    (store.root / "loop").symlink_to(store.root / "loop")
    (store.root / "a" / "inner.npy").symlink_to(store.root / "a" / "b.npy")
    assert store.keys() == ["a/b.npy"]
    assert store.folder().folders == ("a",)
    assert store.folder("folder").keys == ()
    assert store.keys("folder/") == []
    for key in ("folder/secret.npy", "a/file.npy", "loop/a.npy", "a/inner.npy"):
        assert not store.exists(key)
        with pytest.raises(UnreadableError, match="is a link, and links are not followed"):
            store.load(key)
        with pytest.raises(NotStoredError):
            store.delete(key)
    for key in ("folder/new.npy", "folder/deeper/new.npy", "loop/new.npy"):
        with pytest.raises(NotWrittenError, match=r"new\.npy.*is a link"):
            store.store(key, PLANE)
    store.store("a/file.npy", PLANE)  # takes the place of the link, not of what it leads to
    assert np.load(outside / "secret.npy").sum() == 4
    assert sorted(path.name for path in outside.iterdir()) == ["secret.npy"]
    assert_equal(store.load("a/file.npy"), PLANE)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    store = DiskStore(tmp_path / "here")
    store.store("a.npy", PLANE)
    assert_equal(DiskStore(tmp_path / "there").load("a.npy"), PLANE)
    assert store.keys() == ["a.npy"]


def test_what_is_no_file_is_not_opened(store: DiskStore) -> None:
    store.store("a.npy", PLANE)
    os.mkfifo(store.root / "pipe.npy")  # whoever opens it waits for ever
    (store.root / "folder.npy").mkdir()
    for key in ("pipe.npy", "folder.npy"):
        assert not store.exists(key)
        with pytest.raises((UnreadableError, NotStoredError), match=key):
            store.load(key)
    assert store.keys() == ["a.npy"]


def test_a_damaged_file_is_an_error_that_names_it(store: DiskStore) -> None:
    store.store("B03/a.npy", PLANE)
    file = store.root / "B03" / "a.npy"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(UnreadableError, match=str(file)):
        store.load("B03/a.npy")
    with pytest.raises(UnreadableError, match=str(file)):
        store.load_mapped("B03/a.npy")


def test_a_file_that_is_not_what_was_stored_is_an_error(store: DiskStore) -> None:
    careful = DiskStore(store.root, checksum=Checksum.SHA256)
    careful.store("B03/a.npy", PLANE)
    file = store.root / "B03" / "a.npy"
    content = bytearray(file.read_bytes())
    content[130] ^= 1  # in the pixels, where no format would notice
    file.write_bytes(content)
    for each in (careful, store):
        with pytest.raises(ChecksumError, match=str(file)):
            each.load("B03/a.npy")
        assert each.keys() == ["B03/a.npy"]
    careful.delete("B03/a.npy")
    assert list(store.root.iterdir()) == []


def test_a_format_that_cannot_hold_it_is_said_with_those_that_can(store: DiskStore) -> None:
    store.store("a.npy", PLANE)
    with pytest.raises(FormatError, match=r"'a\.npy' cannot be written as NPY.*\.json"):
        store.store("a.npy", TEXT)
    assert_equal(store.load("a.npy"), PLANE)
    with pytest.raises(UnknownFormatError, match=r"'a\.czi'"):
        store.store("a.czi", PLANE)


def test_a_mapped_payload_is_the_file_as_it_was(store: DiskStore) -> None:
    store.store("a.npy", PLANE)
    mapped = store.load_mapped("a.npy")
    store.store("a.npy", Payload(data=np.zeros((9, 9))))
    store.delete("a.npy")
    assert_equal(mapped, PLANE)
    with pytest.raises(ValueError, match="read-only"):
        mapped.array[0, 0] = 1
    store.store("a.json", PLANE)
    with pytest.raises(FormatError, match=r"a\.json.*only NPY files can be mapped"):
        store.load_mapped("a.json")


@pytest.mark.parametrize("checksum", list(Checksum))
def test_a_mapped_file_is_compared_with_its_checksum_before_it_is_mapped(
    store: DiskStore, checksum: Checksum
) -> None:
    careful = DiskStore(store.root, checksum=checksum)
    careful.store("a.npy", PLANE)
    file = store.root / "a.npy"
    assert_equal(store.load_mapped("a.npy"), PLANE)
    content = bytearray(file.read_bytes())
    content[130] ^= 1
    file.write_bytes(content)
    for each in (careful, store):
        with pytest.raises(ChecksumError, match=str(file)):
            each.load_mapped("a.npy")
        assert each.load_mapped("a.npy", verify=False).array.shape == (2, 3)
    (store.root / ".a.npy.sum").write_text("nothing of the kind", encoding="ascii")
    with pytest.raises(UnreadableError, match="holds no checksums"):
        store.load_mapped("a.npy")
    careful.delete("a.npy")
    with pytest.raises(NotStoredError):
        store.load_mapped("a.npy")


def test_a_file_that_is_replaced_while_it_is_compared_is_not_taken_for_damaged(
    store: DiskStore,
) -> None:
    careful = DiskStore(store.root, checksum=Checksum.SHA256)
    images = [Payload(data=np.full((500, 500), number, np.uint16)) for number in range(2)]
    careful.store("a.npy", images[0])
    done = threading.Event()

    def replace_it() -> None:
        for turn in range(60):
            careful.store("a.npy", images[turn % 2])
        done.set()

    writer = threading.Thread(target=replace_it)
    writer.start()
    while not done.is_set():
        assert len(np.unique(store.load_mapped("a.npy").array)) == 1
    writer.join()


WRITE = """
import sys
import numpy as np
from polystore import Payload
from polystore.backends import DiskStore
store = DiskStore(sys.argv[1])
number = 0
while True:
    number += 1
    store.store("a/b.npy", Payload(data=np.full((700, 700), number, np.uint16), name=str(number)))
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_the_old_or_the_new_and_leftovers_are_known(
    store: DiskStore,
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(store.root)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline()
    child.kill()
    child.communicate()
    payload = store.load("a/b.npy")
    assert int(payload.name) >= 3
    assert np.unique(payload.array).tolist() == [int(payload.name)]
    assert store.keys() == ["a/b.npy"]
    remove_leftovers(store.root)
    assert leftovers(store.root) == []
    assert [path.name for path in (store.root / "a").iterdir()] == ["b.npy"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_is_an_error_and_the_old_file_stays(store: DiskStore) -> None:
    store.store("a/b.npy", PLANE)

    with (
        files_of_at_most(50_000),
        pytest.raises(NotWrittenError, match=r"a/b\.npy was not written"),
    ):
        store.store("a/b.npy", Payload(data=np.zeros((500, 500))))
    assert_equal(store.load("a/b.npy"), PLANE)
    assert [path.name for path in (store.root / "a").iterdir()] == ["b.npy"]


def test_folders_that_may_not_be_entered_are_named(store: DiskStore, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("a file")
        with pytest.raises(NotWrittenError, match="file"):
            DiskStore(blocked / "store").store("a.npy", PLANE)
        assert DiskStore(blocked / "store").keys() == []
        return
    store.store("a/b.npy", PLANE)
    (store.root / "a").chmod(0)
    try:
        for act in (store.load, store.exists):
            with pytest.raises(UnreadableError, match="a/b"):
                act("a/b.npy")
        with pytest.raises(UnreadableError, match="cannot be read"):
            store.keys()
        with pytest.raises(NotWrittenError):
            store.store("a/c.npy", PLANE)
    finally:
        (store.root / "a").chmod(0o700)


def test_a_file_in_the_way_is_named(store: DiskStore) -> None:
    store.root.mkdir()
    (store.root / "a").write_text("a file of somebody")
    with pytest.raises(KeyNameError, match=r"'a/b/c\.npy' cannot be kept below .*/a, which is"):
        store.store("a/b/c.npy", PLANE)
    assert (store.root / "a").read_text() == "a file of somebody"
