"""From process to process: a window, or any other program, works an instrument of another one.

``python process_to_process.py`` starts the instrument in a process of its own and calls it. When
the caller crashes, the instrument goes on.
"""

from __future__ import annotations

import subprocess
import sys

from zmqruntime import Endpoint
from zmqruntime.router import RouterClient, RouterServer, RPCException
from zmqruntime.testing import free_endpoint


class Stage:
    """A stage that moves between 0 and 100 mm."""

    def __init__(self) -> None:
        self.position = 0.0

    def move(self, to: float) -> float:
        """Move, and return where it is."""
        if not 0 <= to <= 100:
            raise ValueError(f"the stage cannot move to {to} mm: it ends at 0 and 100")
        self.position = to
        return self.position


def serve(endpoint: Endpoint) -> None:
    """Let others move the stage, one at a time, and read where it is."""
    server = RouterServer(endpoint, app="stage")
    server.expose("stage", Stage(), ["move", "position"], take_turns=True)
    server.add_named_call("home", "stage", "move", [0.0])
    server.serve_until_signal()


def call(endpoint: Endpoint) -> None:
    """Move the stage of the other process."""
    client = RouterClient(endpoint)
    client.connect(timeout=30)  # a process takes a moment to start
    with client:
        print("moved to", client.call("stage", "move", [12.5]))
        print("it is at", client.call("stage", "position"))
        try:
            client.call("stage", "move", [200])
        except RPCException as error:
            print("refused:", error.type_name, error.message)
        print("home again:", client.call_by_name("home"))


def main() -> None:
    """Be the instrument, or start one and call it."""
    if len(sys.argv) > 1:
        serve(Endpoint(port=int(sys.argv[1])))
        return
    endpoint = free_endpoint()
    with subprocess.Popen([sys.executable, __file__, str(endpoint.port)]) as process:
        try:
            call(endpoint)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
