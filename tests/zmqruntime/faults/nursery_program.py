"""Forks victims: processes that are cheap to start, because everything is imported already.

Reads lines ``NAME ROLE FOLDER ARGUMENT...`` and forks a child for each, in a process group of its
own or, with ``ROLE@GROUP``, in the group of the child with that name; its errors go to a file in
the folder. Children, and the nursery for them, write lines ``NAME WORD...`` to the output that all
share: ``started PID`` and ``exit STATUS`` among them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from zmqruntime import (
    Credit,
    Endpoint,
    Feed,
    FeedReader,
    Gap,
    NotAttachedError,
    PeerLostError,
    Publisher,
    PublishTimeoutError,
    StaleSlotError,
    Subscriber,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.gateway import WebSocketCarrier, WebSocketGateway
from zmqruntime.session import (
    Baseline,
    Grant,
    Retention,
    SessionClient,
    SessionRejectedError,
    SessionServer,
    ZMQCarrier,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zmqruntime.session import Carrier, Hello, LinkPeer, SessionRecord


class Voice:
    """Says lines in the name of a child, each whole."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *words: object) -> None:
        # less than PIPE_BUF at a time, so that lines of several processes do not mix
        os.write(1, f"{self.name} {' '.join(map(str, words))}\n".encode())


def endpoint_at(port: str) -> Endpoint:
    """Read a port of this host, or a host and a port."""
    return Endpoint.parse(port) if ":" in port else Endpoint(port=int(port))


def server_at(port: str) -> ZMQServer:
    endpoint = endpoint_at(port)
    if endpoint.is_loopback:
        return ZMQServer("victim", endpoint, bind_address="127.0.0.1")
    return ZMQServer("victim", endpoint, bind_address=endpoint.host, insecure=True)


def serve(say: Voice, port: str) -> None:
    """Answer until a signal."""
    server = server_at(port)
    server.control.handle("pid", lambda *_: {"pid": os.getpid()})
    server.start(ready=False)
    server.install_signal_handlers()
    server.report_ready()
    say("ready")
    server.serve_until_signal()
    say("ended")


def receive(say: Voice, port: str, directory: str) -> None:
    """Answer, receive, and say what was received before it is acknowledged."""
    with (
        server_at(port) as server,
        Subscriber(
            server, directory=Path(directory), credit=Credit(messages=8, nbytes=8 << 20)
        ) as subscriber,
    ):
        server.control.handle("pid", lambda *_: {"pid": os.getpid()})
        server.install_signal_handlers()
        ended = threading.Event()

        def end(_reason: str) -> None:
            ended.set()
            subscriber.close()

        server.on_stop_request(end)
        say("ready")
        while subscriber.wait():
            for entry in subscriber.receive():
                if isinstance(entry, Gap):
                    say("gap", entry.first, entry.last, entry.reason)
                    continue
                with contextlib.suppress(StaleSlotError):
                    entry.lease.copy()
                say("got", entry.key)
                entry.ack("displayed")
        ended.wait()
    say("ended")


def send(say: Voice, port: str, directory: str) -> None:
    """Publish until stopped; say what was sent and acknowledged, and send again what was lost."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    small, large = b"s" * 300, b"l" * 120_000
    with ZMQClient(endpoint_at(port), app="sender") as client:
        client.on_lost(lambda _reason: say("lost"))
        client.connect(20)
        again: list[str] = []
        with Publisher(
            client, "images", until="displayed", directory=Path(directory), arena_bytes=4 << 20
        ) as publisher:
            publisher.on_ack(lambda key, _ack: say("acked", key))
            publisher.on_replay(again.extend)
            number = 0
            while not stop.is_set():
                key = again.pop(0) if again else f"{say.name}.{number}"
                say("sending", key)
                try:
                    publisher.publish(b"h", [large if number % 3 else small], key=key, timeout=0.2)
                except (NotAttachedError, PublishTimeoutError):
                    say("refused", key)  # it was not sent, and we know
                    continue
                say("sent", key)
                number += 1
                if number == 3:
                    say("ready")
            for key in tuple(again):
                publisher.publish(b"h", [small], key=key, timeout=5.0)
            say("left", *publisher.flush(5.0))
    say("ended")


def ask(say: Voice, port: str) -> None:
    """Ask one question after another until stopped; say what became of each."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with ZMQClient(endpoint_at(port), app="asker") as client:
        client.on_lost(lambda _reason: say("lost"))
        client.connect(20)
        say("ready")
        number = 0
        while not stop.is_set():
            number += 1
            say("asked", number)
            try:
                answer = client.control.request("pid", timeout=20.0)
            except PeerLostError:
                say("failed", number)
            else:
                say("answered", number)
                say("by", answer["pid"])
    say("ended")


def broadcast(say: Voice, port: str, directory: str, readers: str) -> None:
    """Answer, wait for so many readers, and publish to them until a signal; then the end."""
    everybody, stop = threading.Event(), threading.Event()
    with (
        server_at(port) as server,
        Feed(server, directory=Path(directory), arena_bytes=8 << 20) as feed,
    ):
        server.control.handle("echo", lambda request, _: request.body, on_loop=True)
        server.install_signal_handlers()

        def end(_reason: str) -> None:
            stop.set()
            everybody.set()

        def count(_subscriber: object) -> None:
            if len(feed.subscribers("news")) >= int(readers):
                everybody.set()

        server.on_stop_request(end)
        feed.on_subscribed(count)
        say("ready")
        everybody.wait()
        say("began", len(feed.subscribers("news")))
        number = 0
        while not stop.wait(0.01):  # a rate that all of them can follow
            number += 1
            size = 100_000 if number % 10 == 0 else 100
            feed.publish("news", b"", [bytes(size)], key=str(number), timeout=30)
        feed.publish("news", b"", [], key="end", timeout=30)
        say("sent", number)
        say("taken", feed.flush(240))
    say("ended")


def take_part(say: Voice, port: str, directory: str) -> None:
    """Read all news and ask all the while; at the end, say how much of it there was."""
    asked = answered = 0
    keys: list[str] = []
    gaps = 0
    with (
        ZMQClient(endpoint_at(port), app="visitor") as client,
        FeedReader(client, directory=Path(directory)) as reader,
    ):
        client.connect(60)
        reader.subscribe("news")
        while "end" not in keys[-1:]:
            asked += 1
            answered += client.control.request("echo", {"n": asked}, timeout=60) == {"n": asked}
            reader.wait(1.0)
            for entry in reader.receive():
                if isinstance(entry, Gap):
                    gaps += 1
                else:
                    keys.append(entry.key)
                    entry.lease.release()
        in_order = keys[:-1] == [str(number + 1) for number in range(len(keys) - 1)]
        say("total", asked, answered, len(keys) - 1, gaps, in_order)


PASSWORD = "the same after each start"


def let_in(hello: Hello, peer: LinkPeer) -> Grant:  # noqa: ARG001 - an Authenticator
    """Know clients by something that outlives the server's own token."""
    if hello.auth is None or hello.auth.token != PASSWORD:
        raise SessionRejectedError("auth_failed", "say the password")
    return Grant(principal="client", may=lambda _capability: True, capabilities=("*",))


def count(say: Voice, port: str, gateway: str, journal: str, quiet: str) -> None:
    """Count in a property of a scene, from where the journal says, until a signal."""
    server = server_at(port)
    number = 0
    with (
        SessionServer(
            server,
            lambda: Baseline(layers=[{"layer_id": "layer-0", "controls": {"n": number}}]),
            journal=Path(journal),
            authenticate=let_in,
            retention=Retention(entries=1_000_000, seconds=1e9),
        ) as sessions,
    ):
        number = sessions.value("layer", "layer-0", "n", 0)

        def closed(_record: SessionRecord, reason: str) -> None:
            say("closed", reason.replace(" ", "_"))

        def one_more() -> None:
            nonlocal number
            number += 1
            sessions.set("layer", "layer-0", "n", number)  # written down before anybody hears
            # Who comes back after a while finds fewer than the 512 that may wait for it: else it
            # is sent a scene instead.
            server.loop.call_later(0.02, one_more)

        sessions.on_closed(closed)
        server.start(ready=False)
        server.install_signal_handlers()
        with WebSocketGateway(sessions, port=int(gateway)):
            server.report_ready()
            say("ready", number)
            if quiet == "no":
                server.loop.call_soon(one_more)
            server.serve_until_signal()
    say("ended")


def follow(say: Voice, port: str, gateway: str) -> None:
    """Say which number a baseline shows and which ones follow it, until a signal."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if gateway == "none":
        carrier: Carrier = ZMQCarrier.to(endpoint_at(port))
    else:
        carrier = WebSocketCarrier(f"ws://127.0.0.1:{gateway}/state", longest_wait=0.1)
    with SessionClient(carrier, token=PASSWORD, protocols=(2,)) as client:
        client.on("session.welcome", lambda _payload: say("welcomed"))
        client.on("notify.scene", lambda payload: say("scene", payload.layers[0]["controls"]["n"]))
        client.on("notify.layers", lambda payload: say("heard", payload.controls["n"]))
        client.connect(20)
        stop.wait()
        for name, value in client.counters.items():
            say("counted", f"{name}={value}")
    say("ended")


ROLES: dict[str, Callable[..., None]] = {
    "ask": ask,
    "broadcast": broadcast,
    "count": count,
    "follow": follow,
    "receive": receive,
    "send": send,
    "serve": serve,
    "take_part": take_part,
}


def main() -> tuple[str, list[str]]:
    """Fork as told; a child returns what it is to do, so that it ends as a program does."""
    pids: dict[str, int] = {}
    names: dict[int, str] = {}  # by the descriptor of the child's process
    poller = select.poll()
    poller.register(0, select.POLLIN)
    text = b""
    while True:
        for descriptor, _ in poller.poll():
            if descriptor != 0:
                poller.unregister(descriptor)
                os.close(descriptor)
                name = names.pop(descriptor)
                _, status = os.waitpid(pids.pop(name), 0)
                Voice(name)("exit", os.waitstatus_to_exitcode(status))
                continue
            chunk = os.read(0, 4096)
            if not chunk:
                for pid in pids.values():
                    os.kill(pid, signal.SIGKILL)
                sys.exit()
            text += chunk
            while b"\n" in text:
                line, _, text = text.partition(b"\n")
                name, role, folder, *arguments = line.decode().split()
                role, _, group = role.partition("@")
                pid = os.fork()
                if pid == 0:
                    become_victim(Path(folder) / f"{name}.log", pids.get(group, 0), names)
                    return role, [name, *arguments]
                pids[name] = pid
                with contextlib.suppress(PermissionError, ProcessLookupError):
                    os.setpgid(pid, pids.get(group, pid))  # the child does too; who is first?
                descriptor = os.pidfd_open(pid)
                names[descriptor] = name
                poller.register(descriptor, select.POLLIN)
                Voice(name)("started", pid)


def become_victim(log: Path, group: int, descriptors: Iterable[int]) -> None:
    """Let go of what belongs to the nursery."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(0, group)
    for descriptor in (0, *descriptors):
        os.close(descriptor)
    os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(file, 2)
    os.close(file)


if __name__ == "__main__":
    todo, (own_name, *rest) = main()
    ROLES[todo](Voice(own_name), *rest)
