"""Processes are killed at random moments; what they leave is gone after the next start."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from zmqruntime import find_services
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zmqruntime.faults.conftest import Nursery, Victim

    Rounds = Callable[[int, int], int]

MOMENT = 0.03  # seconds; long enough for some tens of messages


def left_behind(runtime_folder: Path, shm: Path) -> list[str]:
    """Name what is there although nobody lives; locks stay, and hold nothing."""
    litter = [str(path) for path in runtime_folder.iterdir() if path.suffix != ".lock"]
    return litter + [str(path) for path in shm.iterdir()]


def stop(*victims: Victim) -> None:
    for victim in victims:
        victim.signal(signal.SIGTERM)
        assert victim.status == 0, victim.errors
        assert victim.errors == ""


def check_books(sender: Victim, *receivers: Victim) -> None:
    """See that every payload was received, and none is known to be unless it was."""
    got = {key for receiver in receivers for key in receiver.all("got")}
    assert {*sender.all("acked")} <= got
    assert {*sender.all("sent")} <= got | {*sender.all("left")}


@pytest.mark.req("G.7")
@pytest.mark.req("000.11")
@pytest.mark.req("002.6")
@pytest.mark.req("F.37")
@pytest.mark.timeout(600)
def test_a_killed_receiver_loses_nothing_and_leaves_nothing(
    nursery: Nursery, runtime_folder: Path, shm: Path, rounds: Rounds
) -> None:
    port = free_endpoint().port
    receivers = [nursery.start("receive", port, shm)]
    receivers[0].wait_for("ready")
    sender = nursery.start("send", port, shm)
    sender.wait_for("ready")
    for number in range(rounds(80, 400)):
        nursery.pause(MOMENT)
        receivers[-1].signal(signal.SIGKILL)
        assert receivers[-1].status == -signal.SIGKILL
        sender.wait_for("lost", number + 1)
        receivers.append(nursery.start("receive", port, shm))
        receivers[-1].wait_for("got")
    stop(sender)
    assert not sender.all("left")
    stop(receivers[-1])
    check_books(sender, *receivers)
    assert not left_behind(runtime_folder, shm)


@pytest.mark.req("F.4")
@pytest.mark.req("F.35")
@pytest.mark.timeout(600)
def test_every_question_to_a_server_that_is_killed_is_answered_or_fails(
    nursery: Nursery, runtime_folder: Path, shm: Path, rounds: Rounds
) -> None:
    port = free_endpoint().port
    server = nursery.start("serve", port)
    server.wait_for("ready")
    askers = [nursery.start("ask", port) for _ in range(3)]
    for asker in askers:
        asker.wait_for("ready")
    for number in range(rounds(20, 200)):
        nursery.pause(MOMENT)
        server.signal(signal.SIGKILL)
        for asker in askers:
            asker.wait_for("lost", number + 1)
        server = nursery.start("serve", port)
        server.wait_for("ready")
        for asker in askers:
            asker.wait_for("by", 1 + len(asker.all("answered")))
    stop(*askers, server)
    for asker in askers:
        ended = sorted(map(int, asker.all("answered") + asker.all("failed")))
        assert ended == list(map(int, asker.all("asked")))
    assert not left_behind(runtime_folder, shm)


@pytest.mark.req("F.7")
@pytest.mark.timeout(600)
def test_a_killed_sender_is_a_visible_end_and_leaves_nothing(
    nursery: Nursery, runtime_folder: Path, shm: Path, rounds: Rounds
) -> None:
    port = free_endpoint().port
    receiver = nursery.start("receive", port, shm)
    receiver.wait_for("ready")
    for _ in range(rounds(80, 400)):
        sender = nursery.start("send", port, shm)
        sender.wait_for("ready")
        nursery.pause(MOMENT)
        sender.signal(signal.SIGKILL)
        assert sender.status == -signal.SIGKILL
        assert {*sender.all("acked")} <= {*receiver.all("got")}
    last = nursery.start("send", port, shm)
    last.wait_for("ready")
    pids = {path.name.split("-")[2] for path in shm.iterdir()}
    assert pids <= {str(last.pid)}
    stop(last, receiver)
    check_books(last, receiver)
    assert not left_behind(runtime_folder, shm)


@pytest.mark.req("F.7")
@pytest.mark.req("F.37")
@pytest.mark.timeout(600)
def test_a_killed_group_leaves_nothing_after_the_next_start(
    nursery: Nursery, runtime_folder: Path, shm: Path, rounds: Rounds
) -> None:
    port = free_endpoint().port
    for _ in range(rounds(40, 200)):
        receiver = nursery.start("receive", port, shm)
        sender = nursery.start("send", port, shm, group=receiver)
        assert sender.pid != receiver.pid  # both are there
        if nursery.random.random() < 0.7:  # else also while they start
            sender.wait_for("ready")
        nursery.pause(MOMENT)
        receiver.kill_group()
        assert {receiver.status, sender.status} == {-signal.SIGKILL}
        crashed = [each for each in find_services() if each.port == port]
        assert not any(each.alive for each in crashed)
    receiver = nursery.start("receive", port, shm)
    receiver.wait_for("ready")
    sender = nursery.start("send", port, shm)
    sender.wait_for("ready")
    stop(sender, receiver)
    check_books(sender, receiver)
    assert not left_behind(runtime_folder, shm)


@pytest.mark.req("F.15")
@pytest.mark.req("002.6")
@pytest.mark.timeout(600)
def test_two_signals_at_any_moment_are_one_clean_end(
    nursery: Nursery, runtime_folder: Path, shm: Path, rounds: Rounds
) -> None:
    for number in range(rounds(40, 200)):
        port = free_endpoint().port
        role = ("serve", "receive")[number % 2]
        victim = nursery.start(role, port, *([shm] if role == "receive" else []))
        victim.wait_for("ready")
        nursery.pause(MOMENT / 3)
        victim.signal(signal.SIGTERM)
        nursery.pause(MOMENT / 3)
        victim.signal(signal.SIGTERM)
        assert victim.status == 0, victim.errors
        assert victim.said[-2] == ("ended",)
        assert victim.errors == ""
    assert not left_behind(runtime_folder, shm)
