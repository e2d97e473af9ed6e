"""Frames name the state that they show, so that a picture and the values beside it agree."""

from __future__ import annotations

import queue
import random
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import Credit, Feed, FeedReader, Gap, Item, Publisher, Subscriber, ZMQClient
from zmqruntime.session import Applied, Baseline, Change, SessionClient, SessionServer, protocol2
from zmqruntime.testing import proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zmqruntime.testing import EndpointProxy

SOON = 20.0  # seconds; far more than any of this takes
GAMMA = ("layer", "layer-0", "gamma")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Engine:
    """An application that draws its one property, each time that it changes."""

    def __init__(self, stack: ExitStack, *, replay_bytes: int = 0, **options: Any) -> None:
        self.server = stack.enter_context(serve_in_thread())
        self.feed = stack.enter_context(
            Feed(self.server, use_shared_memory=False, replay_bytes=replay_bytes)
        )
        self.value = 0
        self.version = 0
        self.depicted = {0: 0}
        self.sessions = stack.enter_context(SessionServer(self.server, self.baseline, **options))
        self.sessions.reduce("layer", self.reduce)

    def baseline(self) -> Baseline:
        layer = {"layer_id": "layer-0", "controls": {"gamma": self.value}}
        return Baseline(layers=[layer])

    def reduce(self, change: Change) -> Applied:
        self.value, self.version = change.value, change.version
        self.depicted[change.version] = change.value
        self.feed.offer("view", self.draw)
        return Applied(value=change.value)

    def draw(self) -> tuple[bytes, list[bytes], int]:
        return str(self.value).encode(), [bytes(5000)], self.version


class Desk:
    """A client behind links that can be slow."""

    def __init__(self, stack: ExitStack, engine: Engine, mode: str, name: str = "desk") -> None:
        self.proxy: EndpointProxy = stack.enter_context(proxy_endpoint(engine.server.endpoint))
        self.client = stack.enter_context(SessionClient.over_zmq(self.proxy.endpoint))
        self.client.connect(SOON)
        service = stack.enter_context(ZMQClient(self.proxy.endpoint))
        service.connect(SOON)
        self.reader = stack.enter_context(
            FeedReader(service, name=name, credit=Credit(4, 1 << 20), use_shared_memory=False)
        )
        self.reader.subscribe("view", mode)
        assert self.reader.wait_subscribed("view", SOON)

    def frame(self) -> Item:
        while True:
            assert self.reader.wait(SOON)
            for entry in self.reader.receive(1):
                if isinstance(entry, Item):
                    entry.lease.release()
                    return entry


@pytest.mark.req("B.1")
def test_a_value_is_pending_until_a_frame_shows_it(stack: ExitStack) -> None:
    engine = Engine(stack)
    desk = Desk(stack, engine, "latest")
    desk.client.update(*GAMMA, 1).result(SOON)
    first = desk.frame()
    assert (first.state_version, first.header) == (1, b"1")
    assert desk.client.is_shown(1, *GAMMA)
    assert not desk.client.is_shown(None, *GAMMA)
    desk.proxy.data.pause()
    desk.client.update(*GAMMA, 2).result(SOON)
    assert desk.client.value(*GAMMA) == 2
    assert desk.client.state_version == 2
    assert not desk.client.is_shown(first.state_version, *GAMMA)
    assert desk.client.is_shown(first.state_version, "layer", "layer-0", "opacity")
    desk.proxy.data.resume()
    second = desk.frame()
    assert (second.state_version, second.header) == (2, b"2")
    assert desk.client.is_shown(second.state_version, *GAMMA)
    desk.proxy.control.pause()  # now the picture is there before the word
    change = desk.client.update(*GAMMA, 3)
    desk.proxy.control.resume("to_server")
    third = desk.frame()
    assert third.state_version == 3
    assert not desk.client.is_shown(third.state_version, *GAMMA)
    desk.proxy.control.resume()
    assert change.result(SOON).version == 3
    assert desk.client.is_shown(third.state_version, *GAMMA)


@pytest.mark.req("B.1")
@pytest.mark.parametrize("mode", ["latest", "reliable"])
def test_under_delay_no_picture_is_shown_with_a_newer_value_than_it_depicts(
    stack: ExitStack, mode: str
) -> None:
    engine = Engine(stack)
    desk = Desk(stack, engine, mode)
    dice = random.Random(7)
    last = 60
    shown = 0

    def change() -> None:
        for number in range(1, last + 1):
            desk.proxy.data.delay(dice.choice((0.0, 0.0, 0.02, 0.08)))
            desk.proxy.control.delay(dice.choice((0.0, 0.0, 0.02, 0.08)))
            made = desk.client.update(*GAMMA, number)
            if number % 3 == 0:
                made.result(SOON)

    hands = threading.Thread(target=change)
    hands.start()
    while shown < last:
        item = desk.frame()
        assert item.state_version is not None
        assert engine.depicted[item.state_version] == int(item.header)
        assert item.state_version > shown, "an older picture comes after a newer one"
        shown = item.state_version
        value = desk.client.value(*GAMMA)  # first: what is shown now was shown in this state too
        if desk.client.is_shown(shown, *GAMMA):
            assert value <= int(item.header)
    hands.join(SOON)
    assert int(item.header) == last


@pytest.mark.req("B.1")
def test_what_is_sent_again_after_a_broken_link_keeps_the_state_that_it_shows(
    stack: ExitStack,
) -> None:
    engine = Engine(stack, replay_bytes=16 << 20)
    desk = Desk(stack, engine, "reliable")
    said: list[tuple[str, int | None]] = []
    again = 0
    for cut in range(4):
        desk.proxy.data.cut_after(3000 * cut, "to_client")
        for number in range(8):
            version = 100 * cut + number
            engine.feed.publish(
                "view",
                str(version).encode(),
                [bytes(1000)],
                key=str(version),
                timeout=SOON,
                state_version=version,
            )
        while not said or said[-1][0] != str(100 * cut + 7):
            item = desk.frame()
            said.append((item.key, item.state_version))
            again += bool(item.again)
    assert again
    assert all(int(key) == version for key, version in said)


@pytest.mark.req("B.1", "B.6")
def test_a_client_that_was_away_learns_of_which_state_it_was_told(stack: ExitStack) -> None:
    engine = Engine(stack)
    desk = Desk(stack, engine, "latest")
    lost = threading.Event()
    states: queue.SimpleQueue[Any] = queue.SimpleQueue()
    layers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    desk.client.on_lost(lambda _reason: lost.set())
    desk.client.on("session.welcome", states.put)
    desk.client.on("notify.layers", layers.put)
    desk.proxy.cut()
    assert lost.wait(SOON)
    versions = [engine.sessions.set(*GAMMA, number).result(SOON) for number in range(1, 6)]
    assert versions == [1, 2, 3, 4, 5]
    assert engine.sessions.version == 5
    desk.proxy.heal()
    resumed = states.get(timeout=2 * SOON).features["notify.layers"].resume_state
    assert resumed.status == "resumed"
    assert [layers.get(timeout=SOON).state_version for _ in versions] == versions
    assert desk.client.state_version == 5
    assert not desk.client.is_shown(4, *GAMMA)
    assert desk.client.is_shown(5, *GAMMA)
    told: threading.Event = threading.Event()
    desk.client.on("notify.scene", lambda _scene: told.set())
    engine.sessions.reset()
    assert told.wait(SOON)
    assert desk.client.state_version == 5
    assert not desk.client.is_shown(4, *GAMMA)  # a scene says how all is in its own state


@pytest.mark.req("B.1", "B.9")
def test_who_is_told_of_a_change_may_expect_its_version(stack: ExitStack) -> None:
    engine = Engine(stack)
    one, other = (
        stack.enter_context(SessionClient.over_zmq(engine.server.endpoint)) for _ in range(2)
    )
    for client in (one, other):
        client.connect(SOON)
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    other.on("notify.layers", told.put)
    for number in range(1, 4):
        made = one.update(*GAMMA, number).result(SOON).version
        assert told.get(timeout=SOON).state_version == made
        assert other.version(*GAMMA) == made
    ack = other.update(*GAMMA, 9, expected_version=other.version(*GAMMA)).result(SOON)
    assert ack.version == 4


def test_a_callback_that_fails_is_counted_and_the_next_is_called(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(stack)
    client = stack.enter_context(SessionClient.over_zmq(engine.server.endpoint))
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def broken(_payload: object) -> None:
        raise ArithmeticError("no such gamma")

    client.on("notify.layers", broken)
    client.on("notify.layers", told.put)
    client.connect(SOON)
    for number in range(1, 4):
        client.update(*GAMMA, number)
        assert told.get(timeout=SOON).controls == {"gamma": number}
    assert client.counters["failed_callbacks"] == 3
    assert caplog.text.count("ArithmeticError: no such gamma") == 3


@pytest.mark.req("B.1")
def test_a_view_names_the_state_that_it_is_of(stack: ExitStack) -> None:
    engine = Engine(stack)

    def reduce(change: Change) -> Applied:
        moved = protocol2.DimsPayload(
            current_step=[change.value],
            levels=[],
            level_shapes=[],
            current_level=0,
            mode="plane",
            ndisplay=2,
        )
        fixed = protocol2.LayersPayload(layer_id="layer-1", controls={"a": 1}, state_version=77)
        told = protocol2.TelemetryPayload()  # which shows no state
        return Applied(value=change.value, notices=[moved, fixed, told])

    engine.sessions.reduce("dims", reduce)
    client = stack.enter_context(SessionClient.over_zmq(engine.server.endpoint))
    client.connect(SOON)
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for topic in ("notify.dims", "notify.layers", "notify.telemetry", "notify.camera"):
        client.on(topic, told.put)
    client.update("dims", "z", "step", 4).result(SOON)
    moved, fixed, plain = (told.get(timeout=SOON) for _ in range(3))
    assert (moved.current_step, moved.state_version) == ([4], 1)
    assert fixed.state_version == 77  # what the application says counts
    assert not hasattr(plain, "state_version")


@pytest.mark.req("B.1")
@pytest.mark.parametrize("shared", [True, False], ids=["arena", "inline"])
@pytest.mark.parametrize("mode", ["reliable", "latest"])
def test_a_producer_at_a_viewer_names_states_and_hears_them_acknowledged(
    stack: ExitStack, shm: Path, mode: str, shared: bool
) -> None:
    server = stack.enter_context(serve_in_thread())
    subscriber = stack.enter_context(
        Subscriber(server, credit=Credit(1, 1 << 20), directory=shm, use_shared_memory=shared)
    )
    client = stack.enter_context(ZMQClient(server.endpoint))
    client.connect(SOON)
    publisher = stack.enter_context(
        Publisher(client, "images", mode=mode, until="displayed", directory=shm)
    )
    assert publisher.wait_attached(SOON)
    acks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    publisher.on_ack(lambda _key, ack: acks.put((ack.status, ack.state_version)))
    for version in (0, 5, (1 << 63) - 1):
        publisher.publish(b"", [bytes(90_000)], key="A01", state_version=version, timeout=SOON)
        assert subscriber.wait(SOON)
        (item,) = subscriber.receive()
        assert isinstance(item, Item)
        assert item.state_version == version
        item.ack("displayed")
        item.lease.release()
        assert acks.get(timeout=SOON) == ("displayed", version)
    for bad in (-1, 1 << 63):
        with pytest.raises(ValueError, match="a state has a number"):
            publisher.publish(b"", [], key="A02", state_version=bad)
    publisher.publish(b"", [], key="A03", timeout=SOON)
    assert subscriber.wait(SOON)
    (item,) = subscriber.receive()
    assert isinstance(item, Item)
    assert item.state_version is None
    item.lease.release()


@pytest.mark.req("B.1")
def test_a_picture_that_waits_for_room_keeps_its_state_and_one_drawn_late_names_that_moment(
    stack: ExitStack, shm: Path
) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server, directory=shm))
    client = stack.enter_context(ZMQClient(server.endpoint))
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, credit=Credit(1, 1 << 20), directory=shm))
    reader.subscribe("view", "latest")
    assert reader.wait_subscribed("view", SOON)
    acks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed.on_ack(lambda _subscription, ack: acks.put(ack.state_version))
    now = 1

    def next_item() -> Item:
        while True:
            assert reader.wait(SOON)
            (entry,) = reader.receive(1)
            if not isinstance(entry, Gap):
                return entry

    feed.publish("view", b"", [b"x"], state_version=now)
    held = next_item()
    feed.publish("view", b"", [b"x"], state_version=2)
    feed.offer("view", lambda: (b"", [b"x"]), state_version=3)
    feed.offer("view", lambda: (b"", [b"x"], now), state_version=4)
    now = 40  # the state goes on until somebody has room
    held.lease.release()
    late = next_item()
    late.lease.release()
    feed.offer("view", lambda: (b"", [b"x"]), state_version=41)
    item = next_item()
    item.lease.release()
    assert [each.state_version for each in (held, late, item)] == [1, 40, 41]
    assert [acks.get(timeout=SOON) for _ in range(3)] == [1, 40, 41]
    feed.retain("kept")
    feed.publish("kept", b"", [b"x"], state_version=9)
    reader.subscribe("kept")
    kept = next_item()
    assert (kept.retained, kept.state_version) == (True, 9)
    kept.lease.release()
    with pytest.raises(ValueError, match="a state has a number"):
        feed.offer("view", lambda: (b"", []), state_version=-1)
