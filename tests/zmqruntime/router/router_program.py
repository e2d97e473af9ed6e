"""One end of a router: router_program.py serve|call|follow PORT."""

from __future__ import annotations

import sys
import threading

from zmqruntime import Endpoint
from zmqruntime.router import RouterClient, RouterServer


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Device:
    def __init__(self) -> None:
        self.never = threading.Event()

    def double(self, number: int) -> int:
        return 2 * number

    def hang(self) -> None:
        self.never.wait()


def serve(endpoint: Endpoint) -> None:
    server = RouterServer(endpoint)
    server.expose("device", Device(), ["double", "hang"])
    server.add_stream_from_callable("frame", 50, lambda: bytearray(100_000))
    with server:
        say("ready")
        server.service.wait_for_stop_request()


def call(endpoint: Endpoint) -> None:
    """Call for ever, with one call always under way that never ends."""
    with RouterClient(endpoint) as client:
        hanging = threading.Thread(
            target=client.call, args=("device", "hang"), kwargs={"timeout": 600}, daemon=True
        )
        hanging.start()
        say("ready")
        while client.call("device", "double", [21]) == 42:
            pass


def follow(endpoint: Endpoint) -> None:
    """Follow a stream and read nothing of it."""
    with RouterClient(endpoint) as client:
        client.configure_stream("frame", "cache")
        client.get_stream("frame", block=True, timeout=10)
        say("ready")
        sys.stdin.read()


if __name__ == "__main__":
    role, port = sys.argv[1:3]
    {"serve": serve, "call": call, "follow": follow}[role](Endpoint(port=int(port)))
