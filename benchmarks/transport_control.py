"""The control channel beside the least that pyzmq can do: a REQ socket that asks a REP socket.

Both carry the same bytes: ours are a request and its reply, the bare ones are echoed unread. They
run in turn, a hundred requests at a time, so that whatever else the computer does falls on both.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq
from _rows import Row
from transport_process import Child, answer

from zmqruntime import Endpoint, Reply, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Ask = Callable[[], object]
    Pairs = tuple[tuple[bytes, bytes], tuple[bytes, bytes]]  # public and secret: server, client

__all__ = ["rows"]

BODY = {"well": "C07", "field": 12, "text": "x" * 64}
TURN = 100  # requests of one road before the next has its turn
TURNS = 10  # per repetition
CLIENTS = 8
REQUESTS_EACH = 400
PATIENCE_S = 20.0


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of the control channel; medians of `repeats`."""
    return [
        *round_trips(repeats),
        *together(repeats),
        hello(repeats, keyed=False),
        hello(repeats, keyed=True),
        dead_peer(repeats),
        imports(repeats),
    ]


def round_trips(repeats: int) -> list[Row]:
    """One client that asks and waits."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zr-bench-")))
        context = stack.enter_context(zmq.Context())
        urls = {"tcp": "tcp://127.0.0.1:*", "ipc": f"ipc://{folder / 'bare.sock'}"}
        roads: dict[str, Ask] = {}
        for name, url in urls.items():
            bare = stack.enter_context(Child(__file__, "bare", url))
            roads[f"bare {name}"] = bare_client(stack, context, bare.said)
        coded = stack.enter_context(Child(__file__, "coded", urls["tcp"]))
        roads["bare tcp, written and read"] = coded_client(stack, context, coded.said)
        ours = {name: stack.enter_context(Child(__file__, "server", name)) for name in urls}
        for name, child in ours.items():
            client = our_client(stack, child.said, name)
            roads[name] = partial(client.control.request, "echo", BODY)
            roads[f"{name}, worker"] = partial(client.control.request, "work", BODY)
        taken = measure(roads, repeats)
    found = []
    for name in ours:
        found += compared(name, taken[name], taken[f"bare {name}"])
    middle = statistics.median(median for median, _ in taken["bare tcp"])
    for name, label in (
        ("bare tcp, written and read", "bare REQ/REP, tcp, both ends write and read the message"),
        ("tcp, worker", "control round trip, tcp, handler on a worker thread"),
    ):
        value = statistics.median(median for median, _ in taken[name])
        found.append(
            Row(
                row=label,
                value=value * 1e6,
                unit="us",
                limit=middle * 1e6,
                ratio=value / middle,
                target="none; shown for comparison",
                met=True,
            )
        )
    return found


def compared(
    name: str, ours: Sequence[tuple[float, float]], bare: Sequence[tuple[float, float]]
) -> list[Row]:
    """Make the rows of a median and of a 99th percentile."""
    found = []
    for index, (label, most) in enumerate((("median", 1.5), ("p99", 4.0))):
        value = statistics.median(pair[index] for pair in ours)
        limit = statistics.median(pair[index] for pair in bare)
        found.append(
            Row(
                row=f"control round trip, {name}, {label}",
                value=value * 1e6,
                unit="us",
                limit=limit * 1e6,
                ratio=value / limit,
                target=f"ratio <= {most}",
                met=value / limit <= most,
            )
        )
    return found


def measure(roads: dict[str, Ask], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Return the median and the 99th percentile in seconds of each road and repetition."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in roads}
    for repeat in range(repeats + 1):
        taken: dict[str, list[float]] = {name: [] for name in roads}
        for _ in range(TURNS):
            for name, ask in roads.items():
                ask()  # wakes what the other roads let sleep
                for _ in range(TURN):
                    start = time.perf_counter()
                    ask()
                    taken[name].append(time.perf_counter() - start)
        if repeat:  # the first one warms up
            for name, times in taken.items():
                times.sort()
                found[name].append((times[len(times) // 2], times[len(times) * 99 // 100]))
    return found


def together(repeats: int) -> list[Row]:
    """Eight clients, each a process, that ask as fast as they can."""
    with ExitStack() as stack:
        bare = stack.enter_context(Child(__file__, "bare", "tcp://127.0.0.1:*"))
        server = stack.enter_context(Child(__file__, "server", "tcp"))
        clients = [
            stack.enter_context(Child(__file__, "client", bare.said, server.said))
            for _ in range(CLIENTS)
        ]
        rates: dict[str, list[float]] = {"bare": [], "ours": []}
        for repeat in range(repeats + 1):
            for road, found in rates.items():
                for client in clients:
                    client.tell(road)
                spans = [tuple(map(float, client.listen().split())) for client in clients]
                span = max(end for _, end in spans) - min(start for start, _ in spans)
                if repeat:
                    found.append(CLIENTS * REQUESTS_EACH / span)
    limit, ours = (statistics.median(rates[road]) for road in ("bare", "ours"))
    return [
        Row(
            row=f"{CLIENTS} clients together",
            value=ours,
            unit="requests/s",
            limit=limit,
            ratio=ours / limit,
            target="ratio >= 0.6",
            met=ours / limit >= 0.6,
        )
    ]


def hello(repeats: int, *, keyed: bool) -> Row:
    """From nothing to a welcome, on a loop and a socket of its own each time.

    The limit is a bare socket, of a context of its own, that connects and has one word echoed.
    """
    taken: dict[str, list[float]] = {"bare": [], "ours": []}
    pairs = (zmq.curve_keypair(), zmq.curve_keypair()) if keyed else None
    with (
        tempfile.TemporaryDirectory(prefix="zr-bench-") as folder,
        Child(__file__, "server", "tcp", *([folder] if keyed else [])) as server,
        Child(__file__, "bare", "tcp://127.0.0.1:*", *_texts(pairs)) as bare,
    ):
        endpoint = Endpoint(port=int(server.said))
        for _ in range(10 * repeats):
            start = time.perf_counter()
            with ZMQClient(endpoint, app="bench") as client:
                client.connect(PATIENCE_S)
                taken["ours"].append(time.perf_counter() - start)
                assert (client.keys is not None) is keyed
            start = time.perf_counter()
            with ExitStack() as stack:
                context = stack.enter_context(zmq.Context())
                bare_client(stack, context, bare.said, pairs)()
                taken["bare"].append(time.perf_counter() - start)
    value, limit = (statistics.median(taken[road]) * 1e3 for road in ("ours", "bare"))
    return Row(
        row=f"connect and hello, {'CURVE' if keyed else 'no keys'}, median",
        value=value,
        unit="ms",
        limit=limit,
        ratio=value / limit,
        target="< 5 ms",
        met=value < 5,
    )


def _texts(pairs: Pairs | None) -> list[str]:
    """Write the server's pair as words of a command."""
    return [] if pairs is None else [part.decode("ascii") for part in pairs[0]]


def dead_peer(repeats: int) -> Row:
    """From kill -9 of a server on this computer until its client is told."""
    taken = []
    for _ in range(repeats):
        server = Child(__file__, "server", "tcp")
        try:
            with ZMQClient(Endpoint(port=int(server.said)), app="bench") as client:
                client.connect(PATIENCE_S)
                lost = threading.Event()
                client.on_lost(partial(_tell, lost))
                start = time.perf_counter()
                os.kill(server.pid, signal.SIGKILL)
                assert lost.wait(PATIENCE_S)
                taken.append(time.perf_counter() - start)
        finally:
            server.close()
    value = statistics.median(taken) * 1e3
    return Row(
        row="dead peer noticed, one host",
        value=value,
        unit="ms",
        limit=None,
        ratio=None,
        target="< 200 ms",
        met=value < 200,
    )


def imports(repeats: int) -> Row:
    """Import in a fresh interpreter, beside ``import zmq`` alone."""
    taken: dict[str, list[float]] = {"zmq": [], "zmqruntime": []}
    for _, (module, times) in itertools.product(range(repeats), taken.items()):
        program = (
            "import time; start = time.perf_counter(); "
            f"import {module}; print(time.perf_counter() - start)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
        )
        times.append(float(done.stdout))
    limit, value = (statistics.median(times) * 1e3 for times in taken.values())
    return Row(
        row="import zmqruntime",
        value=value,
        unit="ms",
        limit=limit,
        ratio=value / limit,
        target="< 100 ms",
        met=value < 100,
    )


def _tell(event: threading.Event, _reason: str) -> None:
    event.set()


# The roads.


def bare_client(
    stack: ExitStack,
    context: zmq.Context[zmq.Socket[bytes]],
    url: str,
    pairs: Pairs | None = None,
) -> Ask:
    socket = stack.enter_context(context.socket(zmq.REQ))
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
    socket.setsockopt(zmq.LINGER, 0)
    if pairs is not None:
        (socket.curve_serverkey, _), (socket.curve_publickey, socket.curve_secretkey) = pairs
    socket.connect(url)
    message = msgspec.msgpack.encode({"v": 1, "type": "echo", "id": "0123abcd-1", "body": BODY})

    def ask() -> bytes:
        socket.send(message)
        return socket.recv()

    return ask


def coded_client(stack: ExitStack, context: zmq.Context[zmq.Socket[bytes]], url: str) -> Ask:
    socket = stack.enter_context(context.socket(zmq.REQ))
    socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(url)

    def ask() -> object:
        message = {"v": 1, "type": "echo", "id": "0123abcd-1", "body": BODY}
        socket.send(msgspec.msgpack.encode(message))
        return msgspec.msgpack.decode(socket.recv())

    return ask


def our_client(stack: ExitStack, port: str, transport: str = "tcp") -> ZMQClient:
    endpoint = Endpoint(port=int(port), transport=transport)
    client = stack.enter_context(ZMQClient(endpoint, app="bench"))
    client.connect(PATIENCE_S)
    return client


# What the children do.


def echo(url: str, *keys: str, coded: bool = False) -> None:
    """Echo until the parent is gone."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if keys:
            socket.curve_publickey, socket.curve_secretkey = (key.encode() for key in keys)
            socket.curve_server = True
        socket.bind(url)
        answer(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        threading.Thread(target=end_with_parent, daemon=True).start()
        while True:
            message = socket.recv()
            if coded:
                message = msgspec.msgpack.encode(msgspec.msgpack.decode(message))
            socket.send(message)


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def serve(transport: str, keys: str | None = None) -> None:
    """Serve until the parent is gone."""
    endpoint = Endpoint(port=free_endpoint().port, transport=transport)
    with ZMQServer("bench", endpoint, bind_address="127.0.0.1", keys=keys) as server:
        server.control.handle("echo", lambda request, _peer: Reply(request.body), on_loop=True)
        server.control.handle("work", lambda request, _peer: Reply(request.body))
        answer(server.endpoint.port)
        sys.stdin.read()


def ask_as_told(bare_url: str, port: str) -> None:
    """Ask as often as is wanted, and say when it began and ended."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        client = our_client(stack, port)
        roads: dict[str, Ask] = {
            "bare": bare_client(stack, context, bare_url),
            "ours": partial(client.control.request, "echo", BODY),
        }
        answer("ready")
        for line in sys.stdin:
            ask = roads[line.strip()]
            start = time.monotonic()
            for _ in range(REQUESTS_EACH):
                ask()
            answer(f"{start} {time.monotonic()}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", url, *keys]:
            echo(url, *keys)
        case ["coded", url]:
            echo(url, coded=True)
        case ["server", transport, *keys]:
            serve(transport, *keys)
        case ["client", url, port]:
            ask_as_told(url, port)
