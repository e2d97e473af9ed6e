"""Session servers and clients are killed at random moments; every event is heard once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zmqruntime.faults.conftest import Nursery, Victim

    Rounds = Callable[[int, int], int]

MOMENT = 0.15  # seconds; long enough for some events
CARRIERS = ("zmq", "websocket")


class Place:
    """Ports and a journal that outlive the servers there."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self.nursery = nursery
        self.port, self.gateway = free_endpoint().port, free_endpoint().port
        self.journal = folder / "sessions.db"

    def serve(self, *, quiet: bool = False) -> Victim:
        silence = "yes" if quiet else "no"
        server = self.nursery.start("count", self.port, self.gateway, self.journal, silence)
        server.wait_for("ready")
        return server

    def follow(self, carrier: str, *, group: Victim | None = None) -> Victim:
        gateway = self.gateway if carrier == "websocket" else "none"
        return self.nursery.start("follow", self.port, gateway, group=group)


def numbers(follower: Victim) -> tuple[list[int], list[int]]:
    return [int(n) for n in follower.all("scene")], [int(n) for n in follower.all("heard")]


def welcomes_of(follower: Victim) -> int:
    return sum(words[0] == "welcomed" for words in tuple(follower.said))


def assert_heard_once_each(follower: Victim, last: int | None = None) -> None:
    """See that one baseline came, and after it every number in order, up to the last."""
    scenes, heard = numbers(follower)
    assert len(scenes) == 1, "it had to begin anew"
    end = scenes[0] + len(heard) if last is None else last
    assert heard == list(range(scenes[0] + 1, end + 1))


def hear_to_the_end(follower: Victim, last: int) -> None:
    scenes, _ = numbers(follower)
    follower.wait_for("heard", last - scenes[0])


def stop(victim: Victim) -> None:
    victim.signal(signal.SIGTERM)
    assert victim.status == 0, victim.errors
    assert "Traceback" not in victim.errors


@pytest.mark.req("B.6", "F.32", "G.7")
@pytest.mark.timeout(1200)
def test_a_server_that_is_killed_in_the_middle_of_a_stream_tells_every_event_once(
    nursery: Nursery, runtime_folder: Path, tmp_path: Path, rounds: Rounds
) -> None:
    place = Place(nursery, tmp_path)
    server = place.serve()
    followers = [place.follow(carrier) for carrier in CARRIERS]
    for follower in followers:
        follower.wait_for("scene")
    count = rounds(8, 200)
    for number in range(count):
        nursery.pause(MOMENT)
        welcomes = [welcomes_of(follower) for follower in followers]
        server.signal(signal.SIGKILL)
        assert server.status == -signal.SIGKILL
        server = place.serve(quiet=number == count - 1)
        if nursery.random.random() < 0.7:  # else also while they are coming back
            for follower, before in zip(followers, welcomes, strict=True):
                follower.wait_for("welcomed", before + 1)
    (last,) = map(int, server.all("ready"))
    assert last > count
    for follower in followers:
        hear_to_the_end(follower, last)
        stop(follower)
        assert_heard_once_each(follower, last)
        assert not any("topics.reset" in word for word in follower.all("counted"))
    stop(server)
    assert [each.name for each in runtime_folder.iterdir() if each.suffix != ".lock"] == []


@pytest.mark.req("B.6", "F.32", "G.7")
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("runtime_folder")
def test_clients_that_are_killed_take_nothing_from_the_others_and_are_missed(
    nursery: Nursery, tmp_path: Path, rounds: Rounds
) -> None:
    place = Place(nursery, tmp_path)
    server = place.serve()
    steady = [place.follow(carrier) for carrier in CARRIERS]
    for follower in steady:
        follower.wait_for("scene")
    for number in range(rounds(10, 200)):
        victim = place.follow(CARRIERS[number % 2])
        victim.wait_for("scene")
        nursery.pause(MOMENT)
        victim.signal(signal.SIGKILL)
        assert victim.status == -signal.SIGKILL
        assert_heard_once_each(victim)
        server.wait_for("closed", number + 1)  # its session does not outlive it
    server.signal(signal.SIGKILL)
    assert server.status == -signal.SIGKILL
    server = place.serve(quiet=True)
    (last,) = map(int, server.all("ready"))
    for follower in steady:
        hear_to_the_end(follower, last)
        stop(follower)
        assert_heard_once_each(follower, last)
    stop(server)


@pytest.mark.req("B.6", "F.32", "G.7")
@pytest.mark.timeout(1200)
def test_a_server_and_a_client_that_are_killed_together_take_nothing_from_the_others(
    nursery: Nursery, runtime_folder: Path, tmp_path: Path, rounds: Rounds
) -> None:
    place = Place(nursery, tmp_path)
    server = place.serve()
    steady = [place.follow(carrier) for carrier in CARRIERS]
    for follower in steady:
        follower.wait_for("scene")
    count = rounds(4, 200)
    for number in range(count):
        victim = place.follow(CARRIERS[number % 2])
        victim.wait_for("scene")
        nursery.pause(MOMENT)
        killed = nursery.random.sample([server, victim], 2)
        for each in killed:
            each.signal(signal.SIGKILL)
        assert {each.status for each in killed} == {-signal.SIGKILL}
        assert_heard_once_each(victim)
        server = place.serve(quiet=number == count - 1)
    (last,) = map(int, server.all("ready"))
    for follower in steady:
        hear_to_the_end(follower, last)
        stop(follower)
        assert_heard_once_each(follower, last)
    stop(server)
    assert [each.name for each in runtime_folder.iterdir() if each.suffix != ".lock"] == []


@pytest.mark.req("B.6", "F.32", "G.7")
@pytest.mark.timeout(1200)
def test_after_a_killed_group_the_next_server_knows_all_that_was_heard(
    nursery: Nursery, runtime_folder: Path, tmp_path: Path, rounds: Rounds
) -> None:
    place = Place(nursery, tmp_path)
    heard_up_to = 0
    for _ in range(rounds(4, 200)):
        server = place.serve()
        (begun,) = map(int, server.all("ready"))
        assert begun >= heard_up_to, "an event was heard that is not in the journal"
        followers = [place.follow(carrier, group=server) for carrier in CARRIERS]
        if nursery.random.random() < 0.7:  # else also while they start
            for follower in followers:
                follower.wait_for("scene")
        assert all(follower.pid != server.pid for follower in followers)  # all of them are there
        nursery.pause(MOMENT)
        server.kill_group()
        for each in (server, *followers):
            assert each.status == -signal.SIGKILL
        for follower in followers:
            scenes, heard = numbers(follower)
            assert len(scenes) <= 1
            assert heard == [*range(sum(scenes) + 1, sum(scenes) + 1 + len(heard))]
            heard_up_to = max([heard_up_to, *scenes, *heard])
    server = place.serve(quiet=True)
    (last,) = map(int, server.all("ready"))
    assert last >= heard_up_to > 0
    stop(server)
    assert [each.name for each in runtime_folder.iterdir() if each.suffix != ".lock"] == []
