"""A cascade: a server that relays streams of another server, and of a plain PUB socket.

camera > laboratory > office: the office's clients know one address, its own. Who follows a stream
late gets its last value at once, and a stream that would go in a circle is refused.
"""

from __future__ import annotations

import zmq

from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.testing import free_endpoint


def main() -> None:
    """Run three servers, here in one process, and follow the last."""
    camera = RouterServer(free_endpoint(), app="camera")
    laboratory = RouterServer(free_endpoint(), app="laboratory")
    office = RouterServer(free_endpoint(), app="office")
    with camera, laboratory, office, zmq.Context() as context:
        thermometer = context.socket(zmq.XPUB)  # a program that knows nothing of all this
        port = thermometer.bind_to_random_port("tcp://127.0.0.1")

        send = camera.get_stream_fn("status")
        laboratory.add_zmq_stream("camera status", camera.endpoint, source="status")
        laboratory.add_zmq_stream("temperature", f"tcp://127.0.0.1:{port}")
        for name in ("camera status", "temperature"):
            office.add_zmq_stream(name, laboratory.endpoint)

        send({"shutter": "open"})
        thermometer.recv()  # somebody listens
        thermometer.send(b"21.5")
        with RouterClient(office.endpoint) as client:
            for name in ("camera status", "temperature"):
                client.configure_stream(name)
                at, value = client.get_stream(name, block=True, timeout=10)
                print(name, value, "by the clock of", _name(at.server_id, camera, laboratory))
        thermometer.close(linger=0)


def _name(server_id: str, *servers: RouterServer) -> str:
    return next(each.service.app for each in servers if each.service.server_id == server_id)


if __name__ == "__main__":
    main()
