from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zmqruntime.execution._line import WaitingLine


def line_of(*jobs: tuple[str, int]) -> WaitingLine:
    """Give a line of jobs, each of a client and with a priority, named by client and number."""
    line = WaitingLine()
    for seq, (client, priority) in enumerate(jobs):
        line.add(f"{client}{seq}", client=client, priority=priority, seq=seq)
    return line


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=40))
def test_turns_of_one_client_come_by_priority_then_by_acceptance(
    jobs: list[tuple[int, bool]],
) -> None:
    line = line_of(*(("a", priority) for priority, _ in jobs))
    expected = []
    for seq, (priority, stays) in enumerate(jobs):
        if stays:
            expected.append((-priority, seq))
        else:
            assert line.remove(seq)
    expected.sort()
    assert line.first(len(jobs)) == [f"a{seq}" for _, seq in expected]
    assert len(line) == line.waiting_of("a") == len(expected)
    for place, (_, seq) in enumerate(expected, start=1):
        assert line.position(seq) == place


def test_who_is_not_there_has_no_position_and_cannot_leave() -> None:
    line = WaitingLine()
    assert line.position(1) is None
    assert not line.remove(1)
    assert line.waiting_of("a") == 0


def test_a_client_with_one_job_does_not_wait_for_all_of_another() -> None:
    line = line_of(*[("a", 0)] * 300, ("b", 0), ("c", 0))
    assert line.first(5) == ["a0", "b300", "c301", "a1", "a2"]
    assert line.position(300) == 2
    assert line.position(299) == 302
    line.remove(0, begins=True)  # whoever had a turn is the last of those that wait
    assert line.first(3) == ["b300", "c301", "a1"]
    line.remove(300, begins=True)
    line.add("b302", client="b", priority=0, seq=302)
    assert line.first(3) == ["c301", "a1", "b302"]


def test_a_job_that_was_begun_is_before_all_of_its_priority() -> None:
    line = line_of(("a", 0), ("b", 0), ("b", 0), ("c", 1))
    line.remove(2, begins=True)
    line.add("b2", client="b", priority=0, seq=2, begun=True)
    assert line.first(4) == ["c3", "b2", "a0", "b1"]
    assert [line.position(seq) for seq in (3, 2, 0, 1)] == [1, 2, 3, 4]


@dataclass
class _Job:
    id_: str
    client: str
    priority: int
    begun: bool = False


@dataclass
class _Model:
    jobs: dict[int, _Job] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)

    def next(self) -> int:
        """Say whose turn it is, in the words of the class."""
        most = max(job.priority for job in self.jobs.values())
        among = {seq: job for seq, job in self.jobs.items() if job.priority == most}
        begun = [seq for seq, job in among.items() if job.begun]
        if begun:
            return min(begun)
        oldest = {job.client: seq for seq, job in sorted(among.items(), reverse=True)}
        return oldest[min(oldest, key=lambda each: (self.turns.get(each, 0), oldest[each]))]


class Turns(RuleBasedStateMachine):
    """A line beside a model that looks at one turn at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.line = WaitingLine()
        self.model = _Model()
        self.left: dict[int, _Job] = {}
        self.seq = self.begins = 0

    @rule(client=st.sampled_from("abc"), priority=st.integers(0, 1))
    def accept(self, client: str, priority: int) -> None:
        self.seq += 1
        self._add(self.seq, _Job(f"job {self.seq}", client, priority))

    @precondition(lambda self: self.model.jobs)
    @rule()
    def begin(self) -> None:
        seq = self.model.next()
        (id_,) = self.line.first(1)
        assert id_ == self.model.jobs[seq].id_
        assert self.line.remove(seq, begins=True)
        job = self.model.jobs.pop(seq)
        self.begins += 1
        self.model.turns[job.client] = self.begins
        self.left[seq] = job

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.left)))
        job = self.left.pop(seq)
        job.begun = True
        self._add(seq, job)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.model.jobs)))
        assert self.line.remove(seq)
        del self.model.jobs[seq]

    @invariant()
    def everybody_knows_their_place(self) -> None:
        jobs = self.model.jobs
        assert len(self.line) == len(jobs)
        by_id = {job.id_: seq for seq, job in jobs.items()}
        order = [by_id[id_] for id_ in self.line.first(len(jobs) + 1)]
        assert sorted(order) == sorted(jobs)
        assert [self.line.position(seq) for seq in order] == list(range(1, len(jobs) + 1))
        counts = Counter(job.client for job in jobs.values())
        assert all(self.line.waiting_of(client) == counts[client] for client in "abc")

    def _add(self, seq: int, job: _Job) -> None:
        self.model.jobs[seq] = job
        self.line.add(job.id_, client=job.client, priority=job.priority, seq=seq, begun=job.begun)


TestTurns = Turns.TestCase
