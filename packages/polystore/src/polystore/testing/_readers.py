"""The suite that whatever gives payloads back by key has to pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import KeyNameError, NotStoredError
from polystore._keys import KEY_MOST_BYTES, PART_MOST_BYTES, Folder, check_key
from polystore._protocols import Backend, Capabilities, Reader
from polystore.testing._equal import assert_equal
from polystore.testing._samples import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polystore._payload import Payload
    from polystore.testing._samples import Sample

__all__ = ["HOSTILE_KEYS", "ReaderTests", "assert_raises"]

HOSTILE_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "//server/share",
    "..",
    "../outside",
    "a/../../outside",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a/\x00b",
    "a\x00",
    "a\nb",
    "a\x7f",
    "C:\\windows",
    "a\\b",
    "C:a",
    "a:stream",
    "what?",
    "*",
    "a|b",
    "<a>",
    '"a"',
    ".hidden",
    "a/.hidden/b",
    " a",
    "a ",
    "a/b ",
    "a.",
    "a./b",
    "\u00a0a",
    "\ud800",
    "a/" + "x" * (PART_MOST_BYTES + 1),
    "µ" * (PART_MOST_BYTES // 2 + 1),
    "/".join(["part"] * (KEY_MOST_BYTES // 4)),
)
"""What no place takes for a key: names that lead elsewhere, or are no files on some system."""

_NAMES = (
    "B03/stitched",
    "Platte µ 1/Größe = 2,5 nm (roh)/細胞 🔬",
    "well=B03/channel=1/image",
    "a/b/c/d/e/f/g/h",
    "UPPER/lower-under_score.dots...and more",
    "%41/100%/~tilde$/#1/@/+/;/'/`/^/[x]/{y}/!",
)


class ReaderTests(ABC):
    """Subclass it in a test module and say how to make the reader; pytest runs the rest.

    It is for places that are filled in a way of their own; what can be written by key has to pass
    `BackendTests`, which has these tests too.
    """

    @abstractmethod
    def filled(self, items: Mapping[str, Payload]) -> Reader:
        """Make a reader that has these payloads, and nothing else. Called once in each test."""

    def holds(self, payload: Payload) -> bool:
        """Say whether a payload can be held; override it for what is choosy."""
        del payload
        return True

    def key(self, stem: str, payload: Payload) -> str:
        """Make a key of `stem` that the place takes for a payload, as with a suffix."""
        del payload
        return stem

    def test_a_reader_says_what_it_does(self) -> None:
        """It has the functions, and a value that says so."""
        reader = self.filled({})
        assert isinstance(reader, Reader)
        assert isinstance(reader, Backend)
        assert reader.capabilities.reads
        assert isinstance(reader.capabilities, Capabilities)
        assert reader.capabilities == reader.capabilities
        assert reader.keys() == []
        assert reader.folder() == Folder(name="", folders=(), keys=())

    def test_what_is_kept_comes_back(self) -> None:
        """Of every kind and type, to the last bit; alone and in a batch."""
        held = [sample for sample in samples() if self.holds(sample.payload)]
        items = {
            self.key(f"samples/{number}", sample.payload): sample
            for number, sample in enumerate(held)
        }
        reader = self.filled({key: sample.payload for key, sample in items.items()})
        for key, sample in items.items():
            try:
                assert_equal(reader.load(key), sample.payload)
            except AssertionError as error:
                raise AssertionError(f"{sample.what}: {error}") from error
        backwards = list(reversed(items))
        for key, payload in zip(backwards, reader.load_batch(backwards), strict=True):
            assert_equal(payload, items[key].payload)
        assert reader.load_batch([]) == []
        assert reader.keys() == sorted(items)

    def test_what_comes_back_is_read_only(self) -> None:
        """Nobody can change what is kept by what they were given."""
        payload = self._some(1)[0].payload
        key = self.key("a", payload)
        reader = self.filled({key: payload})
        loaded = reader.load(key)
        if isinstance(loaded.data, np.ndarray):
            assert not loaded.data.flags.writeable
        assert_equal(reader.load(key), payload)

    def test_keys_are_names_in_any_language(self) -> None:
        """And what is there is found, listed and loaded by them, also by long ones."""
        payload = self._some(1)[0].payload
        end = len(self.key("", payload).encode())
        part = "x" * (PART_MOST_BYTES - end)
        deep = "/".join(["y" * (PART_MOST_BYTES - 1)] * 4)
        keys = [self.key(name, payload) for name in (*_NAMES, part, f"{deep}/{part}")]
        reader = self.filled(dict.fromkeys(keys, payload))
        assert reader.keys() == sorted(keys)
        for key in keys:
            assert reader.exists(key)
            assert_equal(reader.load(key), payload)
            folder, _, _ = key.rpartition("/")
            assert key in reader.folder(folder).keys

    def test_what_cannot_be_a_key_is_an_error_that_names_it(self) -> None:
        """For every verb; nothing is looked for outside."""
        payload = self._some(1)[0].payload
        reader = self.filled({self.key("a", payload): payload})
        for stem in HOSTILE_KEYS:
            for key in {stem, self.key(stem, payload) if stem else stem}:
                if _is_a_key(key):
                    continue  # with its suffix, "a." is one
                for act in (reader.load, reader.exists, lambda key: reader.load_batch([key])):
                    assert_raises(KeyNameError, act, key)
                if key:
                    assert_raises(KeyNameError, reader.folder, key)
        assert reader.keys("/etc") == []
        assert reader.keys("../") == []

    def test_what_is_not_there_is_an_error_that_names_it(self) -> None:
        """It is not the same as a name that cannot be."""
        payload = self._some(1)[0].payload
        reader = self.filled({self.key("here/a", payload): payload})
        for stem in ("nothing/here", "here/b", "here", f"{self.key('here/a', payload)}/below"):
            key = self.key(stem, payload)
            assert not reader.exists(key)
            assert_raises(NotStoredError, reader.load, key)
            assert_raises(NotStoredError, lambda key: reader.load_batch([key]), key)

    def test_keys_are_listed_by_what_they_start_with(self) -> None:
        """Sorted, and only those asked for, wherever the beginning ends."""
        payload = self._some(1)[0].payload
        stems = ("b/2", "a/2", "a/1", "ab", "a/b/c/1", "ä/1", "a!/1", "a0/1")
        keys = {stem: self.key(stem, payload) for stem in stems}
        reader = self.filled(dict.fromkeys(keys.values(), payload))
        assert reader.keys() == sorted(keys.values())
        for prefix in ("a/", "a", "a/b", "a/b/", "a/b/c/1", "b/2", "ab", "ä", "x", "a/x/", "b//"):
            assert reader.keys(prefix) == sorted(
                key for key in keys.values() if key.startswith(prefix)
            ), prefix

    def test_a_folder_lists_what_lies_directly_in_it(self) -> None:
        """Whole names, sorted; one that is not there is empty."""
        payload = self._some(1)[0].payload
        stems = ("b/2", "a/2", "a/1", "ab", "a/b/c/1", "a/bc/1")
        at = {stem: self.key(stem, payload) for stem in stems}
        reader = self.filled(dict.fromkeys(at.values(), payload))
        assert reader.folder() == Folder(name="", folders=("a", "b"), keys=(at["ab"],))
        keys = tuple(sorted((at["a/1"], at["a/2"])))
        assert reader.folder("a") == Folder(name="a", folders=("a/b", "a/bc"), keys=keys)
        assert reader.folder("a/b") == Folder(name="a/b", folders=("a/b/c",), keys=())
        for absent in ("x", "a/x", at["ab"], f"{at['ab']}/x"):
            assert reader.folder(absent) == Folder(name=absent, folders=(), keys=())

    def test_several_threads_read_at_once(self) -> None:
        """Each gets what it asked for."""
        some = self._some(6)
        items = {
            self.key(f"t/{number}", sample.payload): sample.payload
            for number, sample in enumerate(some)
        }
        reader = self.filled(items)

        def read(key: str) -> None:
            assert_equal(reader.load(key), items[key])
            assert reader.exists(key)
            assert reader.keys("t/") == sorted(items)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, [*items] * 10))

    def _some(self, count: int) -> list[Sample]:
        """Give samples that are held, some pixels or rows each."""
        held = [
            sample
            for sample in samples()
            if self.holds(sample.payload) and 0 < sample.payload.nbytes < 2000
        ]
        assert len(held) >= 2, "hardly a sample is held: override holds()"
        return [held[number % len(held)] for number in range(count)]


def assert_raises(error: type[Exception], act: Callable[[str], object], key: str) -> None:
    """Check that a call raises an error that names the key, or the beginning of a long one.

    Raises
    ------
    AssertionError
        If it does not.
    """
    try:
        act(key)
    except error as caught:
        shown = repr(key)[1:-1]
        text = str(caught)
        assert shown in text or repr(key[:40])[1:-1] in text, f"{text} does not name {key!r}"
    else:
        raise AssertionError(f"{key!r} was no {error.__name__}")


def _is_a_key(key: str) -> bool:
    try:
        check_key(key)
    except KeyNameError:
        return False
    return True
