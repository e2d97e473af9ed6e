"""What a machine does to programs: memory is full, the clock is set, a cable is pulled."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zmqruntime import (
    Endpoint,
    Feed,
    FeedReader,
    Item,
    Publisher,
    Subscriber,
    ZMQClient,
    find_services,
)
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.zmqruntime.faults.conftest import Islands, Nursery

SOON = 20.0  # seconds; far more than any of this takes
LARGE = bytes(range(256)) * 2048  # 512 KiB: two of them fill the small file system

CLOCKED = """
import sys
from pathlib import Path
from zmqruntime import Endpoint, Gap, Subscriber, ZMQServer
import time

port, folder = int(sys.argv[1]), Path(sys.argv[2])
server = ZMQServer("clocked", Endpoint(port=port), bind_address="127.0.0.1")
server.control.handle("time", lambda *_: {"time": time.time()})
with server, Subscriber(server, directory=folder) as subscriber:
    server.install_signal_handlers()
    server.on_stop_request(lambda _reason: subscriber.close())
    print("ready", flush=True)
    while subscriber.wait():
        for entry in subscriber.receive():
            if not isinstance(entry, Gap):
                entry.lease.release()
print("ended", flush=True)
"""


def receive_all(reader: Subscriber | FeedReader, count: int) -> list[bytes]:
    texts: list[bytes] = []
    while len(texts) < count:
        assert reader.wait(SOON)
        for entry in reader.receive():
            assert isinstance(entry, Item), entry
            texts.append(b"".join(entry.lease.copy()))
            entry.ack("displayed")
    return texts


@pytest.mark.req("F.9")
def test_full_shared_memory_is_one_warning_and_never_a_signal(
    small_tmpfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve_in_thread() as server,
        Subscriber(server, directory=small_tmpfs) as subscriber,
        ZMQClient(server.endpoint) as client,
        Publisher(client, "images", directory=small_tmpfs) as publisher,
    ):
        client.connect(SOON)
        for number in range(6):
            publisher.publish(b"h", [LARGE], key=str(number), timeout=SOON)
            assert receive_all(subscriber, 1) == [LARGE]
        assert publisher.counters["inline"] == 6
        assert publisher.flush(SOON) == ()
    told = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 1, told
    assert not [*small_tmpfs.iterdir()]


@pytest.mark.req("F.9")
def test_a_feed_goes_on_where_shared_memory_is_full(
    small_tmpfs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=small_tmpfs) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=small_tmpfs) as reader,
    ):
        client.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        for _ in range(6):
            feed.publish("frames", b"", [LARGE], timeout=SOON)
            assert receive_all(reader, 1) == [LARGE]
    told = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 1, told
    assert not [*small_tmpfs.iterdir()]


@pytest.mark.req("F.7")
def test_memory_that_others_fill_while_a_stream_runs_costs_no_picture(
    nursery: Nursery, small_tmpfs: Path
) -> None:
    """In processes of their own, so that a signal would be seen."""
    port = free_endpoint().port
    receiver = nursery.start("receive", port, small_tmpfs)
    receiver.wait_for("ready")
    sender = nursery.start("send", port, small_tmpfs)
    sender.wait_for("ready")
    with (small_tmpfs / "of somebody else").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    receiver.wait_for("got", 40)
    for victim in (sender, receiver):
        victim.signal(signal.SIGTERM)
        assert victim.status == 0, victim.errors
    assert {*sender.all("sent")} == {*receiver.all("got")}
    assert {path.name for path in small_tmpfs.iterdir()} == {"of somebody else"}


class Clock:
    """The wall clock of one process, which can be set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set("+0")

    def set(self, offset: str) -> None:
        draft = self.path.with_suffix(".draft")
        draft.write_text(offset)
        draft.replace(self.path)

    def environment(self, library: Path) -> dict[str, str]:
        return {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # which nobody can set on a real machine either
        }


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offset")


@pytest.fixture
def clocked(clock: Clock, shm: Path) -> Iterator[Endpoint]:
    """A service whose clock is `clock`."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("needs libfaketime")
    endpoint = free_endpoint()
    words = [sys.executable, "-c", CLOCKED, str(endpoint.port), str(shm)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=clock.environment(found[0])
    ) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == "ready\n"
        try:
            yield endpoint
            service.terminate()
            assert service.wait(SOON) == 0
            assert service.stdout.read() == "ended\n"
        finally:
            service.kill()


@pytest.mark.req("002.6")
@pytest.mark.parametrize("offset", ["-1d", "+1d"])
def test_a_clock_that_is_set_disturbs_no_deadline_lease_or_stream(
    clock: Clock, clocked: Endpoint, shm: Path, offset: str
) -> None:
    with ZMQClient(clocked) as client, Publisher(client, "images", directory=shm) as publisher:
        lost: list[str] = []
        client.on_lost(lost.append)
        client.connect(SOON)
        before = client.control.request("time", timeout=SOON)["time"]
        publisher.publish(b"h", [bytes(100_000)], key="before", timeout=SOON)
        clock.set(offset)
        after = client.control.request("time", timeout=SOON)["time"]
        assert abs(after - before) > 80_000, "the clock was not set"
        for number in range(30):
            publisher.publish(b"h", [bytes(100_000)], key=str(number), timeout=SOON)
        assert publisher.flush(SOON) == ()
        assert publisher.counters["arena"] == 31
        pong = client.control.request("ping", timeout=SOON)
        assert 0 <= pong["uptime"] < 600
        (record,) = [each for each in find_services(timeout=SOON) if each.port == clocked.port]
        assert record.alive
        assert record.answering
        with ZMQClient(clocked) as other:
            other.connect(SOON)
            assert other.control.request("time", timeout=SOON)["time"] - after < 60
        assert not lost


@pytest.mark.req("F.4")
@pytest.mark.req("000.14")
@pytest.mark.timeout(120)
def test_a_cable_pulled_between_two_computers_is_noticed_and_nothing_is_lost(
    islands: Islands, shm: Path
) -> None:
    port = f"{islands.hosts[0]}:{free_endpoint().port}"
    receiver = islands.nurseries[0].start("receive", port, shm)
    receiver.wait_for("ready")
    sender = islands.nurseries[1].start("send", port, shm)
    asker = islands.nurseries[1].start("ask", port)
    sender.wait_for("ready")
    asker.wait_for("ready")
    for number in range(2):
        islands.set_link(up=False)
        sender.wait_for("lost", number + 1)
        asker.wait_for("lost", number + 1)
        islands.set_link(up=True)
        receiver.wait_for("got", len(receiver.all("got")) + 20)
        asker.wait_for("answered", len(asker.all("answered")) + 1)
    for victim in (sender, asker, receiver):
        victim.signal(signal.SIGTERM)
        assert victim.status == 0, victim.errors
    assert not sender.all("left")
    assert {*sender.all("acked")} <= {*receiver.all("got")}
    assert {*sender.all("sent")} <= {*receiver.all("got")}
    assert not [*shm.iterdir()]
