from __future__ import annotations

import numpy as np
import pytest

from polystore import Components, DataSink, Kind, Payload, Reader, Regions, WriteOnlyError, Writer
from polystore import decode as decode_payload
from polystore.backends import MemoryBackend, StreamingBackend
from polystore.testing import BackendTests, Store, assert_equal


class TestMemoryThatCopies(BackendTests):
    def make(self) -> Store:
        return MemoryBackend(copy=True)


class TestMemoryThatRefers(BackendTests):
    def make(self) -> Store:
        return MemoryBackend(copy=False)


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
