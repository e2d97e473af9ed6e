"""An execution server for the tests: server_program.py PORT JOURNAL [SETTINGS as JSON]."""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path

from zmqruntime import Endpoint, ZMQServer
from zmqruntime.execution import ExecutionServer, History, Settings

KINDS = (
    "chatty", "die", "echo", "fail", "hold_interpreter", "mark", "noop", "nothing", "obedient",
    "odd", "storm", "stubborn", "units", "when_told",
)  # fmt: skip
FUNCTIONS = {kind: f"job_functions:{kind}" for kind in KINDS}


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    port, journal = int(sys.argv[1]), Path(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    if "file_bytes" in options:
        most = options.pop("file_bytes")
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    history = History(**options.pop("history", {}))
    server = ExecutionServer(
        ZMQServer("execution", Endpoint(port=port)),
        journal=journal,
        functions=FUNCTIONS,
        settings=Settings(**options),
        history=history,
    )
    server.serve_until_signal()


if __name__ == "__main__":
    main()
