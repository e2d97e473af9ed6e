"""A feed of a server with keys is read by who may, and by nobody in another's name."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import Feed, FeedReader, ForbiddenError, Item, ZMQClient
from zmqruntime.data._stream_messages import feed_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.zmqruntime.security.conftest import House

    from zmqruntime.security import ClientKeys

    Connect = Callable[..., ZMQClient]

SOON = 10.0


@contextlib.contextmanager
def plain(url: str, keys: ClientKeys, topic: bytes) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        keys.secure(socket)
        socket.setsockopt(zmq.RCVTIMEO, 100)
        socket.connect(url)
        socket.subscribe(topic)
        yield socket


def until(feed: Feed, refused: int) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if feed.counters["refused"] >= refused:
            return
        pause.wait(0.005)
    raise AssertionError(feed.counters)


def read(reader: FeedReader) -> list[str]:
    assert reader.wait(SOON)
    keys = []
    for entry in reader.receive():
        assert isinstance(entry, Item)
        entry.lease.release()
        keys.append(entry.key)
    return keys


@pytest.mark.req("S.8", "B.4")
def test_a_topic_is_read_with_a_key_that_was_given_it_and_by_no_other(
    house: House, connect: Connect
) -> None:
    with house.serve() as server, Feed(server, use_shared_memory=False) as feed:
        feed.broadcast("frames", interval=0.0)
        client = connect(server, house.client_keys("desk", role="viewer"))
        client.connect(SOON)
        with FeedReader(client) as reader:
            reader.subscribe("frames")
            assert reader.wait_subscribed("frames", SOON)
            (reception,) = reader._orders.intake.receptions
            other = house.client_keys("mallory", role="viewer")
            # who has seen the secret name of a run still is not its reader
            with plain(server.endpoint.data_url, other, reception.filter) as nosy:
                until(feed, 1)
                feed.publish("frames", b"", [b"x"], key="A01")
                assert read(reader) == ["A01"]
                with pytest.raises(zmq.Again):
                    nosy.recv()
            with plain(server.endpoint.data_url, other, feed_topic("frames", "guess")):
                until(feed, 2)


@pytest.mark.req("S.8")
def test_a_key_without_the_capability_neither_reads_nor_hears(
    house: House, connect: Connect
) -> None:
    with house.serve() as server, Feed(server, use_shared_memory=False) as feed:
        feed.broadcast("frames", interval=0.0)
        keys = house.client_keys("camera", role=None)
        house.keys.authorize(
            keys.pair.public,
            name="camera",
            role=None,
            capabilities=frozenset({"topic:publish:frames"}),
        )
        client = connect(server, keys)
        client.connect(SOON)
        with FeedReader(client) as reader:
            reader.subscribe("frames")
            with pytest.raises(ForbiddenError, match="topic:subscribe:frames"):
                reader.wait_subscribed("frames", SOON)
        with plain(server.endpoint.data_url, keys, b"frames\0") as deaf:
            until(feed, 1)
            feed.publish("frames", b"")
            with pytest.raises(zmq.Again):
                deaf.recv()


@pytest.mark.req("S.8")
def test_a_reader_whose_key_is_revoked_gets_nothing_more(house: House, connect: Connect) -> None:
    with house.serve() as server, Feed(server, use_shared_memory=False) as feed:
        gone = threading.Event()
        feed.on_unsubscribed(lambda _: gone.set())
        client = connect(server, house.client_keys("desk", role="viewer"))
        client.connect(SOON)
        with FeedReader(client) as reader:
            reader.subscribe("frames")
            assert reader.wait_subscribed("frames", SOON)
            assert feed.publish("frames", b"", key="A01") == 1
            assert read(reader) == ["A01"]
            house.keys.revoke("desk")
            assert gone.wait(SOON)
            assert feed.publish("frames", b"", key="A02") == 0
            came = threading.Event()
            feed.on_subscribed(lambda _: came.set())
            house.client_keys("desk", role="viewer")
            client.connect(SOON)
            assert came.wait(SOON)
            assert feed.publish("frames", b"", key="A03") == 1
            entries: list[Any] = []
            while not (entries and isinstance(entries[-1], Item)):
                assert reader.wait(SOON)
                entries += reader.receive()
            assert entries[-1].key == "A03"
            entries[-1].lease.release()
