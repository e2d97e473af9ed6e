"""A feed and its readers in processes of their own, which are stopped, killed and begin again."""

from __future__ import annotations

import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zmqruntime import Credit, Endpoint, Feed, FeedReader, Gap, Item, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("feed_program.py")
FRAME = 2_000_000
LARGE = 100_000


class Program:
    """A feed or a reader in another process."""

    def __init__(self, stack: ExitStack, *words: object, limit_bytes: int | None = None) -> None:
        def limit() -> None:
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if limit_bytes is not None else None,
            text=True,
            preexec_fn=limit,
        )
        stack.callback(self.kill)

    def line(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.rstrip("\n")

    def expect(self, *lines: str) -> None:
        assert [self.line() for _ in lines] == list(lines)

    def tell(self, key: str, size: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{key} {size}\n")
        self.process.stdin.flush()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Watched:
    """A feed in this process that says when readers come and go."""

    def __init__(
        self,
        stack: ExitStack,
        server: ZMQServer,
        shm: Path,
        *,
        replay_bytes: int = 0,
        queue_bytes: int = 64 << 20,
    ) -> None:
        self.feed = stack.enter_context(
            Feed(server, directory=shm, replay_bytes=replay_bytes, queue_bytes=queue_bytes)
        )
        self.changed = threading.Condition()
        self.readers: dict[str, int] = {}
        self.feed.on_subscribed(lambda each: self._count(each.name, 1))
        self.feed.on_unsubscribed(lambda each: self._count(each.name, -1))

    def _count(self, name: str, by: int) -> None:
        with self.changed:
            self.readers[name] = self.readers.get(name, 0) + by
            self.changed.notify_all()

    def wait_for(self, name: str, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.readers.get(name, 0) == count, 20)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def reader_of(
    server: ZMQServer, shm: Path, stack: ExitStack, mode: str, credit: Credit
) -> FeedReader:
    client = stack.enter_context(ZMQClient(server.endpoint, app="viewer"))
    client.connect()
    reader = stack.enter_context(FeedReader(client, credit=credit, directory=shm))
    reader.subscribe("frames", mode)
    assert reader.wait_subscribed("frames")
    return reader


@pytest.mark.req("F.6")
@pytest.mark.req("G.7")
def test_a_killed_reader_gets_what_it_had_not_acknowledged_when_it_comes_again(
    shm: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serve_in_thread())
    watched = Watched(stack, server, shm, replay_bytes=64 << 20)
    feed = watched.feed
    words = ("read", server.endpoint.port, shm, "napari")
    reader = Program(stack, *words, "hold")
    watched.wait_for("napari", 1)
    keys = [f"A{number:02}" for number in range(1, 21)]  # more than it has room for
    for key in keys:
        assert feed.publish("frames", b"", [bytes(LARGE)], key=key) == 1
    reader.expect(*(f"got {key} again 0" for key in keys[:8]))
    reader.kill()
    watched.wait_for("napari", 0)
    away = ["B01", "B02"]
    for key in away:
        assert feed.publish("frames", b"", [bytes(LARGE)], key=key) == 0
    successor = Program(stack, *words)
    watched.wait_for("napari", 1)
    feed.publish("frames", b"", [bytes(LARGE)], key="C01")
    numbered = enumerate(keys, 1)
    again = [f"got {key} {LARGE} again {number if number <= 8 else 0}" for number, key in numbered]
    successor.expect(*again, *(f"got {key} {LARGE} again 0" for key in [*away, "C01"]))
    assert feed.flush(10)
    assert feed._lanes.reclaim() in (True, False)
    assert feed._lender._current is not None
    assert feed._lender._current.book.free == feed._lender.slots  # none stays with the dead


@pytest.mark.req("F.7")
@pytest.mark.req("G.7")
def test_a_killed_feed_leaves_nothing_after_the_next_start_and_its_readers_go_on(
    shm: Path, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    words = ("serve", endpoint.port, shm)
    camera = Program(stack, *words)
    camera.expect("ready")
    client = stack.enter_context(ZMQClient(endpoint, app="viewer"))
    client.connect(10)
    reader = stack.enter_context(FeedReader(client, directory=shm, name="napari"))
    reader.subscribe("frames")
    camera.expect("reads napari")
    kept: list[Item] = []
    while len(list(shm.iterdir())) < 1 or not kept or kept[-1].key != "mapped":
        key = "mapped" if list(shm.iterdir()) else "inline"
        camera.tell(key, FRAME)
        camera.expect(f"sent {key} 1")
        assert reader.wait(10)
        kept += [each for each in reader.receive() if isinstance(each, Item)]
        if kept[-1].key == "inline":
            kept[-1].lease.release()
    camera.send(signal.SIGKILL)
    camera.process.wait()
    assert len(list(shm.iterdir())) == 1
    again = Program(stack, *words)
    again.expect("ready", "reads napari")
    assert list(shm.iterdir()) == []  # swept at the start
    assert kept[-1].lease.copy() == (bytes(FRAME),)  # what was mapped stays
    again.tell("new", FRAME)
    again.expect("sent new 1")
    entries: list[Item | Gap] = []
    while not entries or isinstance(entries[-1], Gap):
        assert reader.wait(10)
        entries += reader.receive()
    gap, item = entries
    assert isinstance(gap, Gap)
    assert "how many are missing is unknown" in gap.detail
    assert isinstance(item, Item)
    assert (item.key, item.sequence) == ("new", 1)
    item.lease.release()


@pytest.mark.req("B.4")
@pytest.mark.req("F.22")
def test_a_stopped_reader_delays_nobody_and_binds_a_bounded_amount(
    shm: Path, stack: ExitStack
) -> None:
    server = stack.enter_context(serve_in_thread())
    watched = Watched(stack, server, shm, queue_bytes=4 * FRAME + 10_000)
    feed = watched.feed
    stopped = Program(stack, "read", server.endpoint.port, shm, "stopped")
    watched.wait_for("stopped", 1)
    fast = reader_of(server, shm, stack, "reliable", Credit(8, 1 << 30))
    feed.publish("frames", b"", [b"x"], key="first")
    stopped.expect("got first 1 again 0")
    assert fast.wait(5)
    for first in fast.receive():
        assert isinstance(first, Item)
        first.lease.release()
    assert feed.flush(10)
    stopped.send(signal.SIGSTOP)
    for number in range(60):
        assert feed.publish("frames", b"", [bytes(FRAME)], key=str(number)) >= 1
        while True:
            assert fast.wait(10)
            found = fast.receive()
            for each in found:
                assert isinstance(each, Item)
                each.lease.release()
            if found[-1].key == str(number):  # type: ignore[union-attr]
                break
        lane, _ = feed.lanes
        assert lane.used.messages <= 8
        assert lane.queued <= 4
    # the first one, eight for which there was room, four that wait; the others are a gap
    assert (lane.sent, lane.queued, lane.lost) == (9, 4, 48)
    stopped.send(signal.SIGCONT)
    assert feed.flush(20)
    stopped.expect(*(f"got {number} {FRAME} again 0" for number in range(12)), "gap no_credit")
    assert {gap.reason for gap in feed.gaps} == {"no_credit"}


@pytest.mark.req("G.5")
@pytest.mark.req("B.4")
def test_a_slow_reader_sees_new_frames_and_a_fast_one_all_of_them(
    shm: Path, stack: ExitStack
) -> None:
    """20 and 60 frames a second, counted in frames: one shows one in three that the other shows."""
    server = stack.enter_context(serve_in_thread())
    feed = Watched(stack, server, shm).feed
    fast = reader_of(server, shm, stack, "reliable", Credit(8, 1 << 30))
    slow = reader_of(server, shm, stack, "latest", Credit(2, 1 << 30))
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    feed.on_ack(lambda who, ack: heard.put(ack.sequence) if who.mode == "latest" else None)
    seen, lags = 0, []
    frame = bytes(FRAME)
    for number in range(1, 181):
        assert feed.publish("frames", b"", [frame], key=str(number)) == 2
        while seen < number:  # the pace is the fast one's
            assert fast.wait(10)
            for each in fast.receive():
                assert isinstance(each, Item)
                assert each.lease.map()[0].nbytes == FRAME
                each.lease.release()
                seen += 1
        if number % 3 == 0:
            shown = next_item(slow)
            lags.append(number - int(shown.key))
            shown.lease.release()
            heard.get(timeout=10)
        (lane,) = (lane for lane in feed.lanes if lane.mode == "latest")
        assert lane.used.messages <= 2
        assert lane.queued == 0
    assert seen == 180
    # two are under way, and each waits for as long as the two before it are shown
    assert max(lags) <= 2 * 3, lags
    (lane,) = (lane for lane in feed.lanes if lane.mode == "latest")
    assert lane.superseded >= 180 - 60 - 3
    for entry in slow.receive():
        if isinstance(entry, Item):
            entry.lease.release()


def next_item(reader: FeedReader) -> Item:
    while True:
        assert reader.wait(10)
        for entry in reader.receive(1):
            if isinstance(entry, Item):
                return entry


@contextmanager
def small_tmpfs(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.req("F.9")
def test_with_shared_memory_full_payloads_go_inline_with_one_warning(
    tmp_path: Path, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "shm"
    stack.enter_context(small_tmpfs(folder, "4m"))
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server, directory=folder))
    readers = [reader_of(server, folder, stack, "reliable", Credit(8, 1 << 30)) for _ in range(2)]
    image = os.urandom(8 << 20)
    for _ in range(3):
        assert feed.publish("frames", b"", [image]) == 2
        for reader in readers:
            assert reader.wait(10)
            (item,) = reader.receive()
            assert isinstance(item, Item)
            assert item.lease.copy() == (image,)
    assert {(lane.carrier, lane.reason) for lane in feed.lanes} == {("inline", "no_room")}
    assert [each.getMessage() for each in caplog.records if "sent inline" in each.getMessage()] == [
        caplog.records[-1].getMessage()
    ]
    assert list(folder.iterdir()) == []


@pytest.mark.req("F.9")
def test_where_no_file_may_be_that_large_payloads_go_inline(shm: Path, stack: ExitStack) -> None:
    endpoint = free_endpoint()
    camera = Program(stack, "serve", endpoint.port, shm, limit_bytes=1 << 20)
    camera.expect("ready")
    client = stack.enter_context(ZMQClient(Endpoint(port=endpoint.port), app="viewer"))
    client.connect(10)
    reader = stack.enter_context(FeedReader(client, directory=shm, name="napari"))
    reader.subscribe("frames")
    camera.expect("reads napari")
    for number in range(3):
        camera.tell(str(number), FRAME)
        camera.expect(f"sent {number} 1")
        assert reader.wait(10)
        (item,) = reader.receive()
        assert isinstance(item, Item)
        assert item.lease.copy() == (bytes(FRAME),)
    assert list(shm.iterdir()) == []
    camera.send(signal.SIGTERM)
    _, said = camera.process.communicate()
    assert said.count("sent inline") == 1
