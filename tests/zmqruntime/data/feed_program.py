"""One end of a feed: feed_program.py serve|read PORT DIRECTORY [NAME [BEHAVIOUR]]."""

from __future__ import annotations

import sys
from pathlib import Path

from zmqruntime import Endpoint, Feed, FeedReader, Gap, ZMQClient, ZMQServer


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def serve(port: int, directory: Path) -> None:
    """Publish what is told on standard input, a key and a size a line, and say to how many."""
    with (
        ZMQServer("camera", Endpoint(port=port)) as server,
        Feed(server, directory=directory, replay_bytes=64 << 20) as feed,
    ):
        say("ready")
        feed.on_subscribed(lambda each: say("reads", each.name))
        for line in sys.stdin:
            key, size = line.split()
            say("sent", key, feed.publish("frames", b"", [bytes(int(size))], key=key, timeout=5))


def read(port: int, directory: Path, name: str, behaviour: str) -> None:
    """Say each key; hold keeps every item, anything else releases it."""
    held = []
    with (
        ZMQClient(Endpoint(port=port), app="viewer") as client,
        FeedReader(client, directory=directory, name=name) as reader,
    ):
        client.connect(10)
        reader.subscribe("frames", "latest" if behaviour == "latest" else "reliable")
        while reader.wait():
            for entry in reader.receive():
                if isinstance(entry, Gap):
                    say("gap", entry.reason)
                elif behaviour == "hold":
                    say("got", entry.key, "again", entry.again)
                    held.append(entry)
                else:
                    total = sum(map(len, entry.lease.copy()))
                    say("got", entry.key, total, "again", entry.again)


if __name__ == "__main__":
    role, number, folder, *rest = sys.argv[1:]
    if role == "serve":
        serve(int(number), Path(folder))
    else:
        read(int(number), Path(folder), rest[0], rest[1] if len(rest) > 1 else "")
