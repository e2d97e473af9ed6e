"""Links that break, stall and swallow, between each pair of ends; and ends that come and go."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from zmqruntime import (
    ControlTimeout,
    Credit,
    Feed,
    FeedReader,
    Gap,
    Item,
    NotAttachedError,
    PeerLostError,
    Publisher,
    PublishTimeoutError,
    Subscriber,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint, proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zmqruntime.testing import EndpointProxy

    Rounds = Callable[[int, int], int]

SOON = 20.0  # seconds; far more than any of this takes


@pytest.fixture(autouse=True)
def state_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep audit logs and keys of a test to itself."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Watch:
    """Counts how often a client was lost and welcomed."""

    def __init__(self, client: ZMQClient) -> None:
        self.lost = self.welcomed = 0
        self._changed = threading.Condition()
        client.on_lost(lambda _reason: self._note("lost"))
        client.on_welcome(lambda _welcome: self._note("welcomed"))

    def _note(self, what: str) -> None:
        with self._changed:
            setattr(self, what, getattr(self, what) + 1)
            self._changed.notify_all()

    def wait_for(self, what: str, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: getattr(self, what) >= count, SOON), what


def through(stack: ExitStack, server: ZMQServer) -> tuple[EndpointProxy, ZMQClient, Watch]:
    """A client whose way to the server can be broken; the server's process stays in sight."""
    proxy = stack.enter_context(proxy_endpoint(server.endpoint))
    client = stack.enter_context(ZMQClient(proxy.endpoint))
    watch = Watch(client)
    client.connect(SOON)
    return proxy, client, watch


@pytest.mark.req("F.35")
@pytest.mark.req("002.26")
@pytest.mark.parametrize("ending", ["rst", "fin"])
def test_a_broken_control_link_fails_what_is_under_way_and_heals(
    stack: ExitStack, ending: str
) -> None:
    release = threading.Event()
    server = stack.enter_context(
        serve_in_thread({"hang": lambda *_: {"done": release.wait(SOON)}, "echo": lambda *_: {}})
    )
    proxy, client, watch = through(stack, server)
    under_way = client.control.request_nowait("hang", timeout=SOON)
    again = client.control.request_nowait("hang", timeout=SOON, idempotent=True)
    client.control.request("ping")
    proxy.cut(ending)
    watch.wait_for("lost", 1)
    with pytest.raises(PeerLostError, match="may or may not"):
        under_way.result(SOON)
    with pytest.raises(ControlTimeout, match="was not sent"):
        client.control.request("echo", timeout=0.1)
    release.set()
    proxy.heal()
    watch.wait_for("welcomed", 2)
    assert again.result(SOON).body == {"done": True}
    assert client.control.request("echo", timeout=SOON) == {}


@pytest.mark.req("F.34")
def test_a_link_that_stalls_for_a_moment_is_not_a_lost_one(stack: ExitStack) -> None:
    server = stack.enter_context(serve_in_thread({"echo": lambda *_: {}}))
    proxy, client, watch = through(stack, server)
    proxy.pause()
    waiting = client.control.request_nowait("echo", timeout=SOON)
    assert not threading.Event().wait(0.3)  # far less than three heartbeats
    assert not waiting.done()
    proxy.resume()
    assert waiting.result(SOON).body == {}
    assert watch.lost == 0


@pytest.mark.req("F.4")
@pytest.mark.req("F.35")
def test_a_link_that_swallows_everything_is_noticed_by_both_ends(stack: ExitStack) -> None:
    """As when a cable is pulled: no end is told."""
    server = stack.enter_context(serve_in_thread({"echo": lambda *_: {}}))
    gone = threading.Event()
    server.control.on_peer_lost(lambda _peer: gone.set())
    proxy, client, watch = through(stack, server)
    proxy.swallow()
    watch.wait_for("lost", 1)
    assert gone.wait(SOON)
    proxy.heal()
    watch.wait_for("welcomed", 2)
    assert client.control.request("echo", timeout=SOON) == {}


@pytest.mark.req("F.6")
@pytest.mark.req("G.7")
@pytest.mark.timeout(300)
def test_a_stream_whose_link_breaks_at_any_byte_loses_nothing(
    stack: ExitStack, rounds: Rounds
) -> None:
    """What was not acknowledged is handed back, and sent again; what was lost is a gap."""
    server = stack.enter_context(serve_in_thread())
    subscriber = stack.enter_context(
        Subscriber(server, credit=Credit(messages=8, nbytes=1 << 22), use_shared_memory=False)
    )
    proxy, client, watch = through(stack, server)
    publisher = stack.enter_context(
        Publisher(client, "images", until="displayed", use_shared_memory=False)
    )
    again: list[str] = []
    publisher.on_replay(again.extend)
    got: set[str] = set()
    ended = threading.Event()

    def receive() -> None:
        while not ended.is_set():
            subscriber.wait(0.1)
            for entry in subscriber.receive():
                if isinstance(entry, Item):
                    entry.lease.copy()
                    got.add(entry.key)
                    entry.ack("displayed")

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    dice = random.Random(11)
    sent: set[str] = set()
    for number in range(rounds(8, 100)):
        if dice.random() < 0.5:
            link, way, most = proxy.data, "to_server", 200_000
        else:  # acknowledgements
            link, way, most = proxy.control, "to_client", 500
        broken = link.counters["broken"]
        link.cut_after(dice.randrange(most), way, ending=dice.choice(("rst", "fin")))
        while link.counters["broken"] == broken:
            key = again.pop(0) if again else f"{number}.{len(sent)}"
            try:
                publisher.publish(b"h", [bytes(dice.choice((10, 50_000)))], key=key, timeout=0.2)
            except (NotAttachedError, PublishTimeoutError):
                continue  # it was not sent, and we know
            sent.add(key)
        assert publisher.wait_attached(SOON)
    for _ in range(100):
        for key in tuple(again):
            publisher.publish(b"h", [b"again"], key=key, timeout=SOON)
            again.remove(key)
        left = publisher.flush(SOON)
        if not left and not again:
            break
        again.extend(key for key in left if key not in again)
    ended.set()
    receiver.join(SOON)
    assert sent <= got
    assert publisher.unacknowledged == ()
    del watch


@pytest.mark.req("F.35")
@pytest.mark.req("B.4")
def test_a_reader_whose_link_breaks_is_sent_what_it_missed(stack: ExitStack, shm: Path) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(
        Feed(server, directory=shm, use_shared_memory=False, replay_bytes=16 << 20)
    )
    proxy, client, watch = through(stack, server)
    reader = stack.enter_context(FeedReader(client, name="viewer", use_shared_memory=False))
    reader.subscribe("news")
    assert reader.wait_subscribed("news", SOON)
    keys: list[str] = []

    def read_until(last: str) -> None:
        while last not in keys:
            assert reader.wait(SOON), keys[-3:]
            for entry in reader.receive():
                if isinstance(entry, Item):
                    keys.append(entry.key)
                    entry.lease.release()

    for cut in range(5):
        proxy.data.cut_after(1000 * cut, "to_client")
        for number in range(20):
            feed.publish("news", b"", [bytes(500)], key=f"{cut}.{number}", timeout=SOON)
        read_until(f"{cut}.19")
    expected = [f"{cut}.{number}" for cut in range(5) for number in range(20)]
    assert list(dict.fromkeys(keys)) == expected
    del watch


@pytest.mark.req("F.37")
@pytest.mark.req("B.4")
def test_a_reader_that_joins_late_leaves_and_returns(stack: ExitStack, shm: Path) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server, directory=shm, replay_bytes=1 << 20))
    feed.retain("news")

    def publish(*keys: str) -> None:
        for key in keys:
            feed.publish("news", b"", [key.encode()], key=key, timeout=SOON)

    def keys_of(reader: FeedReader, count: int) -> list[str]:
        keys: list[str] = []
        while len(keys) < count:
            assert reader.wait(SOON), keys
            for entry in reader.receive():
                if isinstance(entry, Item):
                    keys.append(entry.key)
                    entry.ack("displayed")
                    entry.lease.release()
        return keys

    publish("a", "b")
    client = stack.enter_context(ZMQClient(server.endpoint))
    client.connect(SOON)
    with FeedReader(client, directory=shm, name="late") as late:
        late.subscribe("news")
        assert late.wait_subscribed("news", SOON)
        assert keys_of(late, 1) == ["b"]  # the last value, for who comes late
        publish("c", "d")
        assert keys_of(late, 2) == ["c", "d"]
        late.unsubscribe("news")
        gone = threading.Event()
        feed.on_unsubscribed(lambda _subscription: gone.set())
        if feed.subscribers("news"):
            assert gone.wait(SOON)
        publish("e", "f")
        late.subscribe("news")
        assert late.wait_subscribed("news", SOON)
        publish("g")
        returned = keys_of(late, 2)
        assert returned[-1] == "g"
        assert returned[0] in {"e", "f"}
    assert feed.subscribers("news") == () or gone.wait(SOON)


@pytest.mark.req("F.16")
def test_one_process_has_several_services_of_each_kind_and_one_lost_harms_no_other(
    stack: ExitStack, shm: Path
) -> None:
    servers = [stack.enter_context(serve_in_thread({"who": who(n)})) for n in range(3)]
    links = [through(stack, server) for server in servers]
    publishers = []
    for server, (_, client, _) in zip(servers, links, strict=True):
        stack.enter_context(Subscriber(server, directory=shm))
        publishers.append(stack.enter_context(Publisher(client, "images", directory=shm)))
    for publisher in publishers:
        publisher.publish(b"h", [b"one"], key="one", timeout=SOON)
    links[1][0].cut()
    links[1][2].wait_for("lost", 1)
    for number in (0, 2):
        assert links[number][1].control.request("who", timeout=SOON) == {"n": number}
        publishers[number].publish(b"h", [b"two"], key="two", timeout=SOON)
        assert links[number][2].lost == 0


def who(number: int) -> Callable[..., dict[str, int]]:
    return lambda *_: {"n": number}


@pytest.mark.req("002.22")
def test_each_failure_of_a_link_names_the_peer(stack: ExitStack, shm: Path) -> None:
    server = stack.enter_context(serve_in_thread())
    stack.enter_context(Subscriber(server, directory=shm))
    proxy, client, watch = through(stack, server)
    publisher = stack.enter_context(Publisher(client, "images", directory=shm))
    assert publisher.wait_attached(SOON)
    proxy.cut()
    watch.wait_for("lost", 1)
    name = f"{proxy.endpoint.host}:{proxy.endpoint.port}"
    with pytest.raises(ControlTimeout, match=name):
        client.control.request("ping", timeout=0.05)
    with pytest.raises(NotAttachedError, match=name):
        publisher.publish(b"h", [b"x"], key="k", timeout=0.05)
    assert name in publisher.state.detail
    (gap,) = publisher.gaps or (None,)
    assert gap is None or isinstance(gap, Gap)


@pytest.mark.req("002.18")
@pytest.mark.req("F.35")
@pytest.mark.req("G.5")
def test_an_encrypted_stream_over_a_slow_link_shows_the_newest_and_lags_by_little(
    stack: ExitStack, tmp_path: Path
) -> None:
    """Thirty times what the link carries is offered; what is shown is among the last offered."""
    keys = KeyFolder(tmp_path / "keys")
    pair = KeyPair.make("viewer")
    keys.authorize(pair.public, name="viewer", role="operator")
    server = ZMQServer("camera", free_endpoint(), bind_address="127.0.0.1", keys=keys)
    stack.enter_context(server)
    feed = stack.enter_context(Feed(server))
    proxy = stack.enter_context(proxy_endpoint(server.endpoint, buffer_bytes=16 << 10))
    client = stack.enter_context(
        ZMQClient(proxy.endpoint, keys=ClientKeys(pair, keys.server_pair().public))
    )
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, use_shared_memory=False))
    reader.subscribe("frames", "latest", credit=Credit(messages=2, nbytes=1 << 20))
    assert reader.wait_subscribed("frames", SOON)
    frame = bytes(40_000)
    proxy.data.limit(len(frame) * 10)
    offered = encoded = 0
    shown: list[int] = []
    behind: list[int] = []

    def encode() -> tuple[bytes, list[bytes]]:
        nonlocal encoded
        encoded += 1
        return b"", [frame]

    pause = threading.Event()
    while len(shown) < 20:
        offered += 1
        feed.offer("frames", encode, key=str(offered))
        pause.wait(1 / 300)
        for entry in reader.receive():
            if isinstance(entry, Item):
                shown.append(int(entry.key))
                behind.append(offered - shown[-1])
                entry.lease.release()
    assert shown == sorted(shown)
    assert encoded < offered / 4  # what would be dropped is not encoded
    # two are under way and one waits: no more than four times what one takes, at any time
    assert max(behind[5:]) <= 4 * offered / len(shown) + 4
    assert min(behind[-5:]) <= 2 * max(behind[5:10]) + 4  # and it does not grow
