"""Ctrl-C at every moment at which it can come while a thread asks."""

from __future__ import annotations

import dis
import functools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import ControlClient, IOThread, LoopStoppedError, PeerLostError
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

SOON = 10.0  # seconds; far more than any of this takes
_MODULES = (
    "_asker.py",
    "_bell.py",
    "control/_client.py",
    "_frames.py",
    "_incoming.py",
    "_loop.py",
    "_socket_turn.py",
)


@functools.cache
def _moments(code: CodeType) -> frozenset[int]:
    """Offsets before which the interpreter handles signals: after a call, and on entry."""
    names = ("CALL", "RESUME", "JUMP_BACKWARD")
    found: set[int] = set()
    after = False
    for instruction in dis.get_instructions(code):
        if after:
            found.add(instruction.offset)
        after = instruction.opname.startswith(names)
    return frozenset(found)


def _interrupted(work: Callable[[], object], number: int) -> bool:
    """Do some work on a thread of its own with Ctrl-C at one moment; say if that moment came."""
    left = number
    came = False
    failures: list[Exception] = []

    def look(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left, came
        if not frame.f_code.co_filename.endswith(_MODULES) or came:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _moments(frame.f_code):
            if left == 0:
                came = True
                raise KeyboardInterrupt
            left -= 1
        return look

    def run() -> None:
        sys.settrace(look)
        try:
            work()
        except (KeyboardInterrupt, PeerLostError):
            pass
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive(), f"moment {number}: whoever asked hangs"
    assert not failures, (number, failures)
    return came


@pytest.mark.parametrize("first", range(4))
def test_ctrl_c_at_any_moment_leaves_a_client_usable(first: int) -> None:
    with serve_in_thread({"echo": lambda request, _peer: request.body}, insecure=True) as server:
        loop = IOThread("client")
        client = ControlClient(loop, server.endpoint.control_url)
        client.open()
        client.request("echo", timeout=SOON)

        def ask() -> None:
            client.request("echo", timeout=SOON)
            client.notify("echo")

        came = 0
        for number in range(first, 160, 4):
            came += _interrupted(ask, number)
            body = {"n": number}
            assert client.request("echo", body, timeout=SOON, idempotent=True) == body
        assert came > 10
        assert not client.counters["bad_frame"]
        assert loop.submit(lambda: len(client._asker)).result(SOON) <= 1
        client.close()
        loop.stop()


def test_whoever_asks_is_told_when_the_loop_is_stopped() -> None:
    here = threading.Event()
    go_on = threading.Event()

    def handler(*_: object) -> dict[str, Any]:
        here.set()
        go_on.wait(SOON)
        return {}

    with serve_in_thread({"hang": handler}, insecure=True) as server:
        loop = IOThread("client")
        client = ControlClient(loop, server.endpoint.control_url)
        client.open()
        told: list[BaseException] = []

        def ask() -> None:
            try:
                client.request("hang", timeout=60.0)
            except LoopStoppedError as error:
                told.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert here.wait(SOON)
        loop.stop()
        thread.join(SOON)
        go_on.set()
        assert not thread.is_alive()
        assert len(told) == 1


def test_a_client_may_be_closed_by_a_signal_handler_while_it_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve_in_thread({"echo": lambda *_: None}, insecure=True) as server:
        loop = IOThread("client")
        client = ControlClient(loop, server.endpoint.control_url)
        client.open()
        client.request("ping", timeout=SOON)

        def closed_during_the_wait(*_: object) -> None:
            client.close()  # as a handler of SIGTERM would

        told: list[Exception] = []

        def ask() -> None:
            try:
                while True:  # until the sockets are idle, so that it waits here
                    client.request("echo", timeout=60.0)
            except LoopStoppedError as error:
                told.append(error)

        monkeypatch.setattr(loop.turn, "wait", closed_during_the_wait)
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(SOON)
        assert not thread.is_alive()
        assert len(told) == 1
        loop.stop()
