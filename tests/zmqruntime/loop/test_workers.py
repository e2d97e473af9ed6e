"""Worker threads outlive the jobs that fail on them."""

from __future__ import annotations

import queue
import sys
from typing import TYPE_CHECKING

from zmqruntime.loop._workers import WorkerPool

if TYPE_CHECKING:
    import pytest

SOON = 10.0  # seconds; far more than any of this takes


def test_a_job_that_fails_or_exits_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    pool = WorkerPool("test", threads=1)

    def fail() -> None:
        raise ArithmeticError("too much")

    for number in range(3):
        assert pool.offer(lambda: sys.exit(3))
        assert pool.offer(fail)
        assert pool.offer(lambda number=number: done.put(number))  # type: ignore[misc]  # a default
        assert done.get(timeout=SOON) == number
    pool.close()
    assert caplog.text.count("SystemExit: 3") == 3
    assert caplog.text.count("ArithmeticError: too much") == 3
