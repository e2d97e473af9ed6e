"""Segments of shared memory from outside: whose they are, and what a message says of them."""

from __future__ import annotations

import hashlib
import mmap
import queue
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq

from zmqruntime import Feed, ZMQClient
from zmqruntime.carriers import HostIdentity
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zmqruntime import ZMQServer

SOON = 20.0  # seconds; far more than any of this takes
IMAGES = 88
RECEIVE = """
import sys
from pathlib import Path
from zmqruntime import Endpoint, Item, Subscriber, ZMQServer
endpoint, folder = Endpoint(port=int(sys.argv[1])), Path(sys.argv[2])
with ZMQServer("viewer", endpoint, bind_address="127.0.0.1") as server:
    with Subscriber(server, directory=folder) as subscriber:
        print("ready", flush=True)
        total = 0
        while total < int(sys.argv[3]):
            assert subscriber.wait(20)
            for entry in subscriber.receive():
                assert isinstance(entry, Item), entry
                (image,) = entry.lease.map()
                assert bytes(image[:3]) == entry.key.encode()
                assert image.nbytes == 100_000
                del image
                entry.lease.release()
                total += 1
        print("received", subscriber.counters["items"], flush=True)
        sys.stdin.readline()
print("closed", flush=True)
sys.stdin.read()
"""
SEND = """
import sys
from pathlib import Path
from zmqruntime import Endpoint, Publisher, ZMQClient
with ZMQClient(Endpoint(port=int(sys.argv[1]))) as client:
    assert client.connect(20)
    with Publisher(client, "images", directory=Path(sys.argv[2])) as publisher:
        for number in range(int(sys.argv[3])):
            key = f"{number:03}"
            publisher.publish(b"", [key.encode() + bytes(99_997)], key=key, timeout=20)
        assert publisher.flush(20) == ()
        print("sent", publisher.counters["arena"], flush=True)
        sys.stdin.readline()
print("closed", flush=True)
sys.stdin.read()
"""


class Program:
    """A program in a process of its own, with every warning that Python has."""

    def __init__(self, code: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "always", "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])
        return line

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    @property
    def children(self) -> str:
        pid = self.process.pid
        path = Path(f"/proc/{pid}/task/{pid}/children")
        return path.read_text() if path.exists() else ""

    def end(self) -> str:
        """End it in good order, and return what it said to the user."""
        errors = self.process.communicate(timeout=SOON)[1]
        assert self.process.returncode == 0, errors
        return errors


@contextmanager
def program(code: str, *arguments: object) -> Iterator[Program]:
    started = Program(code, *arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def segments(shm: Path) -> dict[str, int]:
    return {each.name: each.stat().st_ino for each in shm.iterdir()}


@pytest.mark.req("F.8")
def test_a_segment_has_one_owner_and_nobody_is_warned_of_its_end(shm: Path) -> None:
    port = free_endpoint().port
    with program(RECEIVE, port, shm, IMAGES) as receiver:
        assert receiver.hear() == "ready"
        with program(SEND, port, shm, IMAGES) as sender:
            assert sender.hear() == f"sent {IMAGES}"
            assert receiver.hear() == f"received {IMAGES}"
            held = segments(shm)
            assert held
            assert {name.split("-")[2] for name in held} == {str(sender.process.pid)}
            # a process that watches over segments for others would be a second owner
            assert receiver.children == sender.children == ""
            receiver.go_on()
            assert receiver.hear() == "closed"
            assert receiver.end() == ""
            # the sender may have made another one meanwhile, for whoever comes next
            assert held.items() <= segments(shm).items(), "a receiver removed what is not its own"
            sender.go_on()
            assert sender.hear() == "closed"
            assert segments(shm) == {}
            assert sender.end() == ""


class HandMadeReader:
    """A reader as another language would write it: of the protocol page, and nothing of ours."""

    def __init__(self, client: ZMQClient, server: ZMQServer, shm: Path, stack: ExitStack) -> None:
        self.control = client.control
        self.shm = shm
        self.announced: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.began: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.control.on_push("arena", self._opened)
        self.control.on_push("began", self.began.put)
        order = {
            "topic": "frames",
            "mode": "reliable",
            "reader": "another language",
            "name": "hand-made",
            "incarnation": "i",
            "host": msgspec.to_builtins(HostIdentity.mine()),
            "messages": 8,
            "nbytes": 1 << 24,
            "shared_memory": True,
        }
        agreed = self.control.request("subscribe", order, timeout=SOON)
        self.epoch = agreed["epoch"]
        context = stack.enter_context(zmq.Context())
        self.data = stack.enter_context(context.socket(zmq.SUB))
        self.data.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        self.data.connect(server.endpoint.data_url)
        self.data.subscribe(b"\0frames\0" + agreed["subscriber"].encode() + b"\0")
        secret = (shm / agreed["probe"]).read_bytes()[:32]
        answer = hashlib.blake2b(secret, key=agreed["challenge"].encode()).hexdigest()
        proof = {"epoch": self.epoch, "answer": answer}
        self.carrier = self.control.request("host_proof", proof, timeout=SOON)["reason"]
        self.began.get(timeout=SOON)

    def _opened(self, body: dict[str, Any]) -> None:
        self.announced.put(body["name"])
        self.control.notify("arena_opened", {"epoch": self.epoch, "name": body["name"]})

    def read(self, ref: list[Any]) -> list[bytes]:
        """Read what a message refers to, out of the file that it names."""
        name, _slot, _generation, spans = ref
        with (
            (self.shm / name).open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        ):
            return [memory[offset : offset + length] for offset, length in spans]


@pytest.mark.req("002.10")
@pytest.mark.parametrize(
    "buffers",
    [
        [bytes(range(256)) * 400],
        [b"a" * 70_000, b"", b"b" * 33, bytes(range(256)) * 300],
    ],
    ids=["one", "several"],
)
def test_a_message_names_its_segment_and_a_foreign_reader_finds_the_same_bytes_there(
    shm: Path, buffers: list[bytes]
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serve_in_thread())
        feed = stack.enter_context(Feed(server, directory=shm))
        client = stack.enter_context(ZMQClient(server.endpoint))
        client.connect(SOON)
        reader = HandMadeReader(client, server, shm, stack)
        assert reader.carrier == "proved"
        feed.publish("frames", b"", buffers, key="before there is a segment")
        reader.data.recv_multipart()
        segment = reader.announced.get(timeout=SOON)
        reader.control.request("ping", timeout=SOON)  # behind the word that it is opened
        feed.publish("frames", b"shape and dtype", buffers, key="A01")
        topic, head, header, *chunks = reader.data.recv_multipart()
        told = msgspec.msgpack.decode(head)
        assert told["ref"][0] == segment
        assert segment in segments(shm)
        assert told["sizes"] == [len(each) for each in buffers]
        assert header == b"shape and dtype"
        assert chunks == []
        assert len(topic + head + header) < 1000, "the payload travelled with its message"
        assert reader.read(told["ref"]) == buffers
        news = {"epoch": reader.epoch, "messages": 2, "nbytes": 2 * sum(told["sizes"])}
        number = {"released": [told["seq"]], "received": [1, told["seq"]]}
        reader.control.request("ack", {**news, **number}, timeout=SOON)
        assert feed.flush(SOON)
        assert feed.counters["arena"] == 1
