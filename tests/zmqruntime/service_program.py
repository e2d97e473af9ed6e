"""A service for the tests: service_program.py APP PORT [BEHAVIOUR]."""

from __future__ import annotations

import os
import signal
import sys
import time

from zmqruntime import Endpoint, ZMQServer


def main() -> None:
    app, port = sys.argv[1], int(sys.argv[2])
    behaviour = sys.argv[3] if len(sys.argv) > 3 else ""
    if behaviour == "fail":
        sys.exit("the configuration names no colour")
    if behaviour == "mute":
        print("warming up for ever", flush=True)
        signal.pause()
    if behaviour == "babble":
        os.write(int(os.environ["ZMQRUNTIME_READY_FD"]), b"ready, I think\n")
        signal.pause()
    server = ZMQServer(app, Endpoint(port=port))
    server.control.handle("pid", lambda request, peer: {"pid": os.getpid()})
    server.control.handle("hang", lambda request, peer: time.sleep(600))
    server.start()
    if behaviour == "fork" and os.fork() == 0:
        signal.pause()
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
    server.serve_until_signal()
    print("ended in order", flush=True)


if __name__ == "__main__":
    main()
