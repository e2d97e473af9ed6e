"""Live video: a camera in one process, whoever watches in others.

In one terminal ``python live_video.py camera``, in another ``python live_video.py watch``; or
``python live_video.py`` for both at once. The camera is a synthetic one; for a real one, return
its frame from `frame`: whatever supports the buffer protocol, such as a numpy array, will do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from zmqruntime import Endpoint
from zmqruntime.router import RouterClient, RouterServer, StreamEmpty

WIDTH, HEIGHT = 640, 480


class Camera:
    """A bright bar that moves to the right over a grey picture."""

    def __init__(self) -> None:
        self.grey = 40
        self.taken = 0

    def frame(self) -> memoryview:
        """Return one picture, shape (HEIGHT, WIDTH), 8 bits."""
        row = bytearray([self.grey]) * WIDTH
        at = 8 * self.taken % (WIDTH - 16)
        row[at : at + 16] = b"\xff" * 16
        self.taken += 1
        return memoryview(bytes(row) * HEIGHT).cast("B", [HEIGHT, WIDTH])

    def set_grey(self, grey: int) -> None:
        """Change the background while the stream goes on."""
        self.grey = grey


def camera(endpoint: Endpoint) -> None:
    """Serve 30 pictures a second until this process is stopped."""
    camera = Camera()
    server = RouterServer(endpoint, app="camera")
    server.expose("camera", camera, ["set_grey", "frame"])
    server.add_stream("live_video", 30, "camera", "frame")
    server.serve_until_signal()


def watch(endpoint: Endpoint, frames: int) -> None:
    """Show where the bar is; a slow watcher sees fewer pictures, not older ones."""
    client = RouterClient(endpoint)
    client.connect(timeout=30)  # a process takes a moment to start
    with client:
        client.configure_stream("live_video", "cache")
        for number in range(frames):
            try:
                at, picture = client.get_stream("live_video", block=True, timeout=5)
            except StreamEmpty:
                print("no picture for 5 s: is the camera on?")
                continue
            bar = bytes(picture[0, column] for column in range(0, WIDTH, 8)).index(255)
            print(f"{at.wall_ns / 1e9:.3f} {' ' * (bar // 2)}#")
            if number == frames // 2:
                client.call("camera", "set_grey", [90])


def main() -> None:
    """Be the camera, watch it, or both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("camera", "watch"))
    parser.add_argument("--port", type=int, default=5560)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    endpoint = Endpoint(options.host, options.port)
    if options.part == "camera":
        camera(endpoint)
    elif options.part == "watch":
        watch(endpoint, options.frames)
    else:
        command = [sys.executable, __file__, "camera", "--port", str(options.port)]
        with subprocess.Popen(command) as process:
            try:
                watch(endpoint, options.frames)
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
