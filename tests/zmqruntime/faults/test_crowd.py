"""Many clients at once, and what a server costs that has nothing to do."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zmqruntime import Credit, Feed, FeedReader, Subscriber, ZMQClient
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zmqruntime.faults.conftest import Nursery

    Rounds = Callable[[int, int], int]

SOON = 60.0  # seconds; far more than any of this takes
CLIENTS = 50


def context_switches(pid: int) -> int:
    """How often threads of a process gave up the processor because they had to wait."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text(encoding="ascii")
        (line,) = [each for each in text.splitlines() if each.startswith("voluntary_ctxt")]
        total += int(line.split()[1])
    return total


def let_pass(seconds: float) -> None:
    """Let time pass in which nothing is to happen."""
    threading.Event().wait(seconds)


@pytest.mark.req("003.9")
@pytest.mark.req("002.5")
@pytest.mark.timeout(900)
def test_fifty_clients_at_once_lose_nothing(nursery: Nursery, shm: Path, rounds: Rounds) -> None:
    port = free_endpoint().port
    server = nursery.start("broadcast", port, shm, CLIENTS)
    server.wait_for("ready")
    clients = [nursery.start("take_part", port, shm) for _ in range(CLIENTS)]
    assert server.wait_for("began") == str(CLIENTS)
    let_pass(rounds(4, 60))
    server.signal(signal.SIGTERM)
    sent = int(server.wait_for("sent", within=240))  # what a slow computer has put off comes too
    assert sent > 20
    for client in clients:
        asked, answered, got, gaps, in_order = client.wait_for("total", within=240).split()
        assert client.status == 0, client.errors
        assert (int(got), int(gaps), in_order) == (sent, 0, "True")
        assert int(asked) == int(answered) > 1
    assert server.wait_for("taken") == "True"
    assert server.status == 0, server.errors
    assert server.errors == ""
    assert not [*shm.iterdir()]


@pytest.mark.req("G.1")
def test_an_idle_server_wakes_at_most_twice_a_second(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Subscriber(server, directory=shm),
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        client.control.request("ping")
        let_pass(0.5)  # until the connection has settled
        before = (server.loop.wakeups, client.loop.wakeups)
        let_pass(3.0)
        assert server.loop.wakeups - before[0] <= 6
        assert client.loop.wakeups - before[1] <= 6


@pytest.mark.req("G.1")
def test_a_server_process_without_clients_sleeps(nursery: Nursery, shm: Path) -> None:
    victims = [
        nursery.start("serve", free_endpoint().port),
        nursery.start("receive", free_endpoint().port, shm),
        nursery.start("broadcast", free_endpoint().port, shm, 1),
    ]
    for victim in victims:
        victim.wait_for("ready")
    let_pass(1.0)
    before = [context_switches(victim.pid) for victim in victims]
    let_pass(3.0)
    for victim, then in zip(victims, before, strict=True):
        assert context_switches(victim.pid) - then <= 6, victim.name


@pytest.mark.req("002.23")
@pytest.mark.req("G.6")
def test_a_ping_is_answered_while_the_data_lane_is_full(shm: Path) -> None:
    """Compared with the time that the same pings take when there is no data, in the same run."""
    frame = bytes(2 << 20)
    stop = threading.Event()
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, use_shared_memory=False) as feed,
        ZMQClient(server.endpoint) as desk,
        ZMQClient(server.endpoint) as viewer,
        FeedReader(viewer, credit=Credit(messages=8, nbytes=64 << 20)) as reader,
    ):
        desk.connect(SOON)
        viewer.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)

        def publish() -> None:
            while not stop.is_set():
                feed.publish("frames", b"", [frame], timeout=SOON)

        def read() -> None:
            while not stop.is_set():
                if reader.wait(0.1):
                    for entry in reader.receive():
                        entry.lease.release()  # type: ignore[union-attr]  # there are no gaps

        quiet = slowest_ping(desk)
        threads = [threading.Thread(target=each, daemon=True) for each in (publish, read)]
        for thread in threads:
            thread.start()
        while reader.counters["items"] < 20:
            let_pass(0.01)
        began = reader.counters["items"]
        loaded = slowest_ping(desk)
        assert reader.counters["items"] > began  # it was busy all the while
        stop.set()
        for thread in threads:
            thread.join(SOON)
        assert loaded < max(0.2, 50 * quiet)


def slowest_ping(client: ZMQClient) -> float:
    worst = []
    for _ in range(100):
        begun = time.perf_counter()
        client.control.request("ping", timeout=SOON)
        worst.append(time.perf_counter() - begun)
    return sorted(worst)[-2]
