"""The process that does tasks: JSON lines in, JSON lines out.

It reads a line for each task from its standard input and writes lines to what was its standard
output: ``step`` while it works, ``done`` at the end. Standard output itself is turned to standard
error, so that nothing that a library prints comes between. When its input ends, because the parent
closed it or died in any way, it ends too.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any

from openhcs.execution._perform import run_task
from openhcs.execution._task import CombineTask, SummaryTask, Task, WellTask
from openhcs.execution._turn import Stopped

__all__ = ["decode_task", "encode_task", "main"]

_KINDS: dict[str, type[WellTask] | type[SummaryTask] | type[CombineTask]] = {
    "combine": CombineTask,
    "summaries": SummaryTask,
    "well": WellTask,
}


def encode_task(task: Task) -> str:
    """Write a task as one line of JSON; its length does not depend on the plate's size."""
    match task:
        case WellTask():
            values: dict[str, Any] = {
                "kind": "well",
                "folder": task.folder,
                "well": task.well,
                "keys": dict(task.keys),
                "reused": list(task.reused),
                "prepared": dict(task.prepared),
                "run_id": task.run_id,
                "attempt": task.attempt,
            }
        case SummaryTask():
            values = {
                "kind": "summaries",
                "folder": task.folder,
                "step": task.step,
                "channel": task.channel,
                "planes": [list(place) for place in task.planes],
                "out": task.out,
                "run_id": task.run_id,
                "attempt": task.attempt,
            }
        case CombineTask():
            values = {
                "kind": "combine",
                "folder": task.folder,
                "step": task.step,
                "channel": task.channel,
                "summaries": task.summaries,
                "planes": task.planes,
                "shape": list(task.shape),
                "vendor": task.vendor,
                "vendor_dark": task.vendor_dark,
                "out": task.out,
                "run_id": task.run_id,
                "attempt": task.attempt,
            }
    return json.dumps(values, separators=(",", ":")) + "\n"


def decode_task(text: str) -> Task:
    """Read a task that `encode_task` wrote."""
    return _decode(json.loads(text))


def _decode(values: dict[str, Any]) -> Task:
    kind = _KINDS[values.pop("kind")]
    if kind is SummaryTask:
        values["planes"] = tuple(tuple(place) for place in values["planes"])
    elif kind is CombineTask:
        values["shape"] = tuple(values["shape"])
    else:
        values["reused"] = tuple(values["reused"])
    return kind(**values)


def main() -> None:
    """Do tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # line by line: what is still held back at the end would be lost
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin, tasks, stop), daemon=True).start()

    def answer(**values: Any) -> None:
        try:
            answers.write(json.dumps(values) + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody is there to work for

    def proceed() -> None:
        if stop.is_set():
            raise Stopped

    answer(kind="ready", pid=os.getpid())
    while True:
        task = _decode(tasks.get())
        record = run_task(
            task,
            proceed=proceed,
            finished=lambda step, seconds: answer(kind="step", step=step, seconds=seconds),
        )
        answer(kind="done", record=record)


def _listen(
    stream: IO[str], tasks: queue.SimpleQueue[dict[str, Any]], stop: threading.Event
) -> None:
    for line in stream:
        values = json.loads(line)
        if values.get("kind") == "stop":
            stop.set()
        else:
            stop.clear()  # it was for the task before
            tasks.put(values)
    # The work of a moment is lost; what is being written keeps its temporary name.
    os._exit(0)


if __name__ == "__main__":
    main()
