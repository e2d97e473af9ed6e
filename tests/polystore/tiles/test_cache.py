from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from polystore.tiles import TileCache

BUDGET = 100
NAMES = st.sampled_from("abcdefgh")


class CacheMachine(RuleBasedStateMachine):
    """The cache beside an ordered map that does the same in the simplest way."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = TileCache(BUDGET)
        self.model: OrderedDict[str, tuple[int, int]] = OrderedDict()

    @rule(name=NAMES, quality=st.integers(0, 100), size=st.integers(0, 120))
    def put(self, name: str, quality: int, size: int) -> None:
        there = self.model.get(name)
        if there is not None and there[1] >= quality:
            size, quality = there
            self.model.move_to_end(name)
        elif size <= BUDGET:
            self.model.pop(name, None)
            while sum(kept for kept, _ in self.model.values()) + size > BUDGET:
                self.model.popitem(last=False)
            self.model[name] = (size, quality)
        pixels = np.full(size, quality, np.uint8)
        assert self.cache.put(name, quality, pixels) == (size <= BUDGET)

    @rule(name=NAMES, quality=st.integers(0, 100))
    def get(self, name: str, quality: int) -> None:
        there = self.model.get(name)
        found = self.cache.get(name, quality)
        if there is None or there[1] < quality:
            assert found is None
        else:
            self.model.move_to_end(name)
            assert found is not None
            assert (found.pixels.size, found.quality) == there
            assert not found.pixels.flags.writeable

    @invariant()
    def is_within_its_budget(self) -> None:
        assert self.cache.nbytes == sum(size for size, _ in self.model.values()) <= BUDGET
        assert len(self.cache) == len(self.model)


CacheMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestCache = CacheMachine.TestCase


@pytest.mark.req("001.8")
def test_a_cache_keeps_no_more_alive_than_it_counts() -> None:
    cache = TileCache(64 * 1024)
    tracemalloc.start()
    for number in range(50):
        frame = np.full((512, 512), number, np.uint8)  # a tile that pins it would pin 256 KiB
        cache.put(str(number), 100, frame[:64, :64])
    del frame
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert cache.nbytes == 64 * 1024
    assert held < 2 * cache.nbytes
    assert cache.evicted == 50 - 16


def test_a_cached_tile_does_not_change_with_the_memory_it_came_from() -> None:
    cache = TileCache(1000)
    pixels = np.zeros((4, 4), np.uint8)
    cache.put("a", 100, pixels)
    pixels[:] = 9
    found = cache.get("a")
    assert found is not None
    assert not found.pixels.any()
    assert (cache.hits, cache.misses) == (1, 0)
    cache.clear()
    assert cache.get("a") is None
    assert (cache.nbytes, cache.misses) == (0, 1)


def test_a_budget_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes or more"):
        TileCache(-1)
