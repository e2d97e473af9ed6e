from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zmqruntime.execution._line import WaitingLine


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=40))
def test_turns_come_by_priority_then_by_acceptance(jobs: list[tuple[int, bool]]) -> None:
    line = WaitingLine()
    expected = []
    for seq, (priority, stays) in enumerate(jobs):
        line.add(f"job {seq}", priority=priority, seq=seq)
        if stays:
            expected.append((-priority, seq))
    for seq, (priority, stays) in enumerate(jobs):
        if not stays:
            assert line.remove(priority=priority, seq=seq)
    expected.sort()
    assert line.first(len(jobs)) == [f"job {seq}" for _, seq in expected]
    assert len(line) == len(expected)
    for place, (negated, seq) in enumerate(expected, start=1):
        assert line.position(priority=-negated, seq=seq) == place


def test_who_is_not_there_has_no_position_and_cannot_leave() -> None:
    line = WaitingLine()
    assert line.position(priority=0, seq=1) is None
    assert not line.remove(priority=0, seq=1)


def test_who_is_put_back_has_the_old_place() -> None:
    line = WaitingLine()
    for seq in range(3):
        line.add(f"job {seq}", priority=0, seq=seq)
    line.remove(priority=0, seq=0)
    line.add("job 0", priority=0, seq=0)
    assert line.first(3) == ["job 0", "job 1", "job 2"]
