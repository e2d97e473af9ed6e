"""What ``openhcs plan`` says, made by a server for somebody elsewhere, in a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading

__all__ = ["main"]

_NICE = 5
"""Runs go on meanwhile, and are what the server is for."""
_LEAST_BYTES = 4 << 30
"""What reading a large plate takes, however little its runs may hold."""


def main() -> int:
    """Read what is to be planned, and write what the command says of it.

    Returns
    -------
    int
        0 where something is said, also of what cannot run.
    """
    import msgspec

    from openhcs.cli._main import carried_out, make_parser
    from openhcs.server import PlanAnswer, PlanTask, ServerSettings, as_submitted, ordered_request

    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=PlanTask)
    threading.Thread(target=_end_with_server, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    os.environ["COLUMNS"] = str(task.width)
    settings = ServerSettings.from_environment()
    _bound_memory(settings.memory_bytes)
    words = ["plan", "--request", ".", "--out", task.order.out]
    words += ["--workers", str(settings.workers), *(["--json"] if task.as_json else [])]
    if settings.memory_bytes is not None:
        words += ["--memory", str(settings.memory_bytes)]
    arguments = make_parser().parse_args(words)
    arguments.request = lambda: ordered_request(task.order, settings)
    told, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
        status = carried_out(arguments)
    said, problem = (as_submitted(text.getvalue(), settings) for text in (told, wrong))
    answer = PlanAnswer(status=status, told=said, wrong=problem)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))
    return 0


def _end_with_server() -> None:
    """End when the server does, which holds the other end of the pipe."""
    while os.read(sys.stdin.fileno(), 1):  # not of its buffer, whose lock would outlive us
        pass
    os._exit(1)


def _bound_memory(memory_bytes: int | None) -> None:
    """Hold no more than a run may, and not less than reading a plate takes."""
    try:
        import resource
    except ImportError:  # Windows
        return
    from openhcs.execution import available_bytes

    most = max(_LEAST_BYTES, memory_bytes or available_bytes())
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    sys.exit(main())
