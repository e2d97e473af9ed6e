"""The suite that a store of payloads has to pass."""

from __future__ import annotations

import threading
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from polystore._errors import FormatError, KeyNameError, NotStoredError, StorageError
from polystore._protocols import Backend, DataSink, Reader, Writer
from polystore.testing._equal import assert_equal, fingerprint
from polystore.testing._readers import HOSTILE_KEYS, ReaderTests, assert_raises
from polystore.testing._samples import samples
from polystore.testing._sinks import SinkTests, own_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from polystore._payload import Payload
    from polystore.testing._samples import Sample

__all__ = ["BackendTests", "Store"]


class Store(Backend, Reader, Writer, DataSink, Protocol):
    """A place that payloads can be written to and read from, by key or as a sink."""


class BackendTests(SinkTests, ReaderTests):
    """Subclass it in a test module and say how to make an empty store; pytest runs the rest.

    What a store cannot do it declares in its `Capabilities`; what it cannot hold, the subclass
    says in `holds`, and how keys have to end, in `key`.
    """

    @abstractmethod
    def make(self) -> Store:
        """Make an empty store. Called once in each test."""

    def make_sink(self) -> DataSink:
        """Make an empty store."""
        return self.make()

    def taken(self, sink: DataSink) -> Sequence[Payload]:
        """Load all that there is."""
        assert isinstance(sink, Reader)
        return [sink.load(key) for key in sink.keys()]  # noqa: SIM118

    def saves(self, payload: Payload) -> bool:
        """Say the same as `holds`."""
        return self.holds(payload)

    def filled(self, items: Mapping[str, Payload]) -> Reader:
        """Make a store and store them."""
        store = self.make()
        store.store_batch(items.items())
        return store

    def test_a_store_says_what_it_does(self) -> None:
        """It has the functions, and a value that says so."""
        store = self.make()
        assert isinstance(store, Writer)
        assert store.capabilities.writes
        kinds = {sample.payload.kind for sample in samples() if self.holds(sample.payload)}
        assert store.capabilities.kinds >= kinds

    def test_storing_changes_nothing_of_what_is_stored(self) -> None:
        """Neither the array nor whether it may be written."""
        store = self.make()
        for number, sample in enumerate(self._some(8)):
            before = fingerprint(sample.payload)
            store.store(self.key(f"a/{number}", sample.payload), sample.payload)
            assert fingerprint(sample.payload) == before, f"{sample.what} was changed"

    def test_what_cannot_be_held_is_refused_and_changes_nothing(self) -> None:
        """The error names the key, and what was there still is."""
        store = self.make()
        good = self._some(1)[0].payload
        key = self.key("a/b", good)
        store.store(key, good)
        for sample in samples():
            if not self.holds(sample.payload):
                assert_raises(
                    FormatError,
                    lambda key, payload=sample.payload: store.store(key, payload),  # type: ignore[misc]
                    key,
                )
        assert_equal(store.load(key), good)
        assert store.keys() == [key]

    def test_the_last_one_stored_counts(self) -> None:
        """A key has one payload; what was loaded before stays what it was."""
        store = self.make()
        first, second = (sample.payload for sample in self._pair())
        key = self.key("a/b", first)
        store.store(key, first)
        loaded = store.load(key)
        store.store(key, second)
        assert_equal(store.load(key), second)
        assert_equal(loaded, first)
        assert store.keys() == [key]

    def test_what_a_copying_store_keeps_is_its_own(self) -> None:
        """The caller goes on with its array, unless the store says that it refers to it."""
        store = self.make()
        if not store.capabilities.copies:
            return
        for payload, mine in own_arrays():
            if self.holds(payload):
                key = self.key("a", payload)
                store.store(key, payload)
                mine[...] = 1
                assert not store.load(key).array.any()
                return

    def test_what_is_deleted_is_gone(self) -> None:
        """Its folder too, if nothing else is in it; and it may be stored again."""
        store = self.make()
        payload = self._some(1)[0].payload
        one, other = self.key("a/b/1", payload), self.key("a/2", payload)
        store.store(one, payload)
        store.store(other, payload)
        loaded = store.load(one)
        store.delete(one)
        assert not store.exists(one)
        assert store.keys() == [other]
        assert store.folder("a").folders == ()
        assert_raises(NotStoredError, store.delete, one)
        assert_raises(NotStoredError, store.load, one)
        assert_equal(loaded, payload)
        store.store(one, payload)
        assert store.keys() == sorted((one, other))
        store.delete(one)
        store.delete(other)
        assert store.folder().folders == ()

    def test_what_cannot_be_a_key_is_not_written(self) -> None:
        """And not deleted; the error names it, and nothing is there afterwards."""
        store = self.make()
        payload = self._some(1)[0].payload
        for key in HOSTILE_KEYS:
            assert_raises(KeyNameError, lambda key: store.store(key, payload), key)
            assert_raises(KeyNameError, store.delete, key)
            assert_raises(KeyNameError, lambda key: store.store_batch([(key, payload)]), key)
        assert store.keys() == []
        assert store.folder().folders == ()

    def test_keys_that_look_alike_are_two_or_the_second_is_refused(self) -> None:
        """Never is one overwritten by the other."""
        store = self.make()
        first, second = (sample.payload for sample in self._pair())
        for one, other in (("case/Ab", "case/aB"), ("Up/a", "uP/a"), ("\u00e9/a", "e\u0301/a")):
            key, twin = self.key(one, first), self.key(other, second)
            store.store(key, first)
            if store.capabilities.folds_case:
                assert_raises(KeyNameError, lambda key: store.store(key, second), twin)
            else:
                store.store(twin, second)
                assert_equal(store.load(twin), second)
            assert_equal(store.load(key), first)

    def test_a_key_is_no_folder(self) -> None:
        """Unless the store says that it can be both."""
        store = self.make()
        payload = self._some(1)[0].payload
        inner = self.key("a/b/c", payload)
        outer = self.key("x", payload)
        below = self.key(f"{outer}/y", payload)
        store.store(outer, payload)
        if store.capabilities.keys_below_keys:
            store.store(below, payload)
            assert_equal(store.load(below), payload)
            return
        assert_raises(KeyNameError, lambda key: store.store(key, payload), below)
        folder = self.key("folder", payload)
        store.store(self.key(f"{folder}/{inner}", payload), payload)
        assert_raises(KeyNameError, lambda key: store.store(key, payload), folder)
        assert not store.exists(folder)
        assert_raises(NotStoredError, store.load, folder)
        assert_raises(NotStoredError, store.delete, folder)
        assert len(store.keys()) == 2

    def test_a_batch_that_fails_has_stored_what_came_before(self) -> None:
        """And nothing of what came after."""
        store = self.make()
        first, second = (sample.payload for sample in self._pair())
        one, other = self.key("a/1", first), self.key("a/2", second)

        def made() -> Iterator[tuple[str, Payload]]:
            yield one, first
            yield "../outside", second
            yield other, second

        store.store_batch([])
        assert_raises(StorageError, lambda _: store.store_batch(made()), "../outside")
        assert store.keys() == [one]
        store.store_batch({one: second, other: second}.items())
        assert_equal(store.load(one), second)
        absent = self.key("nothing/here", first)
        assert_raises(NotStoredError, lambda key: store.load_batch([one, key]), absent)

    def test_readers_never_see_half_of_what_a_writer_writes(self) -> None:
        """They get the old or the new."""
        store = self.make()
        first, second = (sample.payload for sample in self._pair())
        key = self.key("a/b", first)
        store.store(key, first)
        possible = {fingerprint(first), fingerprint(second)}
        done = threading.Event()

        def read() -> int:
            count = 0
            while not done.is_set() or not count:
                assert fingerprint(store.load(key)) in possible
                assert store.exists(key)
                assert key in store.keys("a/")
                count += 1
            return count

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            try:
                for number in range(30):
                    store.store(key, (second, first)[number % 2])
            finally:
                done.set()
            assert all(reader.result() for reader in readers)

    def test_several_writers_of_different_keys_lose_nothing(self) -> None:
        """Also where others delete, in folders that come and go."""
        store = self.make()
        pair = [sample.payload for sample in self._pair()]

        def write(number: int) -> None:
            payload = pair[number % 2]
            kept, gone = self.key(f"w/{number}", payload), self.key(f"d/{number % 3}/x", payload)
            mine = gone.replace("/x", f"/{number}", 1)
            for _ in range(5):
                store.store(kept, payload)
                store.store(mine, payload)
                assert store.exists(mine)
                store.delete(mine)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(12)))
        assert store.keys() == sorted(self.key(f"w/{n}", pair[n % 2]) for n in range(12))
        for number in range(12):
            assert_equal(store.load(self.key(f"w/{number}", pair[number % 2])), pair[number % 2])

    def _pair(self) -> tuple[Sample, Sample]:
        """Give two samples of one kind, which differ."""
        some = self._some(1000)
        first = some[0]
        return first, next(
            each
            for each in some
            if each.payload.kind == first.payload.kind
            and fingerprint(each.payload) != fingerprint(first.payload)
        )
