"""A window is never overdrawn and never grows."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zmqruntime import Credit
from zmqruntime.data._credits import CreditWindow

MESSAGES, NBYTES = 3, 100


class Window(RuleBasedStateMachine):
    """A model: the sizes of the messages under way."""

    def __init__(self) -> None:
        super().__init__()
        self.window = CreditWindow(Credit(MESSAGES, NBYTES))
        self.under_way: list[int] = []

    @rule(nbytes=st.integers(0, 150))
    def take(self, nbytes: int) -> None:
        room = not self.under_way or (
            len(self.under_way) < MESSAGES and sum(self.under_way) + nbytes <= NBYTES
        )
        assert self.window.has_room(nbytes) == room
        assert self.window.take(nbytes) == room
        if room:
            self.under_way.append(nbytes)

    @rule(count=st.integers(0, 3))
    def give_back(self, count: int) -> None:
        returned, self.under_way = self.under_way[:count], self.under_way[count:]
        self.window.give_back(Credit(len(returned), sum(returned)))

    @rule()
    def a_peer_that_miscounts_empties_the_account(self) -> None:
        self.window.give_back(Credit(1000, 1 << 40))
        self.under_way.clear()

    @invariant()
    def the_account_is_right(self) -> None:
        assert self.window.used == Credit(len(self.under_way), sum(self.under_way))
        assert self.window.used.messages <= MESSAGES
        assert self.window.used.nbytes <= NBYTES or len(self.under_way) == 1
        assert self.window.granted == Credit(MESSAGES, NBYTES)


Window.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestWindow = Window.TestCase


def test_a_message_larger_than_the_window_goes_alone() -> None:
    window = CreditWindow(Credit(3, 10))
    assert window.take(50)
    assert not window.take(1)
    window.give_back(Credit(1, 50))
    assert window.take(1)
    assert not window.take(50)


def test_credit_is_never_negative() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        Credit(-1, 0)
    with pytest.raises(ValueError, match="at least one message"):
        CreditWindow(Credit(0, 10))
