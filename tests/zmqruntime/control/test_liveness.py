from __future__ import annotations

import os
import queue
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import zmq
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zmqruntime import Liveness, LivenessState, Work, ZMQClient, start_service
from zmqruntime.control._liveness import LivenessMachine
from zmqruntime.testing import FakeClock, free_endpoint, proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

SOON = 15.0  # seconds; far more than any of this takes
BUSY = Work(state="busy", task="plate 3", since=77.0)
BEAT_S = 0.2
HOUR_S = 3600.0

PROGRAM = """
import ctypes, sys
from zmqruntime import Endpoint, Work, ZMQServer

server = ZMQServer("test", Endpoint(port=int(sys.argv[1])), bind_address="127.0.0.1")


def begin(request, peer):
    server.work = Work(state="busy", task="deconvolution")


def hold(request, peer):
    ctypes.PyDLL(None).usleep(int(request.body["seconds"] * 1e6))  # the interpreter is not let go
    server.work = Work()


server.control.handle("begin", begin)
server.control.handle("hold", hold)
server.serve_until_signal()
"""


def make(clock: FakeClock) -> LivenessMachine:
    return LivenessMachine(clock=clock, wall=lambda: 1000.0 + clock())


def test_what_was_never_reached_is_unknown_for_ever() -> None:
    clock = FakeClock()
    machine = make(clock)
    clock.advance(1e6)
    machine.disconnected("nobody there")
    assert machine.verdict.state is LivenessState.UNKNOWN
    assert machine.due() is None


@pytest.mark.req("B.7")
def test_up_and_answering_is_what_the_service_says() -> None:
    clock = FakeClock()
    machine = make(clock)
    machine.connected(watched=True)
    machine.asked()
    machine.answered(Work())
    assert machine.verdict.state is LivenessState.IDLE
    machine.working(BUSY)
    verdict = machine.verdict
    assert (verdict.state, verdict.work, verdict.since) == (LivenessState.BUSY, BUSY, 77.0)
    assert verdict.silent_since is None
    assert str(verdict) == "busy (plate 3)"


@pytest.mark.req("B.7")
def test_up_and_not_answering_stays_busy_with_a_word_about_the_silence() -> None:
    clock = FakeClock()
    machine = make(clock)
    machine.connected(watched=False)
    machine.answered(BUSY)
    clock.advance(5.0)
    machine.asked()
    assert machine.due() == 1.0
    clock.advance(60.0)
    machine.asked()  # another question does not make the silence shorter
    verdict = machine.verdict
    assert (verdict.state, verdict.silent_since) == (LivenessState.BUSY, 1005.0)
    assert "not answering since" in str(verdict)
    machine.answered(None)
    assert machine.verdict.silent_since is None


@pytest.mark.req("B.7")
def test_a_process_that_exists_is_unresponsive_however_long() -> None:
    clock = FakeClock()
    machine = make(clock)
    machine.connected(watched=True)
    machine.disconnected("heartbeats are missing")
    clock.advance(1e6)
    assert machine.verdict.state == "unresponsive"
    assert machine.due() is None
    machine.process_ended("process 7 has ended")
    ended = machine.verdict
    assert [ended.state, ended.detail] == [LivenessState.LOST, "process 7 has ended"]
    machine.disconnected("the connection broke")
    assert machine.verdict.detail == "process 7 has ended"


@pytest.mark.req("B.7")
def test_another_computer_is_lost_after_half_a_minute() -> None:
    clock = FakeClock()
    machine = make(clock)
    machine.connected(watched=False)
    machine.disconnected("heartbeats are missing")
    clock.advance(10.0)
    machine.disconnected("again")
    assert machine.due() == 20.0
    clock.advance(19.9)
    assert machine.verdict.state == "unresponsive"
    clock.advance(0.1)
    assert machine.verdict.state == "lost"
    machine.connected(watched=False)
    assert machine.verdict.state == "idle"


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, nothing is lost that lives."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.machine = make(self.clock)
        self.watched = self.ended = self.up = self.reached = False
        self.down_for = 0.0

    @rule(watched=st.booleans())
    def connect(self, watched: bool) -> None:
        self.machine.connected(watched=watched)
        self.watched, self.ended, self.up, self.reached = watched, False, True, True

    @rule()
    def disconnect(self) -> None:
        self.machine.disconnected("x")
        self.down_for = 0.0 if self.up else self.down_for
        self.up = False

    @precondition(lambda self: self.watched)
    @rule()
    def end(self) -> None:
        self.machine.process_ended("x")
        self.ended, self.up = True, False

    @rule()
    def ask(self) -> None:
        self.machine.asked()

    @rule(work=st.sampled_from([None, Work(), BUSY]))
    def answer(self, work: Work | None) -> None:
        if self.up:
            self.machine.answered(work)

    @rule(seconds=st.floats(0.0, 50.0))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.down_for += seconds

    @invariant()
    def only_what_is_gone_is_lost(self) -> None:
        state = self.machine.verdict.state
        if self.up:
            assert state in (LivenessState.IDLE, LivenessState.BUSY)
        elif state is LivenessState.LOST:
            assert self.ended or (not self.watched and self.down_for >= 29.9)
        else:
            assert not self.ended
        assert (state is LivenessState.UNKNOWN) == (not self.reached)

    @invariant()
    def time_is_named_when_it_matters(self) -> None:
        before = self.machine.verdict
        due = self.machine.due()
        if due is None:
            self.clock.advance(100.0)
            self.down_for += 100.0
            after = self.machine.verdict
            assert after.state is before.state
            assert (after.silent_since is None) == (before.silent_since is None)


TestAnyOrder = AnyOrder.TestCase


def verdicts(client: ZMQClient, every: float = 0.1) -> queue.SimpleQueue[Liveness]:
    told: queue.SimpleQueue[Liveness] = queue.SimpleQueue()
    client.on_liveness(told.put, every=every)
    return told


def wait_for(told: queue.SimpleQueue[Liveness], state: str, *, silent: bool = False) -> Liveness:
    while True:
        verdict = told.get(timeout=SOON)
        if verdict.state == state and (verdict.silent_since is not None) == silent:
            return verdict


@pytest.mark.req("B.7")
def test_work_is_told_to_those_who_listen() -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        assert client.liveness.state is LivenessState.UNKNOWN
        told = verdicts(client)
        client.connect(SOON)
        wait_for(told, "idle")
        server.work = BUSY
        assert wait_for(told, "busy").work == BUSY
        for n in range(500):  # told of some, and of the last
            server.work = Work(state="busy", task=str(n))
        while client.liveness.work.task != "499":
            told.get(timeout=SOON)
        assert server.control.counters["pushed"] < 100
        server.work = Work()
        wait_for(told, "idle")


@pytest.mark.req("B.7", "F.34")
def test_a_service_that_holds_its_interpreter_is_busy_and_not_lost(tmp_path: Path) -> None:
    """For many times longer than heartbeats are waited for: libzmq answers in its own thread.

    A heartbeat is sent five times a second here, not once. What counts is how many fall into the
    time in which the interpreter is held, which are 25: each must be answered, and none knows how
    long that goes on. The same heartbeats then find out that the service was stopped.
    """
    endpoint = free_endpoint()
    words = [sys.executable, "-c", PROGRAM, str(endpoint.port)]
    with (
        start_service(words, log_path=tmp_path / "log", timeout=SOON) as process,
        ZMQClient(endpoint) as client,
    ):
        client.control.secure = beat_quickly
        told = verdicts(client)
        client.connect(SOON)
        wait_for(told, "idle")
        client.control.request("begin")
        wait_for(told, "busy")
        future = client.control.request_nowait("hold", {"seconds": 25 * BEAT_S}, timeout=60)
        assert "not answering since" in str(wait_for(told, "busy", silent=True))
        future.result(SOON)
        wait_for(told, "idle")
        states = set()
        while not told.empty():
            states.add(told.get().state)
        assert states <= {"idle", "busy"}
        assert client.connected
        os.kill(process.pid, signal.SIGSTOP)
        wait_for(told, "unresponsive")
        assert not client.connected, "these heartbeats do find out who does not answer"
        os.kill(process.pid, signal.SIGCONT)


def beat_quickly(socket: zmq.Socket[bytes]) -> None:
    """Send heartbeats sooner than the client does by itself; with patience for a busy computer."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(1000 * BEAT_S))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(5000 * BEAT_S))


def beat_hourly(socket: zmq.Socket[bytes]) -> None:
    """Send no heartbeat before a test is over."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(1000 * HOUR_S))


@pytest.mark.req("B.7", "F.4")
def test_stopped_is_unresponsive_and_killed_is_lost(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    words = [sys.executable, "-c", PROGRAM, str(endpoint.port)]
    with (
        start_service(words, log_path=tmp_path / "log", timeout=SOON) as process,
        ZMQClient(endpoint) as client,
    ):
        told = verdicts(client)
        client.connect(SOON)
        wait_for(told, "idle")
        os.kill(process.pid, signal.SIGSTOP)
        wait_for(told, "unresponsive")
        os.kill(process.pid, signal.SIGKILL)  # while the connection is down already
        assert "has ended" in wait_for(told, "lost").detail


@pytest.mark.req("B.7", "F.4", "G.7")
def test_a_killed_service_is_lost_before_any_heartbeat_is_missed(tmp_path: Path) -> None:
    """Heartbeats and pings come once an hour here, so that neither can be what tells of it."""
    endpoint = free_endpoint()
    words = [sys.executable, "-c", PROGRAM, str(endpoint.port)]
    with (
        start_service(words, log_path=tmp_path / "log", timeout=SOON) as process,
        ZMQClient(endpoint) as client,
    ):
        client.control.secure = beat_hourly
        told = verdicts(client, every=HOUR_S)
        client.connect(SOON)
        wait_for(told, "idle")
        os.kill(process.pid, signal.SIGKILL)
        assert "has ended" in wait_for(told, "lost").detail  # the kernel's word: it is gone
        assert not client.connected


@pytest.mark.req("B.7")
def test_a_service_behind_a_link_that_swallows_everything_is_unresponsive() -> None:
    with (
        serve_in_thread() as server,
        proxy_endpoint(server.endpoint) as proxy,
        ZMQClient(proxy.endpoint) as client,
    ):
        told = verdicts(client)
        client.connect(SOON)
        wait_for(told, "idle")
        proxy.swallow()
        wait_for(told, "unresponsive")
        proxy.heal()
        wait_for(told, "idle")


def test_nobody_is_asked_before_somebody_wants_to_know() -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        before = client.control.request("ping")["counters"]["received"]
        assert client.liveness.state is LivenessState.IDLE
        assert client.control.request("ping")["counters"]["received"] == before + 1
