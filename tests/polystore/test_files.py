from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore import (
    Components,
    FileManager,
    KeyNameError,
    NotStoredError,
    Payload,
    PolystoreError,
    ReadOnlyError,
    UnknownBackendError,
    WriteOnlyError,
)
from polystore.backends import DiskStore, MemoryBackend, StreamingBackend, VirtualBackend
from polystore.testing import assert_equal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANE = Payload(data=np.arange(6, dtype=np.uint16).reshape(2, 3), components=Components(well="A01"))


@pytest.fixture
def sent() -> list[bytes]:
    return []


@pytest.fixture
def files(tmp_path: Path, sent: list[bytes]) -> FileManager:
    return FileManager(
        {
            "memory": MemoryBackend(copy=False),
            "disk": DiskStore(tmp_path),
            "viewer": StreamingBackend(lambda header, _: sent.append(header)),
            "server": VirtualBackend({"image/7": lambda _: PLANE}),
        }
    )


@pytest.mark.req("002.27")
def test_each_call_goes_to_the_backend_that_it_names(
    files: FileManager, sent: list[bytes], tmp_path: Path
) -> None:
    files.store("memory", "B03/a.npy", PLANE)
    files.store_batch("disk", {"B03/b.npy": PLANE, "B04/c.npy": PLANE}.items())
    files.save("viewer", PLANE)
    files.save_batch("memory", [PLANE])
    assert files.keys("memory") == ["B03/a.npy", "well=A01/image"]
    assert files.keys("disk", "B03/") == ["B03/b.npy"]
    assert files.folder("disk").folders == ("B03", "B04")
    assert (tmp_path / "B03" / "b.npy").is_file()
    assert_equal(files.load("disk", "B04/c.npy"), PLANE)
    assert [each.name for each in files.load_batch("server", ["image/7"])] == [""]
    assert len(sent) == 1
    files.delete("disk", "B03/b.npy")
    assert not files.exists("disk", "B03/b.npy")
    assert files.exists("memory", "B03/a.npy")
    assert files.names == ("memory", "disk", "viewer", "server")
    assert files.capabilities("disk").lasts
    assert not files.capabilities("memory").lasts


@pytest.mark.req("002.27")
def test_nothing_is_looked_for_elsewhere(files: FileManager) -> None:
    files.store("memory", "a.npy", PLANE)
    with pytest.raises(NotStoredError, match=r"a\.npy"):
        files.load("disk", "a.npy")
    with pytest.raises(KeyNameError, match=r"\.\./a"):
        files.load("disk", "../a.npy")


VERBS: dict[str, Callable[[FileManager, str], Any]] = {
    "load": lambda files, name: files.load(name, "a.npy"),
    "load_batch": lambda files, name: files.load_batch(name, ["a.npy"]),
    "exists": lambda files, name: files.exists(name, "a.npy"),
    "keys": lambda files, name: files.keys(name),
    "folder": lambda files, name: files.folder(name),
    "store": lambda files, name: files.store(name, "a.npy", PLANE),
    "store_batch": lambda files, name: files.store_batch(name, []),
    "delete": lambda files, name: files.delete(name, "a.npy"),
    "save": lambda files, name: files.save(name, PLANE),
    "save_batch": lambda files, name: files.save_batch(name, []),
    "capabilities": lambda files, name: files.capabilities(name),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_is_unknown_is_an_error_that_lists_the_others(
    files: FileManager, verb: str
) -> None:
    with pytest.raises(UnknownBackendError, match="'dsk'; there are: memory, disk, viewer"):
        VERBS[verb](files, "dsk")
    with pytest.raises(LookupError, match="there are: none"):
        VERBS[verb](FileManager(), "disk")


def test_what_a_backend_does_not_do_is_an_error_that_says_who_does(files: FileManager) -> None:
    refused: dict[str, set[str]] = {name: set() for name in files.names}
    files.store("memory", "a.npy", PLANE)
    files.store("disk", "a.npy", PLANE)
    for name in files.names:
        for verb, act in VERBS.items():
            try:
                act(files, name)
            except (ReadOnlyError, WriteOnlyError) as error:
                assert f"'{name}'" in str(error)  # noqa: PT017
                assert "memory" in str(error)  # noqa: PT017
                refused[name].add(verb)
            except PolystoreError:
                pass
        if name in {"memory", "disk"}:
            files.store(name, "a.npy", PLANE)
    assert refused == {
        "memory": set(),
        "disk": set(),
        "viewer": {
            "load", "load_batch", "exists", "keys", "folder", "store", "store_batch", "delete",
        },
        "server": {"store", "store_batch", "delete", "save", "save_batch"},
    }  # fmt: skip
    with pytest.raises(ReadOnlyError, match="none here does"):
        FileManager({"server": VirtualBackend()}).save("server", PLANE)


def test_a_name_is_given_once(files: FileManager) -> None:
    with pytest.raises(KeyNameError, match="'disk' already"):
        files.add("disk", MemoryBackend(copy=True))
    for wrong in ("", 3):
        with pytest.raises(KeyNameError, match="name of a backend"):
            files.add(wrong, MemoryBackend(copy=True))  # type: ignore[arg-type]
