"""The program of a worker process: it does one job after another, and dies with its server."""

from __future__ import annotations

import faulthandler
import fcntl
import functools
import importlib
import logging
import os
import queue
import select
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import FrameTooLargeError
from zmqruntime.execution._context import JobContext
from zmqruntime.execution._errors import JobStopped
from zmqruntime.execution._pipe import MOST_BYTES, MessageReader, framed
from zmqruntime.execution._worker_messages import Cancel, Exit, Outcome, Ready, Run, Setup, ToWorker

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMAND", "MARK", "main"]

MARK = "ZMQRUNTIME_EXECUTION"
"""Variable in the environment of workers, and of what they start, that names their server."""

COMMAND = "from zmqruntime.execution._worker import main; main()"
"""What the interpreter of a worker runs, with three descriptors as arguments."""

_MOST_TRACEBACK = 16 * 1024


def main() -> None:
    """Serve the process that started this one; arguments: commands, replies, leash."""
    commands, replies, leash = (int(word) for word in sys.argv[1:4])
    for descriptor in (commands, replies, leash):
        os.set_inheritable(descriptor, False)
    _hold_leash(leash)
    if MARK in os.environ:  # what this process starts says by whom, as long as it stays ours
        os.environ[MARK] += f":{os.getpid()}"
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    _Worker(commands, replies).run()


def _hold_leash(leash: int) -> None:
    """Let the kernel end this process and its children when the server's end is closed.

    The thread that reads the commands does the same, but cannot while a function keeps the
    interpreter to itself.
    """
    if hasattr(fcntl, "F_SETSIG") or sys.platform == "linux":
        set_signal = getattr(fcntl, "F_SETSIG", 10)
        fcntl.fcntl(leash, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(leash, set_signal, signal.SIGKILL)
        fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()
    poller.register(leash, select.POLLIN)
    if poller.poll(0):  # the server ended before the leash was tied
        _end_group()


def _end_group() -> None:
    if os.getpgid(0) == os.getpid():  # else the group is somebody else's
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


class _Worker:
    def __init__(self, commands: int, replies: int) -> None:
        self._commands = commands
        self._replies = replies
        self._writing = threading.Lock()
        self._jobs: queue.SimpleQueue[Setup | Run | None] = queue.SimpleQueue()
        self._state = threading.Lock()  # guards the next two
        self._current: JobContext | None = None
        self._stopped: set[tuple[str, int]] = set()
        self._functions: dict[str, str] = {}

    def run(self) -> None:
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        while (message := self._jobs.get()) is not None:
            if isinstance(message, Setup):
                self._set_up(message)
            else:
                self._do(message)
            del message  # its payload may be large

    def _listen(self) -> None:
        reader: MessageReader[ToWorker] = MessageReader(ToWorker)
        try:
            while data := os.read(self._commands, 1 << 18):
                for message in reader.feed(data):
                    self._obey(message)
        finally:
            _end_group()  # the server is gone

    def _obey(self, message: ToWorker) -> None:
        match message:
            case Setup() | Run():
                self._jobs.put(message)
            case Cancel(id=id_, attempt=attempt):
                with self._state:
                    current = self._current
                    if current is not None and (current.id, current.attempt) == (id_, attempt):
                        current.stop()
                    else:
                        self._stopped.add((id_, attempt))
            case Exit():
                self._jobs.put(None)

    def _set_up(self, setup: Setup) -> None:
        self._functions = setup.functions
        broken: dict[str, str] = {}
        for kind, name in setup.functions.items():
            try:
                _resolve(name)
            except Exception as error:  # noqa: BLE001 - the program's; told again when it is used
                broken[kind] = f"{type(error).__name__}: {error}"
        self._send(Ready(broken=broken))

    def _do(self, job: Run) -> None:
        context = JobContext(job.id, job.attempt, units=job.units, due=job.due, send=self._send)
        with self._state:
            self._current = context
            if (job.id, job.attempt) in self._stopped:
                context.stop()
            self._stopped.clear()
        how, message, text = "returned", "", ""
        result: bytes | None = None
        try:
            function = _resolve(self._functions[job.kind])
            value = function(context, msgspec.msgpack.decode(job.payload))
            if value is not None:
                result = msgspec.msgpack.encode(value)
            if len(result or b"") > MOST_BYTES - 64 * 1024:
                raise FrameTooLargeError(  # noqa: TRY301 - a failure of the function
                    "the result has more than 16 MiB: write it to a file and return its name"
                )
        except JobStopped:
            how = "stopped"
        except KeyboardInterrupt:
            how, message = "raised", "KeyboardInterrupt"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the function ends here
            how = "raised"
            message = f"{type(error).__name__}: {error}"[:1000]
            text = "".join(traceback.format_exception(error))[-_MOST_TRACEBACK:]
        n = context.finish()
        with self._state:
            self._current = None
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._send(
            Outcome(
                id=job.id,
                attempt=job.attempt,
                how=how,
                n=n,
                result=result,
                message=message,
                traceback=text,
            )
        )

    def _send(self, message: msgspec.Struct) -> None:
        data = memoryview(framed(message))
        with self._writing:
            try:
                while data:
                    data = data[os.write(self._replies, data) :]
            except BrokenPipeError:
                _end_group()


@functools.cache
def _resolve(name: str) -> Callable[[JobContext, Any], Any]:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{name} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]  # whatever the program installed
