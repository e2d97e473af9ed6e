"""Functions that the jobs of the tests run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmqruntime.execution import JobContext


def noop(context: JobContext, payload: Any) -> Any:  # noqa: ARG001
    return {}


def echo(context: JobContext, payload: Any) -> Any:  # noqa: ARG001
    return {"payload": payload, "pid": os.getpid()}


def nothing(context: JobContext, payload: Any) -> None:
    """Return nothing."""


def fail(context: JobContext, payload: Any) -> Any:  # noqa: ARG001
    raise LookupError(f"no plate {payload}")


def odd(context: JobContext, payload: Any) -> Any:  # noqa: ARG001
    return {"thing": threading.Lock()}


def mark(context: JobContext, payload: Any) -> Any:
    """Write one line per run, so that the lines say how often it ran."""
    with Path(payload["path"]).open("ab", buffering=0) as file:
        file.write(f"{payload.get('name', context.id)} {context.attempt}\n".encode())
    if payload.get("seconds"):
        context.wait_cancelled(payload["seconds"])
    return {"name": payload.get("name")}


def obedient(context: JobContext, payload: Any) -> Any:
    """Run until asked to stop."""
    context.progress("", "waiting", None, "begun")
    if payload:
        Path(payload).write_text(str(os.getpid()), encoding="ascii")
    context.wait_cancelled()
    context.check()
    return "never"


def stubborn(context: JobContext, payload: Any) -> Any:
    """Run for ever, whatever anybody asks, and start a child that does too."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(payload).write_text(f"{os.getpid()} {child.pid}", encoding="ascii")
    context.progress("", "begun")
    while True:
        signal.pause()


def hold_interpreter(context: JobContext, payload: Any) -> Any:
    """Keep the interpreter lock, as a long call of compiled code may."""
    Path(payload).write_text(str(os.getpid()), encoding="ascii")
    context.progress("", "begun")
    time.sleep(0.1)
    sum(range(10**12))
    return 0


def die(context: JobContext, payload: Any) -> Any:
    """Die as a crash of compiled code would; the last attempt that is told survives."""
    if context.attempt < payload.get("until", 10**9):
        if "unit" in payload:
            context.report(payload["unit"], 1)
            context.progress(payload["unit"], "done", 1.0)
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"attempt": context.attempt}


def units(context: JobContext, payload: Any) -> Any:
    for unit in payload.get("good", ()):
        context.report(unit, {"cells": len(unit)})
    for unit in payload.get("bad", ()):
        context.report_failure(unit, ValueError(f"{unit} is out of focus"))
    return payload.get("value")


def storm(context: JobContext, payload: Any) -> Any:
    for number in range(payload):
        context.progress("plate", "measure", (number + 1) / payload, f"image {number + 1}")
    return {"reports": payload}


def chatty(context: JobContext, payload: Any) -> Any:
    for number in range(payload):
        print(f"line {number}")  # noqa: T201 - what is printed is the log
    context.log("the last line, with a Å")
    subprocess.run(["echo", "from a child"], check=True)
    return payload


def when_told(context: JobContext, payload: Any) -> Any:
    """Wait until a file is there; a FIFO, whose opening waits for the other side."""
    context.progress("", "begun")
    with Path(payload).open("rb") as file:
        return file.read().decode()
