"""What is kept for a receiver that comes again is bounded, in order, and complete or named."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime import Credit, GapReason, InlineLimits, Mode
from zmqruntime.carriers import CarrierReason, HostIdentity
from zmqruntime.data._carried import Carried
from zmqruntime.data._gaps import SequenceCheck
from zmqruntime.data._lane import Lane
from zmqruntime.data._outgoing import Outgoing
from zmqruntime.data._replay import Queued, QueuedLoss, ReplayRing, cost
from zmqruntime.data._stream_messages import Acks, AckStatus

LIMITS = InlineLimits()
EMPTY = cost(Outgoing.of(b"", [], "", limits=LIMITS))


def payload(key: str, size: int = 0) -> Outgoing:
    return Outgoing.of(b"", [bytes(size)], key, limits=LIMITS)


def lane(limit: int) -> Lane:
    return Lane(
        topic="images",
        mode=Mode.RELIABLE,
        epoch="epoch",
        subscriber="viewer",
        incarnation="1",
        peer="viewer",
        host=HostIdentity.mine(),
        credit=Credit(8, 1 << 20),
        reason=CarrierReason.DISABLED,
        until=AckStatus.RECEIVED,
        replay_bytes=limit,
    )


@given(st.lists(st.integers(0, 3000), max_size=40), st.integers(0, 12_000))
@settings(max_examples=200, deadline=None)
def test_a_ring_keeps_the_newest_within_its_limit(sizes: list[int], limit: int) -> None:
    ring = ReplayRing(limit)
    evicted: list[int] = []
    for number, size in enumerate(sizes, 1):
        evicted += ring.keep(number, payload(str(number), size))
        assert ring.nbytes <= limit
    kept = [entry.again for entry in ring.find(1, len(sizes))]
    assert evicted + kept == list(range(1, len(sizes) + 1))
    if evicted:  # the one that went last would not have fitted beside those that stay
        assert ring.nbytes + EMPTY + sizes[evicted[-1] - 1] > limit
    for number in kept:
        ring.done(number)
        ring.done(number)
    assert (len(ring), ring.nbytes) == (0, 0)


@given(
    sent=st.integers(0, 12),
    acknowledged=st.sets(st.integers(1, 12)),
    waiting=st.lists(st.booleans(), max_size=12),
    meanwhile=st.integers(0, 12),
    room=st.integers(0, 40),
)
@settings(max_examples=300, deadline=None)
def test_a_receiver_that_comes_again_gets_or_misses_each_payload_once_and_in_order(
    sent: int, acknowledged: set[int], waiting: list[bool], meanwhile: int, room: int
) -> None:
    limit = room * EMPTY
    run = lane(limit)
    published = 0
    for _ in range(sent):
        published += 1
        run.outbox.sent(run.outbox.number(), str(published))
        run.ring.keep(published, payload(str(published)))
    done = {number for number in acknowledged if number <= sent}
    for number in done:
        run.ring.done(number)
    run.outbox.heard(Acks(epoch="epoch", received=tuple(done)))
    lost = 0
    for waits in waiting:
        published += 1
        if waits:
            run.enqueue([Queued(payload=payload(str(published)))])
        else:
            run.enqueue_loss(GapReason.NO_CREDIT)
            lost += 1
    owed = Carried(limit)
    gone = owed.take_over(run)
    assert not run.queue
    for _ in range(meanwhile):
        published += 1
        gone += owed.add(Queued(payload=payload(str(published))))
    assert owed.nbytes <= limit
    successor, check = lane(limit), SequenceCheck()
    gaps = owed.hand_to(successor)
    keys = [int(entry.payload.key) for entry in successor.queue if isinstance(entry, Queued)]
    assert keys == sorted(set(keys))
    assert all(check.lost(gap.first, gap.last) for gap in gaps)
    missing = sum(map(len, gaps))
    assert check.last == missing == successor.outbox.last
    assert len(keys) + missing == published - len(done)
    evicted = sum(len(gap) for gap in gaps if gap.reason is GapReason.EVICTED)
    assert missing - evicted == lost
    assert evicted >= gone
    assert not owed


def test_losses_in_a_queue_are_one_entry_and_take_no_room() -> None:
    run = lane(0)
    for _ in range(1000):
        run.enqueue_loss(GapReason.NO_CREDIT)
    assert list(run.queue) == [QueuedLoss(reason=GapReason.NO_CREDIT, count=1000)]
    state = run.state(now=0.0)
    assert (state.lost, state.queued, run.queued_bytes) == (1000, 0, 0)
