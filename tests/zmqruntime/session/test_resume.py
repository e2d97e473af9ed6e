from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zmqruntime.session._resume import History, Place, Retention, Tokens
from zmqruntime.session._sequence import Arrival, Sequences
from zmqruntime.testing import FakeClock, FaultyLink, LinkFault

KEY = bytes(range(32))
NUMBERS = st.integers(0, 2**63)


@given(st.integers(0, 2**32 - 1), NUMBERS, NUMBERS, st.text(max_size=20), st.text(max_size=20))
def test_a_token_names_the_place_that_it_was_made_for(
    epoch: int, one: int, other: int, topic: str, client: str
) -> None:
    place = Place(epoch=epoch, base=min(one, other), at=max(one, other))
    token = Tokens(KEY).issue(topic, place, client)
    assert Tokens(KEY).read(token, topic, client) == place
    assert Tokens(KEY).read(token, topic + "x", client) is None
    assert Tokens(KEY).read(token, topic, client + "x") is None
    assert Tokens(bytes(32)).read(token, topic, client) is None


@given(st.text(max_size=64))
@settings(max_examples=300)
def test_any_other_text_is_no_token(text: str) -> None:
    assert Tokens(KEY).read(text, "notify.layers", "owner") is None


def test_a_changed_token_is_no_token() -> None:
    token = Tokens(KEY).issue("notify.layers", Place(epoch=1, base=0, at=5), "owner")
    for index, letter in enumerate(token):
        other = "A" if letter != "A" else "B"
        forged = token[:index] + other + token[index + 1 :]
        assert Tokens(KEY).read(forged, "notify.layers", "owner") is None


def test_a_server_that_cannot_write_issues_tokens_for_its_own_life_only() -> None:
    tokens = Tokens(KEY)
    place = Place(epoch=1, base=0, at=5)
    before = tokens.issue("t", place, "c")
    tokens.forget_at_exit()
    after = tokens.issue("t", place, "c")
    assert tokens.read(before, "t", "c") == tokens.read(after, "t", "c") == place
    assert Tokens(KEY).read(after, "t", "c") is None


@pytest.mark.req("F.30")
def test_the_first_delta_after_a_baseline_is_number_1() -> None:
    history = History()
    for number in range(7):
        history.append(b"%d" % number)
    here = history.here()
    delta = history.append(b"next")
    assert Place(epoch=here.epoch, base=here.base, at=delta.seq).seq == 1


@pytest.mark.parametrize(
    ("place", "shown", "status", "reason"),
    [
        (None, False, "fresh", None),
        (None, True, "reset", "foreign"),
        (Place(epoch=2, base=0, at=3), True, "reset", "epoch"),
        (Place(epoch=1, base=0, at=99), True, "reset", "ahead"),
        (Place(epoch=1, base=0, at=3), True, "reset", "evicted"),
        (Place(epoch=1, base=0, at=6), True, "resumed", None),
        (Place(epoch=1, base=4, at=10), True, "resumed", None),
    ],
)
@pytest.mark.req("F.30")
def test_a_client_goes_on_or_is_told_why_not(
    place: Place | None, shown: bool, status: str, reason: str | None
) -> None:
    history = History(Retention(entries=4))
    for number in range(10):
        history.append(b"%d" % number)
    resumption = history.resume(place, shown=shown)
    assert (resumption.status, resumption.reason) == (status, reason)
    if status == "resumed" and place is not None:
        assert [delta.seq for delta in resumption.deltas] == list(range(place.at + 1, 11))
    else:
        assert resumption.place == history.here()


def test_old_deltas_are_let_go() -> None:
    clock = FakeClock()
    history = History(Retention(entries=100, seconds=10.0), clock=clock)
    history.append(b"old")
    clock.advance(11.0)
    history.append(b"new")
    assert len(history) == 1
    assert history.oldest == 2
    assert history.resume(Place(epoch=1, base=0, at=0), shown=True).reason == "evicted"


class ResumeModel(RuleBasedStateMachine):
    """A server's history and a client over a link that fails, against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = Tokens(KEY)
        self.history = History(Retention(entries=6))
        self.truth: list[int] = []
        self.sequences = Sequences()
        self.link: FaultyLink[tuple[int, str, int]] = FaultyLink()
        self.place = self.history.here()
        self.seen: list[int] = []
        self.lost = True

    @rule()
    def change(self) -> None:
        self.truth.append(len(self.truth))
        delta = self.history.append(b"%d" % self.truth[-1])
        if not self.lost:
            self._send(delta.seq, self.truth[-1])

    @precondition(lambda self: not self.lost)
    @rule(fault=st.sampled_from(list(LinkFault)))
    def trouble(self, fault: LinkFault) -> None:
        self.link._script = iter([fault])

    @rule()
    def receive(self) -> None:
        self.link.settle()
        for seq, token, value in self.link.receive():
            arrival = self.sequences.arrive("t", seq, token)
            if arrival is Arrival.NEXT:
                self.seen.append(value)
            elif arrival is Arrival.GAP:
                self.lost = True
                return
        self.lost = self.lost or not self.link.connected

    @rule(restart=st.booleans())
    def connect(self, restart: bool) -> None:
        self.link = FaultyLink()
        if restart:  # the server was killed, and reads its journal
            history = History(Retention(entries=6), epoch=self.history.epoch)
            for delta in self.history._deltas:
                history.restore(delta)
            self.history, self.tokens = history, Tokens(KEY)
        token = self.sequences.tokens.get("t")
        place = self.tokens.read(token, "t", "me") if token else None
        resumption = self.history.resume(place, shown=token is not None)
        self.place = resumption.place
        if resumption.status != "resumed":
            self.seen = list(self.truth)  # a baseline shows everything that is
        issued = self.tokens.issue("t", self.place, "me")
        self.sequences.start("t", self.place.seq, issued)
        for delta in resumption.deltas:
            self._send(delta.seq, int(delta.payload))
        self.lost = False

    @invariant()
    def nothing_is_out_of_order_and_nothing_is_twice(self) -> None:
        assert self.seen == self.truth[: len(self.seen)]

    def teardown(self) -> None:
        self.connect(restart=True)
        self.receive()
        assert self.seen == self.truth

    def _send(self, number: int, value: int) -> None:
        self.place = Place(epoch=self.place.epoch, base=self.place.base, at=number)
        token = self.tokens.issue("t", self.place, "me")
        self.link.send((self.place.seq, token, value))


TestResumeModel: Any = pytest.mark.req("B.6")(ResumeModel.TestCase)
TestResumeModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
