from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zmqruntime.execution import ExecutionStatus, JobRecord
from zmqruntime.execution._lifecycle import (
    CancelAsked,
    DeadlinePassed,
    Event,
    GraceOver,
    Instruction,
    Raised,
    Returned,
    ShutdownAsked,
    Started,
    Stopped,
    WorkerEnded,
    advance,
)
from zmqruntime.execution._status import NEXT, TERMINAL

S = ExecutionStatus
I = Instruction  # noqa: E741 - as in the table

WHOLE = Returned()
NOTHING = Returned(nothing=True)
LACKING = Returned(missing=("A02",))
BAD = Returned(bad=("A03",))
ENDED = WorkerEnded("process 7 was ended by signal 9 (SIGKILL)")
KILLED = WorkerEnded("process 7 was ended by force", by_us=True)


def job(state: ExecutionStatus, **fields: Any) -> JobRecord:
    attempt = 0 if state is S.QUEUED else 1
    known = {"id": "j", "seq": 1, "kind": "k", "attempt": attempt, **fields}
    return JobRecord(**known, state=state)


AGAIN = job(S.RUNNING, stopping="shutdown", retryable=True)
CANCELLING = job(S.CANCELLING, message="cancelled by me")


@pytest.mark.req("002.1")
@pytest.mark.parametrize(
    ("before", "event", "state", "code", "instructions"),
    [
        (job(S.QUEUED), Started(), S.RUNNING, "", [I.RUN]),
        (job(S.QUEUED), CancelAsked("me"), S.CANCELLED, "cancelled", [I.LEAVE]),
        (job(S.QUEUED), DeadlinePassed(), S.FAILED, "deadline", [I.LEAVE]),
        (job(S.RUNNING), WHOLE, S.COMPLETED, "", []),
        (job(S.RUNNING), NOTHING, S.FAILED, "partial", []),
        (job(S.RUNNING), LACKING, S.FAILED, "partial", []),
        (job(S.RUNNING), BAD, S.FAILED, "partial", []),
        (job(S.RUNNING), Raised("OSError"), S.FAILED, "error", []),
        (job(S.RUNNING), Stopped(), S.FAILED, "error", []),
        (job(S.RUNNING), CancelAsked("me"), S.CANCELLING, "", [I.ASK_TO_STOP]),
        (job(S.RUNNING), DeadlinePassed(), S.RUNNING, "", [I.ASK_TO_STOP]),
        (job(S.RUNNING), ShutdownAsked(), S.RUNNING, "", [I.ASK_TO_STOP]),
        (job(S.RUNNING), ENDED, S.LOST, "lost", []),
        (job(S.RUNNING, retryable=True), ENDED, S.QUEUED, "lost", [I.REQUEUE]),
        (job(S.RUNNING, retryable=True, attempt=3), ENDED, S.LOST, "lost", []),
        (job(S.RUNNING, stopping="deadline"), GraceOver(), S.RUNNING, "", [I.KILL]),
        (job(S.RUNNING, stopping="deadline"), KILLED, S.FAILED, "deadline", []),
        (job(S.RUNNING, stopping="deadline"), ENDED, S.LOST, "lost", []),
        (job(S.RUNNING, stopping="deadline"), Stopped(), S.FAILED, "deadline", []),
        (job(S.RUNNING, stopping="deadline"), LACKING, S.FAILED, "deadline", []),
        (job(S.RUNNING, stopping="deadline"), Raised("OSError"), S.FAILED, "deadline", []),
        (job(S.RUNNING, stopping="deadline"), WHOLE, S.COMPLETED, "", []),
        (job(S.RUNNING, stopping="shutdown"), Stopped(), S.LOST, "lost", []),
        (job(S.RUNNING, stopping="shutdown"), LACKING, S.LOST, "lost", []),
        (job(S.RUNNING, stopping="shutdown"), WHOLE, S.COMPLETED, "", []),
        (AGAIN, KILLED, S.QUEUED, "lost", [I.REQUEUE]),
        (CANCELLING, Stopped(), S.CANCELLED, "cancelled", []),
        (CANCELLING, LACKING, S.CANCELLED, "cancelled", []),
        (CANCELLING, NOTHING, S.CANCELLED, "cancelled", []),
        (CANCELLING, WHOLE, S.COMPLETED, "", []),
        (CANCELLING, Raised("OSError"), S.FAILED, "error", []),
        (CANCELLING, GraceOver(), S.CANCELLING, "", [I.KILL]),
        (CANCELLING, KILLED, S.CANCELLED, "cancelled", []),
        (CANCELLING, ENDED, S.LOST, "lost", []),
        (job(S.CANCELLING, retryable=True), ENDED, S.LOST, "lost", []),
    ],
)
def test_every_transition(
    before: JobRecord,
    event: Event,
    state: ExecutionStatus,
    code: str,
    instructions: list[Instruction],
) -> None:
    after, told = advance(before, event, now=100.0)
    assert (after.state, after.code, [*told]) == (state, code, instructions)
    assert (after.ended is None) != state.terminal
    if code:
        assert after.message


EVENTS: list[Event] = [
    Started(), CancelAsked("me"), DeadlinePassed(), ShutdownAsked(), GraceOver(), WHOLE, NOTHING,
    LACKING, BAD, Raised("OSError"), Stopped(), ENDED, KILLED,
]  # fmt: skip


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_what_is_over_stays_as_it_is(state: ExecutionStatus, event: Event) -> None:
    record = job(state, ended=5.0)
    assert advance(record, event, now=100.0) == (record, ())


@pytest.mark.parametrize("event", [WHOLE, Raised(""), Stopped(), ENDED, GraceOver()], ids=repr)
def test_what_waits_heeds_no_worker(event: Event) -> None:
    record = job(S.QUEUED)
    assert advance(record, event, now=100.0) == (record, ())


def test_being_asked_twice_changes_nothing() -> None:
    for record, event in (
        (job(S.CANCELLING, stopping="cancel"), CancelAsked("me")),
        (job(S.RUNNING, stopping="deadline"), DeadlinePassed()),
        (job(S.RUNNING, stopping="deadline"), ShutdownAsked()),
        (job(S.RUNNING), GraceOver()),
    ):
        assert advance(record, event, now=1.0) == (record, ())


@pytest.mark.req("F.5")
def test_only_who_was_asked_to_be_is_cancelled() -> None:
    for event in EVENTS:
        if isinstance(event, CancelAsked):
            continue
        for state in (S.QUEUED, S.RUNNING):
            assert advance(job(state), event, now=1.0)[0].state is not S.CANCELLED


@given(st.lists(st.sampled_from(EVENTS), max_size=30), st.booleans())
def test_states_follow_as_documented(events: list[Event], retryable: bool) -> None:
    record = job(S.QUEUED, retryable=retryable)
    for event in events:
        after, _ = advance(record, event, now=1.0)
        assert after.state is record.state or after.state in NEXT[record.state]
        record = after


ENDS: list[Event] = [WHOLE, NOTHING, LACKING, BAD, Raised("x"), Stopped(), ENDED, KILLED]


class JobMachine(RuleBasedStateMachine):
    """Runs a job beside a model that knows three facts only."""

    def __init__(self) -> None:
        super().__init__()
        self.record = job(S.QUEUED, retryable=True)
        self.runs = 0
        self.cancel_asked = False
        self.worker = False

    def send(self, event: Event) -> tuple[Instruction, ...]:
        self.record, instructions = advance(self.record, event, now=1.0, attempts=2)
        if I.RUN in instructions:
            self.runs += 1
            self.worker = True
        return instructions

    @precondition(lambda self: not self.worker)
    @rule()
    def a_worker_is_free(self) -> None:
        self.send(Started())

    @rule()
    def somebody_cancels(self) -> None:
        before = self.record.state
        told = self.send(CancelAsked("somebody"))
        if before in (S.QUEUED, S.RUNNING):
            self.cancel_asked = True
        assert (I.ASK_TO_STOP in told) == (before is S.RUNNING)

    @rule(event=st.sampled_from([DeadlinePassed(), ShutdownAsked(), GraceOver()]))
    def time_passes(self, event: Event) -> None:
        told = self.send(event)
        assert I.KILL not in told or self.worker

    @precondition(lambda self: self.worker)
    @rule(event=st.sampled_from(ENDS))
    def the_attempt_ends(self, event: Event) -> None:
        told = self.send(event)
        self.worker = False
        assert (self.record.state is S.QUEUED) == (I.REQUEUE in told)

    @invariant()
    def it_runs_as_often_as_it_says_and_may(self) -> None:
        assert self.record.attempt == self.runs <= 2

    @invariant()
    def it_is_cancelled_only_if_somebody_asked(self) -> None:
        assert self.record.state is not S.CANCELLED or self.cancel_asked

    @invariant()
    def it_has_a_worker_exactly_while_it_runs(self) -> None:
        assert self.worker == (self.record.state in (S.RUNNING, S.CANCELLING))

    @invariant()
    def it_is_over_when_it_says_when(self) -> None:
        assert self.record.state.terminal == (self.record.ended is not None)


TestJobMachine = JobMachine.TestCase
TestJobMachine.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
TestJobMachine = pytest.mark.req("002.1")(TestJobMachine)
