from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime.testing import FakeClock, FaultyLink, LinkFault, random_faults

SCRIPTS = st.lists(st.sampled_from(LinkFault), max_size=40)


@given(SCRIPTS)
def test_every_message_arrives_or_is_counted(script: list[LinkFault]) -> None:
    clock = FakeClock()
    link: FaultyLink[int] = FaultyLink(script, delay=1.0, clock=clock)
    for number in range(50):
        link.heal()
        link.send(number)
    link.settle()
    clock.advance(1.0)
    arrived = link.receive()
    assert link.counters["sent"] == 50
    assert link.counters["received"] == len(arrived)
    assert len(arrived) == 50 + link.counters["duplicate"] - link.counters["lost"]
    assert link.next_due() is None


@given(SCRIPTS)
def test_nothing_arrives_before_it_is_sent(script: list[LinkFault]) -> None:
    clock = FakeClock()
    link: FaultyLink[int] = FaultyLink(script, delay=3.0, clock=clock)
    for number in range(50):
        link.heal()
        link.send(number)
        assert all(each <= number for each in link.receive())
        clock.advance(1.0)


def test_a_link_without_faults_changes_nothing() -> None:
    link: FaultyLink[int] = FaultyLink()
    for number in range(100):
        link.send(number)
    assert link.receive() == list(range(100))


def test_a_delayed_message_is_overtaken() -> None:
    clock = FakeClock()
    link: FaultyLink[str] = FaultyLink(["delay"], delay=2.0, clock=clock)
    link.send("slow")
    link.send("fast")
    assert link.next_due() == 0.0
    assert link.receive() == ["fast"]
    assert link.next_due() == 2.0
    clock.advance(2.0)
    assert link.receive() == ["slow"]


def test_a_cut_link_loses_all_until_it_is_healed() -> None:
    link: FaultyLink[str] = FaultyLink(["none", "reorder", "cut"])
    for word in "abcd":
        link.send(word)
    assert not link.connected
    assert link.receive() == []
    assert link.counters["lost"] == 4
    link.heal()
    link.send("e")
    assert link.receive() == ["e"]


def test_faults_of_a_seed_are_always_the_same() -> None:
    weights = {"drop": 0.2, "reorder": 0.2, "cut": 0.3}
    first = list(islice(random_faults(3, weights, most_cuts=2), 100))
    assert first == list(islice(random_faults(3, weights, most_cuts=2), 100))
    assert first != list(islice(random_faults(4, weights, most_cuts=2), 100))
    assert first.count(LinkFault.CUT) == 2


@pytest.mark.parametrize("weights", [{"drop": 1.5}, {"drop": -0.1}, {"explode": 0.1}])
def test_impossible_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        next(random_faults(1, weights))
