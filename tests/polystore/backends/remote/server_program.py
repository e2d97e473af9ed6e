"""A server that speaks S3, on a free port of this computer, until its input ends."""

from __future__ import annotations

import os
import sys

from moto.server import ThreadedMotoServer


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    os.write(1, f"{port}\n".encode())
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
