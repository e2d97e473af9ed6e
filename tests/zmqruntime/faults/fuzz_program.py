"""Coverage-guided fuzzing of all that reads frames: `hatch run soak:fuzz -max_total_time=60`.

The readers are called without sockets, thousands of times a second. Whatever leaves them
as an exception ends the run, and the bytes that did it are kept in a file. The first byte of an
input says which reader it is for, the rest are frames, each after its length in two bytes.
"""

from __future__ import annotations

import logging
import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["zmqruntime"]):
    import zmqruntime
    from zmqruntime import _codec, _control_client, _control_server
    from zmqruntime._errors import (
        DescriptorError,
        FrameError,
        HandshakeError,
        InvalidRequestError,
    )
    from zmqruntime._handshake import Hello, Welcome
    from zmqruntime._stream_messages import decode_header

from zmqruntime.testing import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from zmqruntime import Peer, Request

TOKEN = "t" * 32
ME = b"\0me!!"


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
    """The three ends that read what strangers send."""

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
        message = self.client._decode(frames)
        if message is not None:
            self.client._receive(message, frames)

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


def seeds(folder: Path) -> None:
    """Leave some right messages, and some that are nearly right, to begin with."""
    body = {"v_min": 1, "v_max": 1, "app": {"name": "a"}, "peer_id": "p", "incarnation": "i"}
    right = [
        {"v": 1, "id": "a", "type": "ping", "token": TOKEN},
        {"v": 1, "id": "a", "type": "echo", "token": TOKEN, "key": "k", "body": {"n": [1]}},
        {"v": 1, "id": "a", "type": "hello", "token": TOKEN, "body": body},
        {"v": 1, "id": "a", "type": "error", "code": "busy", "message": "m", "retryable": True},
        {"v": 1, "epoch": "e", "seq": 1, "target": "t", "sizes": [4], "lost": [[1, 1, "hwm"]]},
    ]
    mutator = Mutator(0)
    for number in range(400):
        frames = [b"", mutator.message(mutator.choice(right))]
        (folder / str(number)).write_bytes(bytes([number % 4]) + joined(frames))


def main() -> None:
    logging.disable(logging.CRITICAL)
    readers = Readers()
    targets: list[Callable[[list[bytes]], None]] = [
        readers.request,
        readers.reply,
        readers.header,
        readers.welcome,
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
