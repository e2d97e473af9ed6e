"""The other end of a stream: stream_program.py receive|send PORT DIRECTORY [BEHAVIOUR]."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zmqruntime import (
    Endpoint,
    Gap,
    Publisher,
    StaleSlotError,
    Subscriber,
    ZMQClient,
    ZMQServer,
)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def receive(port: int, directory: Path, behaviour: str) -> None:
    """Say each key; hold keeps every item, sum adds its bytes up, anything else releases it."""
    held = []
    with (
        ZMQServer("viewer", Endpoint(port=port), bind_address="127.0.0.1") as server,
        Subscriber(server, directory=directory) as subscriber,
    ):
        say("ready")
        while subscriber.wait():
            for entry in subscriber.receive():
                if isinstance(entry, Gap):
                    say("gap", entry.first, entry.last, entry.reason)
                elif behaviour == "hold":
                    say("got", entry.key)
                    held.append(entry)
                elif behaviour == "sum":
                    (taken,) = entry.lease.copy()
                    say("got", entry.key, sum(taken), "again", entry.again)
                else:
                    try:
                        total = sum(map(len, entry.lease.copy()))
                    except StaleSlotError:
                        continue  # a gap comes for it
                    entry.ack("displayed")
                    say("got", entry.key, total)


def send(port: int, directory: Path, behaviour: str) -> None:
    """Send one payload and then wait to be killed, or close as one should."""
    client = ZMQClient(Endpoint(port=port), app="microscope")
    client.connect(10)
    publisher = Publisher(client, "images", directory=directory)
    publisher.publish(b"header", [b"p" * 200_000], key="A01", timeout=10)
    say("ready")
    if behaviour == "fork":
        if os.fork() == 0:
            sys.exit(0)  # a child that ends in an orderly way
        os.wait()
        say("forked")
    sys.stdin.read()
    publisher.close()
    client.close()


if __name__ == "__main__":
    role, port, directory = sys.argv[1:4]
    behaviour = sys.argv[4] if len(sys.argv) > 4 else ""
    {"receive": receive, "send": send}[role](int(port), Path(directory), behaviour)
