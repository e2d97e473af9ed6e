from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import DescriptorError, Feed
from zmqruntime.router import RouterClient, RouterServer, _receiver
from zmqruntime.router._messages import MOST_HOPS, StreamHeader, Timestamp
from zmqruntime.router._receiver import read_header
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from zmqruntime import Item
    from zmqruntime.router._errors import Raised

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOON = 10.0


def header(*, v: int = 1, path: tuple[str, ...] = (), raised: Raised | None = None) -> bytes:
    return msgspec.msgpack.encode(
        StreamHeader(v=v, wall_ns=1, mono_ns=2, server="s", path=path, raised=raised)
    )


def test_a_header_says_when_and_by_whose_clock() -> None:
    assert read_header(header()).timestamp == Timestamp(1, 2, "s")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81\xa1v\x01",
        b"\x81\xa6server\xa1\xff",
        b"\x91" * 10_000,
        header(v=2),
        header(path=("x",) * (MOST_HOPS + 1)),
    ],
)
def test_a_header_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(DescriptorError):
        read_header(data)


@PATIENT
@given(st.binary(max_size=64))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    with contextlib.suppress(DescriptorError):
        read_header(data)


def test_what_cannot_be_read_is_counted_and_the_next_data_come() -> None:
    with serve_in_thread() as service, Feed(service) as feed, RouterClient(service.endpoint) as end:
        end.configure_stream("s", "queue")
        assert end.wait_for_stream("s")
        good = msgspec.msgpack.encode({"value": 7})
        feed.publish("s", b"\x81\xa6server\xa1\xff", [good])
        feed.publish("s", header(), [b"\xc1"])
        feed.publish("s", header(), [good])
        with pytest.raises(DescriptorError):
            end.get_stream("s", block=True, timeout=SOON)
        assert end.get_stream("s", block=True, timeout=SOON) == (Timestamp(1, 2, "s"), 7)
        assert end.stream_counters("s")["unreadable"] == 1


def test_what_fails_while_it_is_taken_in_is_counted_and_gives_its_room_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    count = 30  # more than there is room for
    take_in = _receiver._take_in

    def failing(followed: Any, item: Item) -> None:
        if item.sequence <= count:
            raise MemoryError("no room for a copy")
        take_in(followed, item)

    monkeypatch.setattr(_receiver, "_take_in", failing)
    with serve_in_thread() as service, Feed(service) as feed, RouterClient(service.endpoint) as end:
        end.configure_stream("s", "queue")
        assert end.wait_for_stream("s")
        for number in range(count + 1):
            feed.publish("s", header(), [msgspec.msgpack.encode({"value": number})], timeout=SOON)
        assert end.get_stream("s", block=True, timeout=SOON)[1] == count
        assert end.stream_counters("s")["unreadable"] == count
    assert "no room for a copy" in caplog.text


def test_a_relay_passes_on_nothing_that_it_cannot_read() -> None:
    with (
        serve_in_thread() as service,
        Feed(service) as feed,
        RouterServer(free_endpoint()) as relay,
    ):
        relay.add_zmq_stream("s", service.endpoint)
        with RouterClient(relay.endpoint) as end:
            end.configure_stream("s", "queue")
            assert end.wait_for_stream("s")
            feed.retain("s")
            feed.publish("s", header(), [msgspec.msgpack.encode({"value": 7})])
            assert end.get_stream("s", block=True, timeout=SOON)[1] == 7
            feed.publish("s", b"\xc1")
            feed.publish("s", header(), [msgspec.msgpack.encode({"value": 8})])
            assert end.get_stream("s", block=True, timeout=SOON)[1] == 8
            assert relay.stream_counters("s")["refused"] == 1
