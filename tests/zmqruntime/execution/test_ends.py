from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from zmqruntime import BusyError
from zmqruntime.execution._ends import Ends
from zmqruntime.execution._record import JobRecord
from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    from concurrent.futures import Future

    from zmqruntime import Reply


def over(id_: str) -> JobRecord:
    return JobRecord(id=id_, seq=1, kind="k", state=ExecutionStatus.COMPLETED)


def test_all_who_wait_for_a_job_are_told_of_its_end_and_nobody_else() -> None:
    ends = Ends()
    first, second, other = ends.expect("a"), ends.expect("a"), ends.expect("b")
    ends.tell(over("a"))
    for end in (first, second):
        assert end.result(0).body["record"]["state"] == "completed"
    assert not other.done()
    assert len(ends) == 1
    ends.tell(over("a"))  # twice, as who comes late may


def test_who_waits_no_longer_is_forgotten() -> None:
    ends = Ends()
    gone, left = ends.expect("a"), ends.expect("a")
    assert gone.cancel()
    assert len(ends) == 1
    ends.tell(over("a"))
    assert left.done()
    assert len(ends) == 0
    assert ends.expect("a").cancel()
    assert len(ends) == 0


def test_too_many_are_refused_until_some_are_told() -> None:
    ends = Ends(most=2)
    first = ends.expect("a")
    ends.expect("b")
    with pytest.raises(BusyError, match="2 wait for jobs already") as caught:
        ends.expect("a")
    assert caught.value.retryable
    ends.tell(over("a"))
    assert first.done()
    ends.expect("c").cancel()
    ends.expect("c")


def test_giving_up_while_the_end_is_told_disturbs_nobody() -> None:
    def give_up(futures: list[Future[Reply]]) -> None:
        for future in futures:
            future.cancel()

    for _ in range(200):
        ends = Ends()
        futures = [ends.expect("a") for _ in range(4)]
        thread = threading.Thread(target=give_up, args=(futures,))
        thread.start()
        ends.tell(over("a"))
        thread.join(10)
        assert all(future.done() for future in futures)
        assert len(ends) == 0
