"""A client takes in what it is told of jobs, and counts what cannot be read."""

from __future__ import annotations

import logging
import queue
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime.execution import JobEvent, ZMQExecutionClient
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from zmqruntime import Peer, Request

SOON = 20.0  # seconds; far more than any of this takes
RECORD = {"id": "job", "seq": 1, "kind": "k", "state": "running"}
EVENT = {"seq": 1, "time": 0.0, "kind": "progress", "unit": "A01"}


def news(n: int, **changes: Any) -> dict[str, Any]:
    return {"n": n, "jobs": [{"record": RECORD, "events": [EVENT], "whole": True, **changes}]}


UNREADABLE: list[dict[str, Any]] = [
    {},
    {"n": 1},
    {"n": "1", "jobs": []},
    {"n": -1, "jobs": []},
    {"n": 1, "jobs": 3},
    {"n": 1, "jobs": ["job"]},
    {"n": 2, "jobs": [{}]},
    news(3, record=None),
    news(4, record={**RECORD, "state": "resting"}),
    news(5, events=7),
    news(6, events=[{"seq": "first"}]),
    news(7, whole="quite"),
]


class Told:
    """A server that tells its follower what the test says, and hears what is acknowledged."""

    def __init__(self, stack: ExitStack, record: object) -> None:
        self.server = stack.enter_context(serve_in_thread(app="execution"))
        self.acknowledged: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._record = record
        self._follower: queue.SimpleQueue[Peer] = queue.SimpleQueue()
        for type_, handler in (
            ("follow", self._follow),
            ("follow_ack", lambda request, _peer: self.acknowledged.put(request.body["n"])),
            ("unfollow", lambda _request, _peer: None),
        ):
            self.server.control.handle(type_, handler, on_loop=True)
        self.client = stack.enter_context(ZMQExecutionClient(self.server.endpoint))
        assert self.client.connect(), self.client.last_error
        self.heard: queue.SimpleQueue[JobEvent] = queue.SimpleQueue()
        stack.enter_context(self.client.watch("job", self.heard.put))
        self._peer = self._follower.get(timeout=SOON)

    def _follow(self, _request: Request, peer: Peer) -> dict[str, object]:
        self._follower.put(peer)
        return {"record": self._record}

    def tell(self, body: dict[str, Any]) -> None:
        self.server.control.push(self._peer.id, "execution", body)

    @property
    def unreadable(self) -> int:
        return self.client.client.control.counters["bad_frame"]


@pytest.mark.req("G.8", "F.37")
def test_news_that_cannot_be_read_is_counted_in_a_quiet_line_and_hides_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.WARNING, "zmqruntime"):
        told = Told(stack, RECORD)
        for body in UNREADABLE:
            told.tell(body)
        told.tell({"n": 100, "jobs": [None, *news(0)["jobs"]]})
        assert told.heard.get(timeout=SOON).unit == "A01"
        assert told.unreadable == len(UNREADABLE) + 1
        assert [record.exc_info for record in caplog.records] == [None] * told.unreadable
        assert {record.levelname for record in caplog.records} == {"WARNING"}
        # what has a number is acknowledged: the server goes on to what is new
        seen: list[int] = []
        while not seen or seen[-1] < 100:
            seen.append(told.acknowledged.get(timeout=SOON))
        assert seen == [1, 2, 3, 4, 5, 6, 7, 100]


@pytest.mark.req("G.8")
def test_an_answer_that_cannot_be_read_leaves_the_job_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ExitStack() as stack, caplog.at_level(logging.WARNING):
        told = Told(stack, "no record")
        told.tell(news(1))
        assert told.heard.get(timeout=SOON).unit == "A01"
        assert told.unreadable == 1
        assert [record.exc_info for record in caplog.records] == [None]
