"""``hatch run bench:peers``: the same work through other libraries, in one table with ours.

A small message there and back, and an image of 2048 x 2048 uint16 to another process with an
answer. They run in turn on loopback, each as its documentation shows it. Each is imported in the
function that uses it, because some take seconds, and every child would.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import zmq
from _rows import Row, print_rows
from transport_process import Child, answer

from zmqruntime import Endpoint, Item, Publisher, Subscriber, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Road = tuple[Callable[[], object], Callable[[int], object]]

__all__ = ["rows"]

BODY = {"well": "C07", "field": 12, "text": "x" * 64}
IMAGE = np.random.default_rng(4).integers(0, 1 << 16, (2048, 2048), dtype=np.uint16)
PATIENCE_S = 30.0
ECHOES = 200
MOST_IMAGES = 50
SPAN_S = 0.3


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return two rows per library; medians of `repeats`."""
    makers = {
        "bare pyzmq": bare,
        "zmqruntime": ours,
        "Pyro5 (msgpack)": pyro,
        "RPyC": rpyc_road,
        "imagezmq": imagezmq_road,
        "dask comms": dask_comms,
    }
    with ExitStack() as stack:
        roads = {name: stack.enter_context(make()) for name, make in makers.items()}
        echoes: dict[str, list[float]] = {name: [] for name in roads}
        images: dict[str, list[float]] = {name: [] for name in roads}
        counts = {name: _images_in(send, SPAN_S) for name, (_, send) in roads.items()}
        for repeat in range(repeats + 1):
            for name, (echo, send) in roads.items():
                taken = []
                for _ in range(ECHOES):
                    start = time.perf_counter()
                    echo()
                    taken.append(time.perf_counter() - start)
                start = time.perf_counter()
                send(counts[name])
                span = time.perf_counter() - start
                if repeat:
                    echoes[name].append(statistics.median(taken) * 1e6)
                    images[name].append(counts[name] / span)
    return [
        *_table("small message there and back", "us", echoes),
        *_table("2048 x 2048 uint16 to another process", "images/s", images),
    ]


def _images_in(send: Callable[[int], object], seconds: float) -> int:
    """Say how many images fit into a time, from the second one: the first warms up."""
    send(1)
    start = time.perf_counter()
    send(1)
    return max(1, min(MOST_IMAGES, int(seconds / (time.perf_counter() - start))))


def _table(what: str, unit: str, taken: dict[str, list[float]]) -> list[Row]:
    limit = statistics.median(taken["bare pyzmq"])
    return [
        Row(
            row=f"{what}: {name}",
            value=statistics.median(values),
            unit=unit,
            limit=limit,
            ratio=statistics.median(values) / limit,
            target="none; shown for comparison",
            met=True,
        )
        for name, values in taken.items()
    ]


# Each road: one echo, and so many images.


@contextmanager
def bare() -> Iterator[Road]:
    with (
        Child(__file__, "bare") as child,
        zmq.Context() as context,
        context.socket(zmq.REQ) as socket,
    ):
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        socket.connect(child.said)

        def ask(payload: bytes | memoryview) -> bytes:
            socket.send(payload, copy=False)
            return socket.recv()

        def send(count: int) -> None:
            for _ in range(count):
                ask(IMAGE.data.cast("B"))

        yield partial(ask, b"x" * 100), send


@contextmanager
def ours() -> Iterator[Road]:
    with (
        Child(__file__, "ours") as child,
        ZMQClient(Endpoint(port=int(child.said)), app="bench") as client,
    ):
        client.connect(PATIENCE_S)
        with Publisher(client, "images") as publisher:

            def send(count: int) -> None:
                for number in range(count):
                    publisher.publish(b"", [IMAGE.data], key=str(number), timeout=PATIENCE_S)
                left = publisher.flush(PATIENCE_S)
                assert not left, left

            yield partial(client.control.request, "echo", BODY), send


@contextmanager
def pyro() -> Iterator[Road]:
    import Pyro5
    import Pyro5.api

    Pyro5.config.SERIALIZER = "msgpack"
    with Child(__file__, "pyro") as child, Pyro5.api.Proxy(child.said) as proxy:

        def send(count: int) -> None:
            for _ in range(count):
                proxy.take(IMAGE.tobytes())

        yield partial(proxy.echo, BODY), send


@contextmanager
def rpyc_road() -> Iterator[Road]:
    import rpyc

    with Child(__file__, "rpyc") as child:
        connection = rpyc.connect("127.0.0.1", int(child.said))
        try:

            def send(count: int) -> None:
                for _ in range(count):
                    connection.root.take(IMAGE.tobytes())

            yield partial(connection.root.echo, str(BODY)), send
        finally:
            connection.close()


@contextmanager
def imagezmq_road() -> Iterator[Road]:
    import imagezmq

    with Child(__file__, "imagezmq") as child:
        sender = imagezmq.ImageSender(connect_to=child.said)
        pixel = np.zeros((1, 1), dtype=np.uint16)
        try:

            def send(count: int) -> None:
                for _ in range(count):
                    sender.send_image("image", IMAGE)

            yield partial(sender.send_image, str(BODY), pixel), send
        finally:
            sender.close()


@contextmanager
def dask_comms() -> Iterator[Road]:
    from distributed.comm import connect
    from distributed.protocol import to_serialize

    loop = asyncio.new_event_loop()
    with Child(__file__, "dask") as child:
        # as a program that waits on its own loop
        comm = loop.run_until_complete(connect(child.said))

        async def ask(message: object) -> object:
            await comm.write(message)
            return await comm.read()

        async def send(count: int) -> None:
            for _ in range(count):
                await ask({"image": to_serialize(IMAGE)})

        try:
            yield (
                lambda: loop.run_until_complete(ask(BODY)),
                lambda count: loop.run_until_complete(send(count)),
            )
        finally:
            comm.abort()
            loop.run_until_complete(asyncio.sleep(0))  # lets it end
            loop.close()


# What the children do; each ends with its parent.


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def serve_bare() -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind("tcp://127.0.0.1:*")
        answer(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        while True:
            message = socket.recv(copy=False)
            socket.send(message.bytes if len(message) < 4096 else b"")


def serve_ours() -> None:
    with (
        ZMQServer("bench", free_endpoint(), bind_address="127.0.0.1") as server,
        Subscriber(server) as subscriber,
    ):
        server.control.handle("echo", lambda request, _peer: request.body, on_loop=True)
        answer(server.endpoint.port)
        while subscriber.wait():
            for entry in subscriber.receive():
                assert isinstance(entry, Item), entry
                entry.lease.copy()


def serve_pyro() -> None:
    import Pyro5.api

    class Target:
        def echo(self, body: object) -> object:
            return body

        def take(self, image: bytes) -> int:
            return len(image)

    with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
        answer(daemon.register(Pyro5.api.expose(Target)))
        daemon.requestLoop()


def serve_rpyc() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Target(rpyc.Service):  # type: ignore[misc]  # rpyc has no types
        def exposed_echo(self, body: str) -> str:
            return body

        def exposed_take(self, image: bytes) -> int:
            return len(image)

    server = ThreadedServer(Target, hostname="127.0.0.1", port=0)
    answer(server.port)
    server.start()


def serve_imagezmq() -> None:
    import imagezmq

    url = f"tcp://127.0.0.1:{free_endpoint().port}"
    hub = imagezmq.ImageHub(open_port=url)
    answer(url)
    while True:
        hub.recv_image()
        hub.send_reply(b"OK")


def serve_dask() -> None:
    from distributed.comm import listen

    async def handle(comm: object) -> None:
        while True:
            message = await comm.read()  # type: ignore[attr-defined]
            await comm.write("OK" if "image" in message else message)  # type: ignore[attr-defined]

    async def serve() -> None:
        async with listen("tcp://127.0.0.1", handle, deserialize=True) as listener:
            answer(listener.contact_address)
            await asyncio.Event().wait()

    asyncio.run(serve())


CHILDREN = {
    "bare": serve_bare,
    "ours": serve_ours,
    "pyro": serve_pyro,
    "rpyc": serve_rpyc,
    "imagezmq": serve_imagezmq,
    "dask": serve_dask,
}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zr-bench-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        found = rows(arguments.repeats)
    if not arguments.json:
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    return print_rows(found, as_json=arguments.json)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in CHILDREN:
        threading.Thread(target=end_with_parent, daemon=True).start()
        CHILDREN[sys.argv[1]]()
    else:
        sys.exit(main())
