from __future__ import annotations

import pytest

from zmqruntime import Backoff, Deadline
from zmqruntime.testing import FakeClock, free_endpoint


def test_time_passes_when_told_and_never_back() -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, clock=clock)
    clock.advance(1.5)
    assert deadline.remaining() == 0.5
    assert not deadline.expired
    clock.advance(0.5)
    assert deadline.expired
    assert deadline.remaining() == 0.0
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-1.0)


def test_waits_double_and_begin_again() -> None:
    waits = Backoff(first=0.05, longest=2.0)
    assert [waits.next() for _ in range(7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    waits.reset()
    assert waits.next() == 0.05


def test_free_endpoints_differ() -> None:
    assert len({free_endpoint().port for _ in range(5)}) > 1


def test_workers_of_one_run_look_for_endpoints_where_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[set[int]] = []
    for worker in range(5):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        found = [free_endpoint() for _ in range(200)]
        taken.append({port for each in found for port in (each.port, each.data_port)})
    assert len(set.union(*taken)) == sum(map(len, taken))
