"""The receiving end of the measures: measure_program.py receive PORT DATA_PORT | serve [KEYS]."""

from __future__ import annotations

import select
import sys
import threading
import time

import zmq

from zmqruntime import Credit, Endpoint, FeedReader, Item, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def receive(port: int, data_port: int) -> None:
    """Read ``inline`` and ``mapped`` as fast as they come, and bare chunks beside them."""
    endpoint = Endpoint(port=port, data_port_offset=data_port - port)
    room = Credit(4, 1 << 30)
    with (
        zmq.Context() as context,
        context.socket(zmq.PAIR) as bare,
        ZMQClient(endpoint, app="reader") as client,
        FeedReader(client, credit=room, use_shared_memory=False) as inline,
        FeedReader(client, credit=room) as mapped,
    ):
        client.connect(30)
        for reader, topic in ((inline, "inline"), (mapped, "mapped")):
            reader.subscribe(topic)
            assert reader.wait_subscribed(topic, 30)
        say(bare.bind_to_random_port("tcp://127.0.0.1"))
        threading.Thread(target=join_chunks, args=(bare,), daemon=True).start()
        threading.Thread(target=tell_cost, daemon=True).start()
        poller = select.poll()
        for reader in (inline, mapped):
            poller.register(reader.fileno(), select.POLLIN)
        while True:
            poller.poll()
            for reader in (inline, mapped):
                for entry in reader.receive():
                    assert isinstance(entry, Item), entry
                    for view in entry.lease.map():
                        assert view[0] == view[-1]
                        view.release()
                    entry.lease.release()


def tell_cost() -> None:
    """Say, for each line, how many seconds of a processor this process has used."""
    for _ in sys.stdin:
        say(time.process_time())


def join_chunks(socket: zmq.Socket[bytes]) -> None:
    """Join the chunks of each message into one block of memory, and acknowledge it."""
    whole = memoryview(bytearray(64 << 20))
    while True:
        position = 0
        for frame in socket.recv_multipart(copy=False):
            chunk = frame.buffer
            whole[position : position + chunk.nbytes] = chunk
            position += chunk.nbytes
        socket.send(b"")


def serve(keys: str | None) -> None:
    """Welcome whoever comes, and answer bare requests of whoever has the key beside it."""
    with (
        zmq.Context() as context,
        context.socket(zmq.REP) as bare,
        ZMQServer("host", free_endpoint(), bind_address="127.0.0.1", keys=keys) as server,
    ):
        public, secret = zmq.curve_keypair()
        bare.curve_server, bare.curve_secretkey, bare.curve_publickey = True, secret, public
        port = bare.bind_to_random_port("tcp://127.0.0.1")
        say(server.endpoint.port, port, public.decode())
        while True:
            bare.send(bare.recv())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receive", port, data_port]:
            receive(int(port), int(data_port))
        case ["serve", *keys]:
            serve(keys[0] if keys else None)
