"""Two libraries that do not know each other: payloads with keys over a narrow link."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polystore import Components, Payload, coding_of, decode
from polystore.backends import StreamingBackend
from polystore.codecs import Codec, choose, measure, standard_codecs
from zmqruntime import Credit, Deadline, Item, Publisher, Subscriber, ZMQClient, ZMQServer
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint, proxy_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from polystore.codecs import CodecChoice

SOON = 60.0  # seconds; far more than any of this takes
NARROW = 400_000  # bytes/s
KIB = 1 << 10


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.req("002.18", "001.14")
def test_planes_are_encoded_as_the_link_asks_for_and_come_bit_for_bit(
    stack: ExitStack, tmp_path: Path
) -> None:
    keys = KeyFolder(tmp_path / "keys")
    pair = KeyPair.make("producer")
    keys.authorize(pair.public, name="producer", role="operator")
    viewer = ZMQServer("viewer", free_endpoint(), bind_address="127.0.0.1", keys=keys)
    stack.enter_context(viewer)
    subscriber = stack.enter_context(Subscriber(viewer, credit=Credit(4, 4 << 20)))
    proxy = stack.enter_context(proxy_endpoint(viewer.endpoint, buffer_bytes=32 * KIB))
    client = stack.enter_context(
        ZMQClient(proxy.endpoint, keys=ClientKeys(pair, keys.server_pair().public))
    )
    client.connect(SOON)
    publisher = stack.enter_context(Publisher(client, "images", use_shared_memory=False))

    codecs = standard_codecs()
    y, x = np.mgrid[:256, :256]
    field = (400 + 300 * np.sin(x / 40) * np.cos(y / 30)).astype(np.uint16)
    plane = field + np.random.default_rng(0).poisson(4, field.shape).astype(np.uint16)
    speeds = measure(codecs, plane, time.perf_counter)
    choices: list[CodecChoice] = []

    def codec_for(payload: Payload) -> Codec:
        width = publisher.link.bytes_per_s
        choices.append(
            choose(
                speeds,
                link_bytes_per_s=math.inf if width is None else width,
                nbytes=payload.nbytes,
                before=choices[-1] if choices else None,
            )
        )
        return codecs.get(choices[-1].codec)

    def publish(header: bytes, buffers: Sequence[memoryview]) -> None:
        publisher.publish(header, buffers, key=str(len(came)), timeout=SOON)

    sink = StreamingBackend(publish, codec=codec_for)
    came: list[tuple[Payload, str]] = []

    def send_one() -> None:
        sink.save(Payload(data=plane + len(came), components=Components(t=len(came))))
        number = len(came)
        while len(came) == number:
            assert subscriber.wait(SOON)
            for entry in subscriber.receive(1):
                if isinstance(entry, Item):
                    with entry.lease as lease:
                        buffers = lease.copy()
                    coding = coding_of(entry.header)
                    came.append(
                        (
                            decode(entry.header, buffers, codecs=codecs),
                            "raw" if coding is None else coding.codec,
                        )
                    )

    send_one()
    assert came[0][1] == "raw"  # nothing is known of the link, and a fast one needs no codec
    proxy.data.limit(NARROW)
    deadline = Deadline(SOON)
    while came[-1][1] == "raw":
        assert not deadline.expired, choices[-1]
        send_one()
    assert choices[-1].predictions[0].transfer > choices[-1].predictions[0].encode
    for t, (payload, _) in enumerate(came):
        assert payload.components.t == t
        assert payload.array.dtype == np.uint16
        np.testing.assert_array_equal(payload.array, plane + t)
    assert publisher.link.bytes_per_s is not None
