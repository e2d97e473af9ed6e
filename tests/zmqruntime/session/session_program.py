"""A session server in a process of its own: port, journal; says ready, and ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path

from zmqruntime import Endpoint, ZMQServer
from zmqruntime.session import SessionServer
from zmqruntime.testing.conformance import ReferenceScene

if __name__ == "__main__":
    scene = ReferenceScene()
    server = ZMQServer("session-test", Endpoint(port=int(sys.argv[1])), bind_address="127.0.0.1")
    with server, SessionServer(server, scene.baseline, journal=Path(sys.argv[2])) as sessions:
        scene.gamma = sessions.value("layer", "layer-0", "gamma", 1.0)
        scene.add_to(sessions)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
