"""Many to one: several clients of one server, each at its own pace.

One client keeps every value in a queue, another only the newest, and a third switches the stream
off for all of them.
"""

from __future__ import annotations

import itertools

from zmqruntime.router import RouterClient, RouterServer, StreamEmpty
from zmqruntime.testing import free_endpoint


def main() -> None:
    """Serve a counter at 100 Hz to three clients; here they share a process, as they need not."""
    server = RouterServer(free_endpoint(), app="counter")
    server.add_stream_from_callable("count", 100, itertools.count().__next__)
    with (
        server,
        RouterClient(server.endpoint) as logger,
        RouterClient(server.endpoint) as display,
        RouterClient(server.endpoint) as operator,
    ):
        logger.configure_stream("count", "queue")
        display.configure_stream("count", "cache")
        counts = [logger.get_stream("count", block=True, timeout=5)[1] for _ in range(20)]
        print("the logger has all of", counts[0], "to", counts[-1])
        _, newest = display.get_stream("count", block=True, timeout=5)
        print("the display has a newer one:", newest >= counts[0])
        operator.disable_stream("count")
        rest = 0
        try:
            while True:
                logger.get_stream("count", block=True, timeout=0.2)
                rest += 1
        except StreamEmpty:
            print("then silence; missing:", len(logger.take_gaps("count")))


if __name__ == "__main__":
    main()
