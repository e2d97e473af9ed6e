"""From host to host: each program has a key, and the server says what each key may do.

On the computer with the instrument, once::

    python host_to_host.py keys KEYS --host INSTRUMENT
    python host_to_host.py serve KEYS --bind '*'

where INSTRUMENT is the name under which the others reach it. Copy the folder ``KEYS/operator`` to
another computer, keep it private (``chmod -R go= operator``), and run there::

    python host_to_host.py call operator --host INSTRUMENT

``python host_to_host.py`` does all of it on one computer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from zmqruntime import Endpoint, ForbiddenError
from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.security import KeyFolder
from zmqruntime.testing import free_endpoint

ROLES = ("operator", "viewer")


class Lamp:
    """A lamp."""

    def __init__(self) -> None:
        self.on = False

    def switch(self, on: bool) -> bool:
        """Switch it, and return whether it is on."""
        self.on = on
        return self.on


def make_keys(folder: Path, host: str) -> None:
    """Make a pair for the server and one for each role, and let those in."""
    server = KeyFolder(folder)
    public = server.server_pair().public
    for role in ROLES:
        client = KeyFolder(folder / role)
        server.authorize(client.make(role).public, name=role, role=role)
        client.trust(host, public)


def serve(folder: Path, endpoint: Endpoint, bind: str) -> None:
    """Serve the lamp to whoever has a key."""
    server = RouterServer(endpoint, app="lamp", bind_address=bind, keys=folder)
    server.expose("lamp", Lamp(), ["switch", "on"])
    server.add_stream("lamp", 5, "lamp", "on")
    server.serve_until_signal()


def call(folder: Path, endpoint: Endpoint) -> None:
    """Try to switch the lamp, and look at it."""
    client = RouterClient(endpoint, keys=folder)
    client.connect(timeout=30)
    with client:
        client.configure_stream("lamp")
        try:
            print(folder.name, "switched it:", client.call("lamp", "switch", [True]))
        except ForbiddenError:
            print(folder.name, "may not switch it")
        seen = False
        while not seen:
            _, seen = client.get_stream("lamp", block=True, timeout=10)
        print(folder.name, "sees it:", seen)


def main() -> None:
    """Make keys, serve, call, or try all of it here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("keys", "serve", "call"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=5560)
    parser.add_argument("--bind", default="127.0.0.1")
    options = parser.parse_args()
    endpoint = Endpoint(options.host, options.port)
    if options.part == "keys":
        make_keys(options.folder, options.host)
    elif options.part == "serve":
        serve(options.folder, endpoint, options.bind)
    elif options.part == "call":
        call(options.folder, endpoint)
    else:
        try_all()


def try_all() -> None:
    """Do it on this computer, with a server in a process of its own."""
    endpoint = free_endpoint()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "keys"
        make_keys(folder, endpoint.host)
        command = [sys.executable, __file__, "serve", str(folder), "--port", str(endpoint.port)]
        with subprocess.Popen(command) as process:
            try:
                for role in ROLES:
                    call(folder / role, endpoint)
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
