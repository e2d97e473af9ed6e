from __future__ import annotations

from typing import Any

import pytest

from zmqruntime.execution import ExecutionStatus, JobRecord
from zmqruntime.execution._followers import Followers
from zmqruntime.execution._live import LiveJob
from zmqruntime.execution._worker_messages import Report
from zmqruntime.testing import FakeClock

PEER = b"peer"


def running(id_: str = "job", client: str = "me") -> LiveJob:
    record = JobRecord(id=id_, seq=1, kind="k", state=ExecutionStatus.RUNNING, client=client)
    return LiveJob(record, None)


def report(job: LiveJob, n: int, unit: str = "A01", fraction: float = 0.5) -> None:
    job.add_report(Report(n=n, time=0.0, unit=unit, phase="measure", fraction=fraction))


def seqs(notice: Any) -> list[list[int]]:
    return [[event["seq"] for event in job["events"]] for job in notice.body["jobs"]]


def test_what_happened_before_is_told_at_once_and_the_rest_as_it_comes() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    report(job, 1)
    report(job, 2, unit="A02")
    followers.follow(PEER, job, after=0)
    (notice,) = followers.due()
    assert seqs(notice) == [[1, 2]]
    assert followers.due() == []
    followers.acknowledged(PEER, notice.body["n"])
    report(job, 3)
    followers.changed(job)
    clock.advance(0.1)
    (notice,) = followers.due()
    assert seqs(notice) == [[3]]


@pytest.mark.req("F.13")
def test_a_peer_that_is_slow_gets_fewer_messages_with_the_latest_of_each() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    followers.follow(PEER, job, after=0)
    followers.follow(b"other", job, after=0)
    first, _ = followers.due()
    followers.acknowledged(b"other", 1)
    quick = 0
    for n in range(1, 20_001):
        report(job, n, unit=f"unit {n % 3}")
        followers.changed(job)
        clock.advance(0.001)
        for notice in followers.due():
            assert notice.peer == b"other" or notice.body == first.body
            followers.acknowledged(b"other", notice.body["n"])
            quick += notice.peer == b"other"
    assert quick > 500
    job.record = JobRecord(id="job", seq=1, kind="k", state=ExecutionStatus.COMPLETED)
    job.add_state(job.record, 0.0)
    followers.changed(job)
    followers.acknowledged(PEER, first.body["n"])
    told = {notice.peer: notice for notice in followers.due(urgent=["job"])}
    assert seqs(told[PEER]) == [[19_998, 19_999, 20_000, 20_001]]
    assert told[PEER].body["jobs"][0]["whole"]
    assert told[PEER].body["jobs"][0]["record"]["state"] == "completed"


def test_a_state_is_told_at_once_and_progress_at_a_pace() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    followers.follow(PEER, job, after=0)
    followers.acknowledged(PEER, followers.due()[0].body["n"])
    report(job, 1)
    followers.changed(job)
    assert followers.due() == []
    assert followers.next_due() == pytest.approx(0.02)
    assert len(followers.due(urgent=["job"])) == 1


def test_a_state_that_changed_while_a_message_was_under_way_is_told_with_its_answer() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    followers.follow(PEER, job, after=0)
    (notice,) = followers.due(urgent=["job"])
    job.add_state(job.record, 0.0)
    followers.changed(job)
    assert followers.due(urgent=["job"]) == []
    followers.acknowledged(PEER, notice.body["n"])
    assert seqs(*followers.due()) == [[1]]


def test_what_was_not_acknowledged_is_sent_again() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    followers.follow(PEER, job, after=0)
    (notice,) = followers.due()
    clock.advance(4.9)
    assert followers.due() == []
    clock.advance(0.2)
    assert [again.body for again in followers.due()] == [notice.body]
    followers.acknowledged(PEER, notice.body["n"] + 1)
    assert followers.next_due() is not None
    followers.acknowledged(PEER, notice.body["n"])
    assert followers.next_due() is None


def test_many_events_are_sent_in_several_messages_and_the_end_comes_last() -> None:
    clock = FakeClock(100.0)
    followers, job = Followers(clock=clock), running()
    for n in range(1, 2501):
        report(job, n, unit=f"unit {n}")
    job.record = JobRecord(id="job", seq=1, kind="k", state=ExecutionStatus.COMPLETED)
    job.add_state(job.record, 0.0)
    followers.follow(PEER, job, after=0)
    wholes, found = [], []
    for _ in range(3):
        clock.advance(1.0)
        (notice,) = followers.due()
        wholes.append(notice.body["jobs"][0]["whole"])
        found += seqs(notice)[0]
        followers.acknowledged(PEER, notice.body["n"])
    assert wholes == [False, False, True]
    assert found == [*range(1, 2502)]
    clock.advance(1.0)
    assert followers.due() == []


def test_who_follows_everything_is_told_of_what_may_be_seen() -> None:
    followers = Followers(clock=FakeClock(100.0))
    followers.follow_all(PEER, lambda client: client == "me")
    followers.changed(running("theirs", client="them"))
    followers.changed(running("mine"))
    (notice,) = followers.due()
    assert [job["record"]["id"] for job in notice.body["jobs"]] == ["mine"]
    followers.unfollow(PEER)
    followers.changed(running("later"))
    assert followers.next_due() is None


def test_who_follows_no_longer_is_told_nothing() -> None:
    followers, job = Followers(clock=FakeClock(100.0)), running()
    followers.follow(PEER, job, after=0)
    followers.unfollow(PEER, "job")
    followers.unfollow(b"nobody")
    followers.changed(job)
    assert followers.due() == []
