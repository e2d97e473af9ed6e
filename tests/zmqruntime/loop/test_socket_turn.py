from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import zmq

from zmqruntime import IOThread, LoopStoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Pair = tuple[zmq.Socket[bytes], zmq.Socket[bytes]]

SOON = 15.0  # seconds; far more than any of this takes


@contextmanager
def pair(loop: IOThread, heard: list[bytes], told: threading.Event) -> Iterator[Pair]:
    """Give a socket that the loop reads, and its other end, which belongs to this thread."""

    def open_() -> zmq.Socket[bytes]:
        socket = loop.context.socket(zmq.PAIR)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        other.connect(f"tcp://127.0.0.1:{port}")

        def on_readable() -> None:
            heard.append(socket.recv(zmq.NOBLOCK))
            told.set()

        loop.register(socket, on_readable)
        return socket

    with zmq.Context() as context, context.socket(zmq.PAIR) as other:
        other.setsockopt(zmq.LINGER, 0)
        yield loop.submit(open_).result(SOON), other


def borrow(loop: IOThread) -> None:
    """Borrow the sockets as soon as the loop sleeps."""
    loop.submit(int).result(SOON)
    while not loop.turn.borrow():
        loop.submit(int).result(SOON)


def test_one_thread_at_a_time_has_the_sockets() -> None:
    with IOThread("loop") as loop:
        borrow(loop)
        assert loop.on_loop
        others: list[bool] = []
        thread = threading.Thread(target=lambda: others.extend((loop.turn.borrow(), loop.on_loop)))
        thread.start()
        thread.join(SOON)
        assert others == [False, False]
        loop.turn.give_back()
        assert not loop.on_loop
        assert loop.submit(lambda: threading.current_thread().name).result(SOON) == "loop"


def test_a_borrower_is_told_when_the_loop_has_something_else_to_do() -> None:
    with IOThread("loop") as loop, pair(loop, [], threading.Event()) as (socket, _):
        borrow(loop)
        helper = ThreadPoolExecutor(1)
        future = helper.submit(lambda: loop.submit(lambda: 7).result(SOON))
        assert loop.turn.wait(socket, SOON) is None
        loop.turn.give_back()
        assert future.result(SOON) == 7
        helper.shutdown()


def test_what_is_due_is_not_delayed_by_a_borrower() -> None:
    done = threading.Event()
    with IOThread("loop") as loop, pair(loop, [], threading.Event()) as (socket, _):
        loop.submit(int).result(SOON)
        loop.call_later(0.05, done.set)
        borrow(loop)
        assert loop.turn.wait(socket, 60.0) is None
        loop.turn.give_back()
        assert done.wait(SOON)


def test_what_a_borrower_plans_happens_after_it_gave_back() -> None:
    done = threading.Event()
    with IOThread("loop") as loop:
        borrow(loop)
        loop.call_later(0.001, done.set)
        loop.turn.give_back()
        assert done.wait(SOON)


def test_a_message_that_a_borrower_leaves_unread_is_heard_by_the_loop() -> None:
    heard: list[bytes] = []
    told = threading.Event()
    with IOThread("loop") as loop, pair(loop, heard, told) as (socket, other):
        borrow(loop)
        while loop.turn.wait(socket, 0.0) is None:  # the loop may still be told of what came before
            loop.turn.give_back()
            borrow(loop)
        other.send(b"first")
        other.send(b"second")
        assert socket.poll(int(SOON * 1000))
        assert socket.recv() == b"first"
        socket.poll(int(SOON * 1000))  # takes the news of the second one from the descriptor
        loop.turn.give_back()
        assert told.wait(SOON)
    assert heard == [b"second"]


def test_messages_are_heard_before_and_while_and_after_somebody_borrows() -> None:
    heard: list[bytes] = []
    told = threading.Event()
    with IOThread("loop") as loop, pair(loop, heard, told) as (_, other):
        for number in range(600):  # more than the loop lends after it was asked once
            if number == 10:
                borrow(loop)
                loop.turn.give_back()
            other.send(b"%d" % number)
            assert told.wait(SOON)
            told.clear()
    assert heard == [b"%d" % number for number in range(600)]


def test_a_borrower_waits_no_longer_than_it_wants() -> None:
    with IOThread("loop") as loop, pair(loop, [], threading.Event()) as (socket, _):
        over = None
        while over is None:  # the loop may still be told of what came before
            borrow(loop)
            over = loop.turn.wait(socket, 0.01)
            loop.turn.give_back()
        assert over is False


def test_nobody_borrows_before_the_loop_runs_or_after_it_has_ended() -> None:
    loop = IOThread("loop")
    assert not loop.turn.borrow()
    loop.turn.give_back()
    with loop:
        borrow(loop)
        loop.turn.give_back()
    assert not loop.turn.borrow()
    loop.turn.give_back()
    assert not loop.on_loop


def test_work_that_waits_for_the_loop_comes_before_whoever_wants_to_borrow() -> None:
    order: list[str] = []
    with IOThread("loop") as loop:
        borrow(loop)
        loop.call_soon(order.append, "handed over")
        loop.turn.give_back()
        borrow(loop)
        order.append("borrowed")
        loop.turn.give_back()
    assert order == ["handed over", "borrowed"]


def test_those_concerned_begin_anew_when_a_borrower_was_interrupted() -> None:
    begun_anew = threading.Event()
    with IOThread("loop") as loop:
        loop.on_interrupted(begun_anew.set)
        borrow(loop)
        loop.turn.give_back()
        loop.submit(int).result(SOON)
        assert not begun_anew.is_set()
        borrow(loop)
        loop.turn.give_back(clean=False)
        assert begun_anew.wait(SOON)


def test_a_forked_child_does_not_touch_the_sockets_of_its_parent() -> None:
    with IOThread("loop") as loop:
        loop.submit(int).result(SOON)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: that is it
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                loop.turn.borrow()
            except LoopStoppedError:
                loop.stop()
                status = int(loop.running)
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert loop.submit(lambda: 7).result(SOON) == 7
