from __future__ import annotations

import numpy as np
import pytest

from polystore import (
    Components,
    DataSink,
    Folder,
    Kind,
    Payload,
    Reader,
    Regions,
    WriteOnlyError,
    Writer,
)
from polystore import decode as decode_payload
from polystore.backends import MemoryBackend, StreamingBackend
from polystore.backends._key_tree import KeyTree
from polystore.testing import BackendTests, SinkTests, Store, assert_equal


class TestMemoryThatCopies(BackendTests):
    def make(self) -> Store:
        return MemoryBackend(copy=True)


class TestMemoryThatRefers(BackendTests):
    def make(self) -> Store:
        return MemoryBackend(copy=False)


class Sent(StreamingBackend):
    """A stream whose frames can be looked at."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, list[memoryview]]] = []
        super().__init__(lambda header, buffers: self.frames.append((header, list(buffers))))


class TestStream(SinkTests):
    def make_sink(self) -> DataSink:
        return Sent()

    def taken(self, sink: DataSink) -> list[Payload]:
        assert isinstance(sink, Sent)
        return [decode_payload(*frames) for frames in sink.frames]


def test_copying_or_referring_is_what_was_said() -> None:
    for copy in (True, False):
        mine = np.zeros((2, 2), np.uint8)
        store = MemoryBackend(copy=copy)
        store.store("a", Payload(data=mine))
        mine[0, 0] = 9
        assert store.load("a").array[0, 0] == (0 if copy else 9)


def test_every_kind_is_copied() -> None:
    store = MemoryBackend(copy=True)
    for payload in (
        Payload(data=Regions.from_polygons([[[0, 0]]]), kind=Kind.REGIONS),
        Payload(data={"a": np.ones(2), "b": ("x", "y")}, kind=Kind.TABLE),
        Payload(data="text", kind=Kind.TEXT),
    ):
        store.save(payload)
    assert len(store.keys()) == 3


def test_a_memory_store_stands_in_for_a_viewer() -> None:
    store = MemoryBackend(copy=False)
    store.save_batch(
        Payload(data=np.zeros((1, 1)), components=Components(well="A01", channel=c), name="x")
        for c in (0, 1)
    )
    assert store.keys("well=A01/") == ["well=A01/channel=0/image/x", "well=A01/channel=1/image/x"]
    assert isinstance(store, Reader)
    assert isinstance(store, Writer)
    assert isinstance(store, DataSink)


def test_a_copy_is_not_the_same_memory_for_any_kind() -> None:
    column = np.zeros(3)
    vertices = np.zeros((3, 2), np.float32)
    store = MemoryBackend(copy=True)
    store.store("t", Payload(data={"a": column}, kind=Kind.TABLE))
    regions = Regions(
        vertices=vertices,
        offsets=np.array([0, 3]),
        rings=np.array([0, 1]),
        kinds=np.array([2], np.uint8),
        labels=np.array([1]),
    )
    store.store("r", Payload(data=regions, kind=Kind.REGIONS))
    column[0] = vertices[0, 0] = 1
    assert not np.any(store.load("t").table["a"])
    assert not np.any(store.load("r").regions.vertices)


def test_one_folder_among_many_is_listed_and_all_are_taken_away_again() -> None:
    tree = KeyTree()
    for number in range(20_000):
        tree.add(f"plate/{number // 100:04}/{number % 100:02}.npy")
    listed = tree.folder("plate/0150")
    assert len(listed.keys) == 100
    assert listed.keys[7] == "plate/0150/07.npy"
    assert len(tree.keys("plate/0150/0")) == 10
    for number in range(20_000):
        tree.discard(f"plate/{number // 100:04}/{number % 100:02}.npy")
    assert tree.folder("") == Folder(name="", folders=(), keys=())


@pytest.mark.req("000.8")
def test_a_stream_takes_payloads_and_keeps_none() -> None:
    sent: list[tuple[bytes, list[memoryview]]] = []
    stream = StreamingBackend(lambda header, buffers: sent.append((header, list(buffers))))
    payloads = [Payload(data=np.full((2, 2), n), components=Components(z=n)) for n in range(3)]
    stream.save(payloads[0])
    stream.save_batch(payloads[1:])
    assert len(sent) == 3
    for frames, payload in zip(sent, payloads, strict=True):
        assert_equal(decode_payload(*frames), payload)
    assert isinstance(stream, DataSink)
    assert not isinstance(stream, Reader)
    with pytest.raises(WriteOnlyError, match="'a'"):
        stream.load("a")
    with pytest.raises(OSError, match="cannot be read from a stream"):
        stream.load("a")
