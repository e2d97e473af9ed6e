"""The book of lent slots, and the arenas behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zmqruntime.carriers import SlotBook, SlotLender

if TYPE_CHECKING:
    from pathlib import Path

TTL = 30.0
HOLDERS = st.sampled_from(["napari", "fiji"])


class Book(RuleBasedStateMachine):
    """A model: who holds which filling until when."""

    def __init__(self) -> None:
        super().__init__()
        self.book = SlotBook(3, ttl=TTL)
        self.now = 0.0
        self.held: dict[tuple[int, int], dict[str, float]] = {}
        self.generations = {0: 0, 1: 0, 2: 0}

    @rule(holders=st.sets(HOLDERS, min_size=1))
    def take(self, holders: set[str]) -> None:
        taken = self.book.take(sorted(holders), now=self.now)
        if len(self.held) == 3:
            assert taken is None
            return
        assert taken is not None
        slot, generation = taken
        assert all(slot != other for other, _ in self.held)
        assert generation == self.generations[slot] + 1
        self.generations[slot] = generation
        self.held[taken] = dict.fromkeys(holders, self.now + TTL)

    @rule(slot=st.integers(-1, 3), generation=st.integers(0, 6), holder=HOLDERS)
    def give_back(self, slot: int, generation: int, holder: str) -> None:
        known = holder in self.held.get((slot, generation), {})
        assert self.book.give_back(slot, generation, holder) == known
        if known:
            del self.held[slot, generation][holder]
            self._tidy()

    @rule(holder=HOLDERS)
    def renew(self, holder: str) -> None:
        self.book.renew(holder, now=self.now)
        for holders in self.held.values():
            if holder in holders:
                holders[holder] = self.now + TTL

    @rule(holder=HOLDERS)
    def drop(self, holder: str) -> None:
        ended = {(each.slot, each.generation) for each in self.book.drop(holder)}
        assert ended == {key for key, holders in self.held.items() if holder in holders}
        for holders in self.held.values():
            holders.pop(holder, None)
        self._tidy()

    @rule(seconds=st.floats(0.0, 40.0))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds
        expired = self.book.expire(now=self.now)
        ended = {(each.slot, each.generation, each.holder) for each in expired}
        over = {
            (*key, holder)
            for key, holders in self.held.items()
            for holder, end in holders.items()
            if end <= self.now
        }
        assert ended == over
        for slot, generation, holder in over:
            del self.held[slot, generation][holder]
        self._tidy()

    @invariant()
    def the_rest_is_free(self) -> None:
        assert self.book.free == 3 - len(self.held)
        ends = [end for holders in self.held.values() for end in holders.values()]
        assert self.book.next_expiry() == min(ends, default=None)

    def _tidy(self) -> None:
        self.held = {key: holders for key, holders in self.held.items() if holders}


Book.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestBook = Book.TestCase


def test_the_slot_that_came_back_last_is_lent_first() -> None:
    book = SlotBook(4)
    first = book.take(["napari"], now=0)
    second = book.take(["napari"], now=0)
    assert first is not None
    assert second is not None
    book.give_back(*first, "napari")
    again = book.take(["napari"], now=0)
    assert again == (first[0], 2)


@pytest.mark.parametrize(("slots", "ttl"), [(0, 1.0), (1, 0.0)])
def test_a_book_needs_slots_and_time(slots: int, ttl: float) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        SlotBook(slots, ttl=ttl)


def test_a_slot_is_lent_to_somebody() -> None:
    with pytest.raises(ValueError, match="at least one holder"):
        SlotBook(1).take([], now=0)


def test_a_larger_payload_makes_a_new_arena_and_the_old_one_goes_when_it_is_read(
    shm: Path,
) -> None:
    lender = SlotLender(directory=shm)
    small, large = [100_000], [5_000_000]
    first = lender.grow(small)
    lent = lender.take(small, ["napari"], now=0)
    assert lent is not None
    assert not lender.fits(large)
    assert lender.take(large, ["napari"], now=0) is None
    second = lender.grow(large)
    assert lender.current == second
    assert sorted(each.name for each in shm.iterdir()) == sorted([first, second])
    assert lender.give_back(lent, "napari")
    assert not lender.give_back(lent, "napari")
    assert [each.name for each in shm.iterdir()] == [second]
    lender.close()
    lender.close()
    assert list(shm.iterdir()) == []


def test_a_budget_bounds_the_slots_of_an_arena(shm: Path) -> None:
    lender = SlotLender(budget_bytes=4 << 20, directory=shm)
    assert not lender.could_hold([5 << 20])
    lender.grow([2 << 20])
    taken = [lender.take([2 << 20], ["napari"], now=0) for _ in range(3)]
    assert [lent is not None for lent in taken] == [True, True, False]
    assert len(lender.expire(now=100.0)) == 2
    assert lender.next_expiry() is None
    lender.close()
