"""Coverage-guided fuzzing of all that reads frames: `hatch run soak:fuzz -max_total_time=60`.

The readers are called without sockets, thousands of times a second. Whatever leaves them
as an exception ends the run, and the bytes that did it are kept in a file. The first byte of an
input says which reader it is for, the rest are frames, each after its length in two bytes.
"""

from __future__ import annotations

import json
import logging
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["zmqruntime"]):
    import zmqruntime
    from zmqruntime._errors import (
        DescriptorError,
        FrameError,
        HandshakeError,
        InvalidRequestError,
    )
    from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity
    from zmqruntime.control import _client as _control_client
    from zmqruntime.control import _codec
    from zmqruntime.control import _server as _control_server
    from zmqruntime.control._handshake import Hello, Welcome
    from zmqruntime.data._credits import Credit
    from zmqruntime.data._item import Item
    from zmqruntime.data._outbox import Outbox
    from zmqruntime.data._reception import Reception
    from zmqruntime.data._stream_messages import Acks, Mode, decode_header
    from zmqruntime.session._envelopes import encode
    from zmqruntime.session._instructions import (
        Close,
        Deliver,
        Greet,
        Heard,
        Malformed,
        Welcomed,
    )
    from zmqruntime.session._machine import ClientMachine, ServerMachine, State
    from zmqruntime.session._writer import Writer

import msgspec

from zmqruntime.testing import Mutator
from zmqruntime.testing.conformance import golden_envelopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from zmqruntime import Peer, Request

TOKEN = "t" * 32
ME = b"\0me!!"
SESSION = "srv-aa9d41c07be2f318"  # as in the golden examples
FILTER = b"\0t\0s\0"
HEADER = {"v": 1, "epoch": "e", "seq": 1, "target": "t", "sizes": [4]}
ACKS = {"epoch": "e", "messages": 1, "nbytes": 4, "released": [1], "received": [1, 2]}


def frames_of(data: bytes) -> list[bytes]:
    """Cut an input into frames; a length beyond the end takes what is left."""
    frames = []
    while len(data) >= 2:
        (length,) = struct.unpack_from(">H", data)
        frames.append(data[2 : 2 + length])
        data = data[2 + length :]
    return frames


def joined(frames: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(frame)) + frame for frame in frames)


class Readers:
    """The ends that read what strangers send."""

    def __init__(self) -> None:
        self.loop = zmqruntime.IOThread("fuzz")
        self.server = _control_server.ControlServer(self.loop, "tcp://127.0.0.1:1", token=TOKEN)
        self.server.handle("echo", lambda request, _peer: request.body, on_loop=True)
        self.server.handle("hello", self._on_hello, on_loop=True)
        self.client = _control_client.ControlClient(self.loop, "tcp://127.0.0.1:1")
        self.client.on_push("ack", lambda _body: None)

    def _on_hello(self, request: Request, _peer: Peer) -> dict[str, Any]:
        try:
            return Hello.from_body(request.body).extras
        except HandshakeError as error:
            raise InvalidRequestError(str(error)) from error

    def request(self, frames: list[bytes]) -> None:
        before = sum(self.server.counters.values())
        self.server._receive([ME, *frames])
        assert sum(self.server.counters.values()) > before, "neither answered nor counted"
        assert not self.server.counters["refused.internal"], "a handler failed"

    def reply(self, frames: list[bytes]) -> None:
        message = self.client._incoming.decode(frames)
        if message is None:
            return
        if message.id:
            self.client._asker.receive(message, frames)
        else:
            self.client._incoming.tell(message)

    def header(self, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                decode_header(frame)
            except DescriptorError:
                continue

    def welcome(self, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                message = _codec.decode_reply(frame)
                Welcome.from_body(message.body)
            except (FrameError, HandshakeError):
                continue

    def session(self, frames: list[bytes]) -> None:
        """A session server: a hello of its own in each run, then whatever comes."""
        machine = ServerMachine(SESSION, clock=lambda: 0.0)
        writer = Writer(1, SESSION, lambda: 0.0)
        for frame in frames:
            was = machine.state
            for instruction in machine.received(frame):
                assert was is not State.CLOSED, "something came of a session that is over"
                if isinstance(instruction, Greet):
                    protocol = instruction.hello.choose() or 1
                    machine.welcome(protocol)
                    writer = Writer(protocol, SESSION, lambda: 0.0)
                elif isinstance(instruction, Malformed) and was is State.OPEN:
                    encode(writer.malformed(instruction.error))
                else:
                    assert isinstance(instruction, (Deliver, Heard, Close, Malformed))

    def session_client(self, frames: list[bytes]) -> None:
        machine = ClientMachine("c1", clock=lambda: 0.0)
        for frame in frames:
            for instruction in machine.received(frame):
                assert isinstance(instruction, (Welcomed, Deliver, Heard, Close, Malformed))

    def stream(self, frames: list[bytes]) -> None:
        """A receiver: four frames are a message; what it hands out is released."""
        news: list[object] = []
        reception = Reception(
            topic="t",
            producer="p",
            mode=Mode.RELIABLE,
            host=HostIdentity.mine(),
            epoch="e",
            topic_frame=FILTER,
            incarnation="t",
            reason=CarrierReason.DISABLED,
            credit=Credit(4, 1 << 20),
            directory=Path("/nowhere"),
            on_news=news.append,
            on_gap=news.append,
        )
        for at in range(0, len(frames), 4):
            topic, header, payload, *chunks = (*frames[at : at + 4], b"", b"", b"")[:4]
            try:
                transport = decode_header(header)
            except DescriptorError:
                continue
            for entry in reception.take(topic, transport, payload, chunks):
                if isinstance(entry, Item):
                    entry.lease.release()
        reception.take_news()

    def acks(self, frames: list[bytes]) -> None:
        """A sender that hears of what it sent."""
        outbox = Outbox(topic="t", epoch="e", credit=Credit(4, 100))
        for _ in range(4):
            outbox.window.take(10)
            outbox.sent(outbox.number(), "key")
        for frame in frames:
            try:
                acks = msgspec.msgpack.decode(frame, type=Acks)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            outbox.heard(acks)
            used = outbox.window.used
            assert 0 <= used.messages <= 4, "room that was never granted"


def seeds(folder: Path) -> None:
    """Leave some right messages, and some that are nearly right, to begin with."""
    body = {"v_min": 1, "v_max": 1, "app": {"name": "a"}, "peer_id": "p", "incarnation": "i"}
    right = [
        {"v": 1, "id": "a", "type": "ping", "token": TOKEN},
        {"v": 1, "id": "a", "type": "echo", "token": TOKEN, "key": "k", "body": {"n": [1]}},
        {"v": 1, "id": "a", "type": "hello", "token": TOKEN, "body": body},
        {"v": 1, "id": "a", "type": "error", "code": "busy", "message": "m", "retryable": True},
        {**HEADER, "lost": [[1, 1, "hwm"]]},
    ]
    mutator = Mutator(0)
    for number in range(400):
        frames = [b"", mutator.message(mutator.choice(right))]
        (folder / str(number)).write_bytes(bytes([number % 4]) + joined(frames))
    for protocol in (1, 2):
        golden = {name: json.loads(text) for name, text in golden_envelopes(protocol).items()}
        for number, (name, envelope) in enumerate(golden.items()):
            for target, first in ((4, "session.hello"), (5, "session.welcome")):
                wrong = json.dumps(mutator.value(envelope), default=str)
                frames = [json.dumps(each).encode() for each in (golden[first], envelope)]
                place = folder / f"session-{protocol}-{number}-{target}-{name}"
                place.write_bytes(bytes([target]) + joined([*frames, wrong.encode()]))
    for number in range(100):
        stream = [FILTER, msgspec.msgpack.encode(HEADER), b"header", b"data"]
        stream += [FILTER, mutator.message({**HEADER, "seq": 2}), b"header", b"data"]
        (folder / f"stream-{number}").write_bytes(b"\x06" + joined(stream))
        acks = [mutator.message(ACKS), msgspec.msgpack.encode(ACKS)]
        (folder / f"acks-{number}").write_bytes(b"\x07" + joined(acks))


def main() -> None:
    logging.disable(logging.CRITICAL)
    readers = Readers()
    targets: list[Callable[[list[bytes]], None]] = [
        readers.request,
        readers.reply,
        readers.header,
        readers.welcome,
        readers.session,
        readers.session_client,
        readers.stream,
        readers.acks,
    ]

    def one(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)](frames_of(data[1:]))

    corpus = Path(tempfile.mkdtemp(prefix="zmqruntime-fuzz-"))
    seeds(corpus)
    options = ["-max_len=4096", f"-artifact_prefix={corpus}/", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
