"""A service for the tests: service_program.py APP PORT [BEHAVIOUR]."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from zmqruntime import Endpoint, ZMQServer


def what_a_child_sees() -> str:
    words = ["sh", "-c", "env; ls -l /proc/self/fd"]
    done = subprocess.run(words, close_fds=False, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    app, port = sys.argv[1], int(sys.argv[2])
    behaviour = sys.argv[3] if len(sys.argv) > 3 else ""
    if behaviour == "fail":
        sys.exit("the configuration names no colour")
    if behaviour == "mute":
        sys.stdout.write("warming up for ever\n")
        sys.stdout.flush()
        signal.pause()
    if behaviour == "babble":
        os.write(int(os.environ["ZMQRUNTIME_READY_FD"]), b"ready, I think\n")
        signal.pause()
    server = ZMQServer(app, Endpoint(port=port), bind_address="127.0.0.1")
    server.control.handle("pid", lambda *_: {"pid": os.getpid()})
    server.control.handle("hang", lambda *_: time.sleep(600))
    server.control.handle("child", lambda *_: {"seen": what_a_child_sees()})
    server.start(ready=False)
    if behaviour == "fork" and os.fork() == 0:
        signal.pause()
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.report_ready()
        while True:
            signal.pause()
    server.serve_until_signal()
    sys.stdout.write("ended in order\n")


if __name__ == "__main__":
    main()
