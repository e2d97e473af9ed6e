from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore import (
    AccessDeniedError,
    ChecksumError,
    Components,
    Kind,
    MissingExtraError,
    NotStoredError,
    NotWrittenError,
    Payload,
    StorageError,
    UnreachableError,
    UnreadableError,
)
from polystore.backends import DiskStore, RemoteAccess, RemoteStore
from polystore.files import Checksum
from polystore.formats import JsonFormat, NpyFormat, RoiZipFormat
from polystore.testing import BackendTests, Store, assert_equal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.polystore.backends.remote.conftest import Server

    from polystore.formats import Format

KEY_ID = "AKIAEXAMPLEKEYID"
SECRET = "never-to-be-seen-in-a-message"
PLANE = Payload(data=np.arange(6, dtype=np.uint16).reshape(2, 3), components=Components(well="A01"))
LARGE = Payload(data=np.random.default_rng(0).integers(0, 9999, (1500, 2000)).astype(np.uint16))


class OfObjects(BackendTests):
    """The suite; regions as ROI zip, tables and text as JSON, arrays as NPY."""

    def holds(self, payload: Payload) -> bool:
        return self._format(payload).refusal(payload) is None

    def key(self, name: str, payload: Payload | None = None) -> str:
        return name + (self._format(payload).suffixes[0] if payload is not None else ".npy")

    def _format(self, payload: Payload | None) -> Format:
        npy = NpyFormat()
        if payload is None or npy.refusal(payload) is None:
            return npy
        return RoiZipFormat() if payload.kind is Kind.REGIONS else JsonFormat()


class TestInMemory(OfObjects):
    def make(self) -> Store:
        return RemoteStore("memory:///")


@pytest.mark.req("002.21")
class TestS3(OfObjects):
    @pytest.fixture(autouse=True)
    def _server(self, server: Server) -> None:
        self.server = server

    def make(self) -> Store:
        return self.server.store(checksum=Checksum.SHA256)


class Way:
    """A way to a server that can be cut in the middle of what is sent."""

    def __init__(self, port: int, *, cut_after: int) -> None:
        self._to = port
        self._left = cut_after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += (client, there)
            for one, other, counts in ((client, there, True), (there, client, False)):
                thread = threading.Thread(
                    target=self._carry, args=(one, other), kwargs={"counts": counts}
                )
                self._threads.append(thread)
                thread.start()

    def _carry(self, one: socket.socket, other: socket.socket, *, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                if counts:
                    self._left -= len(content)
                    if self._left < 0:
                        break
                other.sendall(content)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


def access_at(port: int, **options: Any) -> RemoteAccess:
    endpoint = f"http://127.0.0.1:{port}"
    return RemoteAccess(endpoint=endpoint, key_id=KEY_ID, secret_key=SECRET, **options)


def told(act: Callable[[], object], error: type[Exception], match: str) -> Exception:
    """What somebody is told, which has no credentials in it, however it is printed."""
    with pytest.raises(error, match=match) as caught:
        act()
    everything = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in everything
    assert KEY_ID not in everything
    return caught.value


@pytest.mark.parametrize("cut_after", [1000, 500_000, 5_500_000])
def test_a_server_that_dies_during_an_upload_leaves_the_old(server: Server, cut_after: int) -> None:
    bucket = server.bucket()
    store = server.store(bucket)
    store.store("a.npy", PLANE)
    way = Way(server.port, cut_after=cut_after)
    try:
        cut = RemoteStore(
            f"s3://{bucket}/some/prefix", access_at(way.port, retries=1, timeout_s=20)
        )
        error = told(
            lambda: cut.store("a.npy", LARGE),
            NotWrittenError,
            r"a\.npy was not written: .*127\.0\.0\.1.*after 1 retries.*try again",
        )
        assert isinstance(error.__cause__, UnreachableError)
    finally:
        way.close()
    assert_equal(store.load("a.npy"), PLANE)
    assert store.keys() == ["a.npy"]
    store.store("a.npy", LARGE)
    assert_equal(store.load("a.npy"), LARGE)


def test_a_connection_that_is_refused_is_an_error_that_names_the_endpoint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store = RemoteStore("s3://plates", access_at(port, retries=2))
    for act in (lambda: store.load("a.npy"), store.keys, lambda: store.exists("a.npy")):
        told(act, UnreachableError, rf"127\.0\.0\.1:{port} did not give an answer.*no connection")
    error = told(lambda: store.store("a.npy", PLANE), NotWrittenError, "a.npy was not written")
    assert isinstance(error, OSError)
    assert error.errno == errno.ECONNREFUSED


def test_a_server_that_never_answers_is_asked_so_often_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = RemoteStore("s3://plates", access_at(port, retries=2, timeout_s=0.3, deadline_s=20))
        told(lambda: store.load("a.npy"), UnreachableError, "no answer in time.*after 2 retries")
        silent.setblocking(False)
        asked = []
        with contextlib.suppress(BlockingIOError):
            while True:
                asked.append(silent.accept()[0])
        for each in asked:
            each.close()
        assert len(asked) == 3


def test_a_bucket_that_is_not_there_is_told_from_an_object_that_is_not(server: Server) -> None:
    store = RemoteStore("s3://no-such-bucket", server.access())
    for act in (
        lambda: store.load("a.npy"),
        store.keys,
        lambda: store.exists("a.npy"),
        lambda: store.delete("a.npy"),
    ):
        told(act, UnreachableError, "s3://no-such-bucket at .* has no such bucket")
    told(lambda: store.store("a.npy", PLANE), NotWrittenError, "no such bucket")
    there = server.store()
    assert not there.exists("a.npy")
    told(lambda: there.load("a.npy"), NotStoredError, r"a\.npy")


def test_credentials_that_are_refused_are_an_error_that_shows_none(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = server.store()
    store.store("a.npy", PLANE)
    server.ask("POST", "/moto-api/reset-auth", b"0")  # from here on it looks at them
    try:
        with caplog.at_level(logging.DEBUG):
            told(lambda: store.load("a.npy"), AccessDeniedError, "refuses access.*credentials")
            told(store.keys, AccessDeniedError, "refuses access")
            error = told(lambda: store.store("a.npy", LARGE), NotWrittenError, "refuses access")
    finally:
        server.ask("POST", "/moto-api/reset-auth", b"1000000")
    assert isinstance(error, OSError)
    assert error.errno == errno.EACCES
    assert SECRET not in caplog.text
    assert_equal(store.load("a.npy"), PLANE)


def test_credentials_are_shown_nowhere(server: Server) -> None:
    access = server.access(session_token="a-token")
    store = RemoteStore("s3://plates", access)
    for text in (repr(access), repr(store), store.where):
        assert not {each for each in (SECRET, KEY_ID, "a-token") if each in text}
    error = told(
        lambda: RemoteStore(f"s3://{KEY_ID}:{SECRET}@plates"), StorageError, "RemoteAccess"
    )
    assert "plates" not in str(error)
    with pytest.raises(ValueError, match="belong together"):
        RemoteAccess(key_id=KEY_ID)


@pytest.mark.parametrize("checksum", [None, Checksum.XXH128])
def test_an_object_that_was_cut_or_changed_is_an_error(
    server: Server, checksum: Checksum | None
) -> None:
    bucket = server.bucket()
    store = server.store(bucket, checksum=checksum)
    store.store("a.npy", PLANE)
    other = RemoteStore(f"s3://{bucket}/some/prefix", server.access())._objects.raw
    content = bytes(other.get("a.npy").bytes())
    attributes = other.get("a.npy").attributes
    other.put("a.npy", content[:-3], attributes=attributes)
    told(lambda: store.load("a.npy"), UnreadableError, r"a\.npy")
    if checksum is not None:
        # pixels that look as good as any
        other.put("a.npy", content[:-1] + b"\x07", attributes=attributes)
        told(lambda: store.load("a.npy"), ChecksumError, r"a\.npy is not what was stored")
        assert server.store(bucket).keys() == ["a.npy"]


@pytest.mark.parametrize("where", ["memory", "s3"])
def test_no_update_of_a_document_is_lost(server: Server, where: str) -> None:
    stores = [RemoteStore("memory:///")] * 4
    if where == "s3":
        stores = [server.store()]  # the server itself looks first and writes then, in two steps

    def add(store: RemoteStore, name: str) -> None:
        for _ in range(10):
            store.update_json("it", lambda old: {**old, name: old.get(name, 0) + 1}, default={})

    workers = [
        threading.Thread(target=add, args=(store, str(number)))
        for number, store in enumerate(stores)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {str(number): 10 for number in range(len(stores))}
    assert stores[0].update_json("it", lambda old: old) == expected
    with pytest.raises(NotStoredError, match="nothing"):
        stores[0].update_json("nothing", lambda old: old)


def test_an_update_is_made_again_from_what_another_wrote_meanwhile(server: Server) -> None:
    store = server.store()
    store.update_json("it", lambda old: [*old, 0], default=[])
    seen = []

    def change(old: list[int]) -> list[int]:
        seen.append(old)
        if len(seen) == 1:
            store.update_json("it", lambda old: [*old, 1])
        return [*old, 2]

    assert store.update_json("it", change) == [0, 1, 2]
    assert seen == [[0], [0, 1]]


def test_what_is_stored_is_the_file_that_a_disk_would_have(server: Server, tmp_path: Path) -> None:
    bucket = server.bucket()
    DiskStore(tmp_path).store("a/b.npy", PLANE)
    server.store(bucket).store("a/b.npy", PLANE)
    objects = server.store(bucket)._objects.raw
    assert (tmp_path / "a" / "b.npy").read_bytes() == bytes(objects.get("a/b.npy").bytes())
    objects.put("by-others.json", b"{}")
    objects.put("a/.hidden.npy", b"x")
    assert server.store(bucket).keys() == ["a/b.npy", "by-others.json"]


def test_a_forked_process_is_told_to_open_the_store_itself() -> None:
    store = RemoteStore("memory:///")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            store.keys()
        except UnreachableError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert b"opened by another process" in stream.read()


def test_what_is_no_url_of_a_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="DiskStore"):
        RemoteStore("file:///tmp")
    for url in ("ftp://somewhere/a", "nonsense"):
        with pytest.raises(StorageError, match=url):
            RemoteStore(url)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(MissingExtraError, match=r"polystore\[remote\]"):
        RemoteStore("memory:///")


def test_payloads_that_are_sent_are_kept_under_their_names() -> None:
    store = RemoteStore("memory:///", saved_as={Kind.IMAGE: ".tif"})
    store.save(PLANE)
    assert store.keys() == ["well=A01/image.tif"]
