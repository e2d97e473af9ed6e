from __future__ import annotations

import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from zmqruntime import IOThread, LoopStoppedError

SOON = 15.0  # seconds; far more than any of this takes


def test_work_runs_on_the_loop_and_gives_its_result() -> None:
    with IOThread("loop") as loop:
        assert loop.submit(lambda: threading.current_thread().name).result(SOON) == "loop"
        assert loop.submit(lambda: loop.on_loop).result(SOON)
    assert not loop.on_loop


def test_an_exception_belongs_to_whoever_waits() -> None:
    with IOThread("loop") as loop:
        future = loop.submit(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            future.result(SOON)
        assert loop.submit(int).result(SOON) == 0


def test_a_failing_callback_is_logged_with_its_traceback_and_counted_and_the_loop_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR), IOThread("loop") as loop:
        loop.call_soon(lambda: 1 // 0)
        loop.call_later(0.0, lambda: 1 // 0)
        done = threading.Event()
        loop.call_later(0.001, done.set)
        assert done.wait(SOON)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert loop.failed_callbacks == 2


def test_an_idle_loop_does_not_wake() -> None:
    with IOThread("loop") as loop:
        loop.call_later(3600.0, int)
        loop.submit(int).result(SOON)
        before = loop.submit(lambda: loop.wakeups).result(SOON)
        threading.Event().wait(0.3)  # nothing can be waited for: nothing is to happen
        assert loop.submit(lambda: loop.wakeups).result(SOON) - before <= 1


def test_calls_come_in_the_order_of_their_times() -> None:
    seen: list[str] = []
    done = threading.Event()
    with IOThread("loop") as loop:

        def plan() -> None:
            loop.call_later(0.02, done.set)
            loop.call_later(0.01, lambda: seen.append("second"))
            loop.call_later(0.0, lambda: seen.append("first"))
            loop.call_later(0.005, lambda: seen.append("never")).cancel()

        loop.submit(plan).result(SOON)
        assert done.wait(SOON)
    assert seen == ["first", "second"]


def test_an_earlier_call_overtakes_a_wait_that_has_begun() -> None:
    done = threading.Event()
    with IOThread("loop") as loop:
        loop.call_later(3600.0, int)
        loop.submit(int).result(SOON)
        handle = loop.call_later(0.001, done.set)
        assert done.wait(SOON)
        handle.cancel()
        assert handle.cancelled


def test_a_descriptor_is_watched_until_it_is_unregistered() -> None:
    receive, send = os.pipe()
    seen: list[bytes] = []
    arrived = threading.Event()

    def on_readable() -> None:
        seen.append(os.read(receive, 1))
        if seen == [b"a", b"b"]:
            loop.unregister(receive)
            loop.unregister(receive)
            arrived.set()

    with IOThread("loop") as loop:
        loop.submit(loop.register, receive, on_readable).result(SOON)
        os.write(send, b"abc")
        assert arrived.wait(SOON)
        loop.submit(int).result(SOON)
    assert seen == [b"a", b"b"]
    os.close(receive)
    os.close(send)


def test_sockets_are_used_on_the_loop_only() -> None:
    with IOThread("loop") as loop, pytest.raises(RuntimeError, match="use submit"):
        loop.register(0, int)


def test_work_handed_over_on_the_loop_is_done_at_once() -> None:
    with IOThread("loop") as loop:
        assert loop.submit(lambda: loop.submit(lambda: 7).done()).result(SOON)


def test_stopping_twice_is_harmless_and_work_before_it_is_done() -> None:
    seen: list[int] = []
    loop = IOThread("loop")
    loop.start()
    loop.start()
    for number in range(100):
        loop.call_soon(seen.append, number)
    loop.stop()
    loop.stop()
    assert seen == list(range(100))
    assert not loop.running
    with pytest.raises(LoopStoppedError):
        loop.submit(int)
    with pytest.raises(LoopStoppedError):
        loop.call_later(0.0, int)
    with pytest.raises(LoopStoppedError):
        loop.start()


def test_a_loop_that_never_started_can_be_stopped() -> None:
    loop = IOThread("loop")
    loop.stop()
    loop.stop()
    assert loop.context.closed


def test_a_loop_can_stop_itself() -> None:
    loop = IOThread("loop")
    loop.start()
    loop.submit(loop.stop).result(SOON)
    loop.stop()
    assert loop.context.closed


def test_nothing_is_lost_between_many_threads() -> None:
    seen: list[int] = []
    with IOThread("loop") as loop:

        def burst() -> None:
            wait([loop.submit(seen.append, 1) for _ in range(200)], SOON)

        threads = [threading.Thread(target=burst) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert loop.submit(lambda: len(seen)).result(SOON) == 1200


def test_those_who_hand_over_work_while_it_stops_are_told() -> None:
    loop = IOThread("loop")
    loop.start()
    refused = threading.Event()

    def insist() -> None:
        try:
            while True:
                loop.submit(int).result(SOON)
        except LoopStoppedError:
            refused.set()

    thread = threading.Thread(target=insist)
    thread.start()
    loop.submit(int).result(SOON)
    loop.stop()
    thread.join(SOON)
    assert refused.is_set()


def test_work_is_done_on_the_calling_thread_when_the_loop_sleeps_and_else_on_the_loop() -> None:
    names: list[str] = []

    def note() -> None:
        names.append(threading.current_thread().name)

    with IOThread("loop") as loop, ThreadPoolExecutor(1, "helper") as helper:
        while not names or names[-1] == "loop":  # until the loop was caught asleep
            loop.submit(int).result(SOON)
            helper.submit(loop.call_here, note).result(SOON)
            loop.submit(int).result(SOON)
        assert names[-1].startswith("helper")
        begun, go_on = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            go_on.wait(SOON)

        loop.call_soon(block)
        assert begun.wait(SOON)
        helper.submit(loop.call_here, note).result(SOON)
        go_on.set()
        loop.submit(int).result(SOON)
    assert names[-1] == "loop"


def test_what_ctrl_c_could_break_off_is_left_to_the_loop() -> None:
    names: list[str] = []
    with IOThread("loop") as loop:
        for _ in range(20):
            loop.submit(int).result(SOON)
            loop.call_here(lambda: names.append(threading.current_thread().name))
        loop.submit(int).result(SOON)
    assert names == ["loop"] * 20


def test_a_callback_that_exits_does_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), IOThread("loop") as loop:
        loop.call_soon(sys.exit, "a callback gives up")
        assert loop.submit(int).result(SOON) == 0
    assert "failed" in caplog.text
    assert loop.failed_callbacks == 1


def test_a_later_thread_with_the_number_of_a_stopped_loop_is_not_on_it() -> None:
    loop = IOThread("loop")
    loop.start()
    number = loop.submit(threading.get_ident).result(SOON)
    loop.stop()
    seen: list[tuple[int, bool]] = []

    def look() -> None:
        seen.append((threading.get_ident(), loop.on_loop))

    for _ in range(20):  # the system uses the number again at once, as a rule
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert not any(on_loop for _, on_loop in seen), number
