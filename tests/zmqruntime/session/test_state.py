from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zmqruntime.session import Change, StateRejectedError
from zmqruntime.session._state import Entry, Ledger, PropertyKey, Replica
from zmqruntime.testing import FakeClock

GAMMA: PropertyKey = ("layer", "layer-0", "gamma")


def change(client: str, value: Any, **more: Any) -> Change:
    scope, target, key = GAMMA
    return Change(scope=scope, target=target, key=key, value=value, client=client, **more)


def make(ledger: Ledger, asked: Change) -> Entry:
    ledger.check(asked)
    return ledger.commit(asked, asked.value)


@pytest.mark.req("B.9")
def test_a_change_that_expects_another_version_is_refused_with_what_is_so() -> None:
    ledger = Ledger()
    entry = make(ledger, change("one", 1.0))
    with pytest.raises(StateRejectedError, match="version 1, not 0") as caught:
        make(ledger, change("two", 2.0, expected_version=0))
    assert caught.value.code == "state.conflict"
    assert caught.value.conflict_with == {"client": "one", "version": 1, "value": 1.0}
    assert make(ledger, change("two", 2.0, expected_version=entry.version)).version == 2


@pytest.mark.req("B.9")
def test_a_drag_locks_others_out_until_it_is_committed() -> None:
    ledger = Ledger(clock=FakeClock())
    make(ledger, change("one", 1.0, interaction_id="d", phase="start"))
    with pytest.raises(StateRejectedError, match="dragged by one") as caught:
        make(ledger, change("two", 2.0))
    assert caught.value.code == "state.locked"
    assert caught.value.conflict_with is not None
    assert caught.value.conflict_with["client"] == "one"
    make(ledger, change("one", 1.5, interaction_id="d", phase="commit"))
    assert make(ledger, change("two", 2.0)).value == 2.0


@pytest.mark.req("B.9")
def test_a_drag_ends_after_2_seconds_of_silence_and_is_renewed_by_updates() -> None:
    clock = FakeClock()
    ledger = Ledger(clock=clock)
    make(ledger, change("one", 1.0, interaction_id="d", phase="start"))
    for _ in range(5):
        clock.advance(1.9)
        make(ledger, change("one", 1.0, interaction_id="d", phase="update"))
        assert ledger.holder(GAMMA) is not None
    clock.advance(2.0)
    assert ledger.holder(GAMMA) is None
    assert make(ledger, change("two", 2.0)).client == "two"


@pytest.mark.req("B.9")
def test_a_drag_ends_with_its_holder() -> None:
    ledger = Ledger(clock=FakeClock())
    make(ledger, change("one", 1.0, interaction_id="d", phase="start"))
    assert ledger.release("two") == 0
    assert ledger.release("one") == 1
    assert make(ledger, change("two", 2.0)).value == 2.0


class TwoClients(RuleBasedStateMachine):
    """Clients that add to one counter: whoever looked first adds, and nothing is lost."""

    clients = ("one", "two", "three")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = Ledger(clock=self.clock)
        self.views = dict.fromkeys(self.clients, (0, 0))
        self.added = 0
        self.holder: tuple[str, float] | None = None

    @rule(client=st.sampled_from(clients))
    def look(self, client: str) -> None:
        entry = self.ledger.entry(GAMMA)
        self.views[client] = (entry.value, entry.version) if entry else (0, 0)

    @rule(
        client=st.sampled_from(clients),
        phase=st.sampled_from([None, "start", "update", "commit"]),
    )
    def add(self, client: str, phase: str | None) -> None:
        value, version = self.views[client]
        drag = {"interaction_id": f"drag of {client}", "phase": phase} if phase else {}
        try:
            entry = make(self.ledger, change(client, value + 1, expected_version=version, **drag))
        except StateRejectedError as error:
            held = self.holder is not None and self.holder[1] > self.clock()
            if error.code == "state.locked":
                assert held
                assert self.holder is not None
                assert self.holder[0] != client
            else:
                current = self.ledger.entry(GAMMA)
                assert current is not None
                assert current.version != version
            return
        self.added += 1
        self.views[client] = (entry.value, entry.version)
        if phase in ("start", "update"):
            self.holder = (client, self.clock() + 2.0)
        elif phase == "commit":
            self.holder = None

    @rule(client=st.sampled_from(clients))
    def leave(self, client: str) -> None:
        self.ledger.release(client)
        if self.holder is not None and self.holder[0] == client:
            self.holder = None

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def no_update_is_lost(self) -> None:
        entry = self.ledger.entry(GAMMA)
        assert (entry.value if entry else 0) == self.added

    @invariant()
    def the_lock_is_with_its_holder(self) -> None:
        lock = self.ledger.holder(GAMMA)
        expected = self.holder if self.holder and self.holder[1] > self.clock() else None
        assert (lock.client if lock else None) == (expected[0] if expected else None)


TestTwoClients: Any = pytest.mark.req("B.9")(TwoClients.TestCase)
TestTwoClients.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_versions_go_on_after_a_restart() -> None:
    ledger = Ledger(version=7)
    ledger.restore(GAMMA, Entry(1.5, 9, "one"))
    assert make(ledger, change("two", 2.0)).version == 10


@pytest.mark.req("F.32")
def test_what_is_pending_lies_on_top_of_a_new_baseline() -> None:
    replica = Replica()
    replica.confirm(GAMMA, 1.0, 3)
    replica.propose("i1", GAMMA, 1.5)
    replica.propose("i2", GAMMA, 2.0)
    replica.baseline()
    replica.confirm(GAMMA, 0.5)
    assert (replica.value(GAMMA), replica.confirmed(GAMMA)) == (2.0, 0.5)
    replica.settle("i2", accepted=False)
    assert replica.value(GAMMA) == 1.5
    replica.settle("i1", accepted=True, value=1.4, version=8)
    assert (replica.value(GAMMA), replica.version(GAMMA)) == (1.4, 8)
    replica.settle("i1", accepted=True, value=9.0, version=9)
    assert replica.value(GAMMA) == 1.4


def test_an_older_word_of_the_server_changes_nothing() -> None:
    replica = Replica()
    replica.confirm(GAMMA, 2.0, 8)
    replica.confirm(GAMMA, 1.0, 7)
    assert replica.value(GAMMA) == 2.0
