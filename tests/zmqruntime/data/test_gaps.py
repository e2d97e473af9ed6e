"""Every number is accounted for once: it came, or it is named as missing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime import Credit, Gap, GapReason, Recovery
from zmqruntime.data._gaps import LossBook, SequenceCheck
from zmqruntime.data._outbox import Outbox
from zmqruntime.data._stream_messages import Acks, AckStatus, Failure

SUPERSEDED, NO_CREDIT = GapReason.SUPERSEDED, GapReason.NO_CREDIT


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 5)), max_size=40))
@settings(max_examples=300, deadline=None)
def test_every_number_is_accounted_for_exactly_once(
    events: list[tuple[bool, int, int]],
) -> None:
    check = SequenceCheck()
    seen: list[int] = []
    for came, number, more in events:
        if came:
            verdict = check.came(number)
            if verdict.missing:
                seen += range(verdict.missing[0], verdict.missing[1] + 1)
            if verdict.fresh:
                seen.append(number)
        else:
            for first, last, _ in check.lost(number, number + more):
                seen += range(first, last + 1)
    assert seen == list(range(1, check.last + 1))


@given(st.lists(st.sampled_from(["sent", SUPERSEDED, NO_CREDIT]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_a_receiver_learns_of_every_loss_in_front_of_the_next_payload(fates: list[str]) -> None:
    book, check = LossBook(), SequenceCheck()
    learned: dict[int, str] = {}
    for number, fate in enumerate(fates, 1):
        if fate != "sent":
            book.add(number, GapReason(fate))
            continue
        for loss in book.take():
            for first, last, named in check.lost(loss.first, loss.last):
                assert named
                learned.update(dict.fromkeys(range(first, last + 1), str(loss.reason)))
        verdict = check.came(number)
        assert verdict.fresh
        assert verdict.missing is None
        learned[number] = "sent"
    assert list(learned.values()) == fates[: len(learned)]
    assert bool(book) == (len(learned) < len(fates))


def test_a_jump_is_a_gap_and_a_repeat_is_not_fresh() -> None:
    check = SequenceCheck()
    assert check.came(1).missing is None
    assert check.came(4).missing == (2, 3)
    assert not check.came(3).fresh
    assert check.lost(6, 7) == [(5, 5, False), (6, 7, True)]
    assert check.lost(2, 7) == []


def test_neighbours_lost_for_one_reason_are_one_entry() -> None:
    book = LossBook()
    for number in (1, 2, 3, 5):
        book.add(number, SUPERSEDED)
    book.add(6, NO_CREDIT)
    assert [(each.first, each.last) for each in book.take()] == [(1, 3), (5, 5), (6, 6)]
    assert not book


def outbox(until: AckStatus = AckStatus.RECEIVED) -> Outbox:
    box = Outbox(topic="images", epoch="e", credit=Credit(8, 1000), until=until)
    for key in "abcd":
        box.window.take(100)
        box.sent(box.number(), key)
    return box


def test_news_are_booked_once_and_in_the_order_of_their_weight() -> None:
    box = outbox()
    acks = Acks(
        epoch="e",
        messages=2,
        nbytes=200,
        received=(1, 2, 3, 99),
        displayed=(2,),
        failed=(Failure(3, "kind", "tables have no pixels"),),
    )
    news, slots = box.heard(acks)
    assert [(ack.key, str(ack.status), ack.code) for ack in news] == [
        ("c", "failed", "kind"),
        ("b", "displayed", ""),
        ("a", "received", ""),
    ]
    assert slots == []
    assert box.window.used == Credit(2, 200)
    assert box.unacknowledged() == ((4, "d"),)
    assert box.heard(acks)[0] == []
    assert [ack.key for ack in box.heard(Acks(epoch="e", displayed=(1, 4)))[0]] == ["a", "d"]
    assert box.is_clear()


def test_a_payload_may_have_to_be_displayed_to_count() -> None:
    box = outbox(AckStatus.DISPLAYED)
    box.heard(Acks(epoch="e", received=(1, 2, 4)))
    assert [key for _, key in box.unacknowledged()] == ["a", "b", "c", "d"]
    box.heard(Acks(epoch="e", displayed=(2,), failed=(Failure(3, "x", "y"),)))
    assert box.gaps(GapReason.RECEIVER_LOST) == [
        box.gap(1, 1, GapReason.RECEIVER_LOST, Recovery.REPLAY),
        box.gap(4, 4, GapReason.RECEIVER_LOST, Recovery.REPLAY),
    ]


def test_a_gap_says_how_many_are_missing() -> None:
    gap = Gap(topic="images", epoch="e", first=3, last=7, reason=GapReason.LINK)
    assert len(gap) == 5
    assert gap.recover is Recovery.NONE
