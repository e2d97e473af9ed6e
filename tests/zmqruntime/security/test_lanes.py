"""Streams of a server with keys: who may read them, and who no longer."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest
import zmq

from zmqruntime import (
    Deadline,
    Feed,
    FeedReader,
    ForbiddenError,
    Item,
    KeyFileError,
    PublisherPool,
    Subscriber,
    ZMQClient,
    ZMQServiceManager,
)
from zmqruntime.security import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zmqruntime.security.conftest import House

    Connect = Callable[..., ZMQClient]

SOON = 10.0  # seconds; far more than any of this takes


def receive(reader: FeedReader, count: int) -> list[str]:
    """Take so many payloads, and return their keys."""
    keys: list[str] = []
    deadline = Deadline(SOON)
    while len(keys) < count and reader.wait(deadline.remaining()):
        for entry in reader.receive():
            if isinstance(entry, Item):
                with entry.lease as lease:
                    lease.copy()
                keys.append(entry.key)
    return keys


def attached(feed: Feed, topic: str, count: int) -> bool:
    deadline = Deadline(SOON)
    with zmq.Context() as context, context.socket(zmq.PULL) as pause:
        while len(feed.subscribers(topic)) != count and not deadline.expired:
            pause.poll(5)
    return len(feed.subscribers(topic)) == count


@pytest.mark.req("S.2", "S.6", "S.8")
@pytest.mark.parametrize("shared", [True, False])
def test_a_reader_that_is_revoked_gets_nothing_more_and_comes_back_when_let_in(
    house: House,
    connect: Connect,
    shared: bool,
) -> None:
    with house.serve() as server, Feed(server) as feed:
        stays = connect(server, house.client_keys("stays", role="viewer"))
        goes = connect(server, house.client_keys("goes", role="viewer"))
        lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        goes.on_lost(lost.put)
        stays.connect(SOON)
        goes.connect(SOON)
        with (
            FeedReader(stays, use_shared_memory=shared) as first,
            FeedReader(goes, use_shared_memory=shared) as second,
        ):
            first.subscribe("frames")
            second.subscribe("frames")
            assert attached(feed, "frames", 2)
            feed.publish("frames", b"h", [b"x" * 100_000], key="1", timeout=SOON)
            assert receive(first, 1) == receive(second, 1) == ["1"]
            house.keys.revoke("goes")
            assert attached(feed, "frames", 1)
            feed.publish("frames", b"h", [b"x" * 100_000], key="2", timeout=SOON)
            assert receive(first, 1) == ["2"]
            assert "revoked" in lost.get(timeout=SOON)  # the server has parted from it before
            assert not goes.connected
            assert not [each for each in second.receive() if isinstance(each, Item)]
            house.client_keys("goes", role="viewer")
            assert attached(feed, "frames", 2)
            feed.publish("frames", b"h", [b"x" * 100_000], key="3", timeout=SOON)
            assert receive(first, 1) == ["3"]
            assert receive(second, 1)[-1] == "3"


@pytest.mark.req("S.6")
def test_a_topic_that_was_not_granted_is_not_read(house: House, connect: Connect) -> None:
    with house.serve() as server, Feed(server) as feed:
        keys = house.client_keys(
            "guest", role=None, capabilities=frozenset({"topic:subscribe:preview"})
        )
        house.keys.authorize(
            keys.pair.public,
            name="guest",
            role=None,
            capabilities=frozenset({"topic:subscribe:preview"}),
        )
        guest = connect(server, keys)
        assert guest.connect(SOON).capabilities == ("topic:subscribe:preview",)
        with FeedReader(guest) as reader:
            reader.subscribe("preview")
            reader.subscribe("frames")
            assert attached(feed, "preview", 1)
            assert not feed.subscribers("frames")


@pytest.mark.req("S.2", "S.6")
def test_a_foreign_subscriber_needs_a_key_and_a_grant_for_what_is_broadcast(house: House) -> None:
    """XPUB that binds tells who subscribes: one of several to the same topic is let in."""
    with house.serve() as server, Feed(server) as feed, zmq.Context() as context:
        feed.broadcast("progress", interval=0.0)
        wanted = {
            "viewer": house.client_keys("viewer", role="viewer"),
            "other": house.client_keys(
                "other", role=None, capabilities=frozenset({"topic:subscribe:other"})
            ),
            "stranger": house.client_keys("stranger", role=None),
            "nobody": None,
        }
        house.keys.authorize(
            house.pairs["other"].public,
            name="other",
            role=None,
            capabilities=frozenset({"topic:subscribe:other"}),
        )
        sockets: dict[str, zmq.Socket[bytes]] = {}
        for name, keys in wanted.items():
            sockets[name] = socket = context.socket(zmq.SUB)
            socket.setsockopt(zmq.LINGER, 0)
            if keys is not None:
                keys.secure(socket)
            socket.subscribe(b"progress\0")
            socket.connect(server.endpoint.data_url)
        deadline = Deadline(SOON)
        number = 0
        while not sockets["viewer"].poll(20):
            assert not deadline.expired
            number += 1
            feed.publish("progress", b"", [b"well"], key=str(number))
        assert sockets["viewer"].recv_multipart()[0] == b"progress\0"
        for name in ("other", "stranger", "nobody"):
            assert not sockets[name].poll(50)
            sockets[name].close()
        sockets["viewer"].close()


@pytest.mark.req("S.6")
def test_lanes_are_shown_to_operators_only(house: House, connect: Connect) -> None:
    with house.serve() as server, Feed(server):
        operator = connect(server, house.client_keys("desk", role="operator"))
        viewer = connect(server, house.client_keys("guest", role="viewer"))
        operator.connect(SOON)
        viewer.connect(SOON)
        assert operator.control.request("lanes") == {"lanes": []}
        with pytest.raises(ForbiddenError, match=r"service:inspect"):
            viewer.control.request("lanes")


@pytest.mark.req("S.2")
def test_a_pool_and_a_manager_reach_servers_that_are_pinned(house: House, tmp_path: Path) -> None:
    mine = KeyFolder(tmp_path / "mine")
    house.keys.authorize(mine.make("desk").public, name="desk", role="operator")
    server_key = house.keys.server_pair().public
    with (
        house.serve() as server,
        Subscriber(server) as subscriber,
        PublisherPool("frames", keys=mine) as pool,
    ):
        port = server.ports.control
        pool.get("localhost", port).publish(b"h", [b"x"], key="local", timeout=SOON)
        with pytest.raises(KeyFileError, match="keys trust"):
            pool.get("192.0.2.7", port)
        mine.trust("127.0.0.1", server_key)
        pool.get("127.0.0.1", port).publish(b"h", [b"x"], key="pinned", timeout=SOON)
        shown: set[str] = set()
        while shown != {"local", "pinned"} and subscriber.wait(SOON):
            for entry in subscriber.receive():
                if isinstance(entry, Item):
                    entry.lease.release()
                    shown.add(entry.key)
        assert not pool.flush(SOON)
        assert sorted(peer.name for peer in server.control.peers) == ["desk", "local"]
        manager = ZMQServiceManager("test", server.endpoint, keys=mine, server_key=server_key)
        with manager:
            manager.connect_or_raise(SOON)
            assert "call:*" in manager.client.welcome.capabilities
