from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from zmqruntime import ControlTimeout
from zmqruntime.session import (
    Applied,
    Baseline,
    CommandError,
    SessionClient,
    SessionClosedError,
    SessionServer,
    StateAck,
    StateRejectedError,
)
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from concurrent.futures import Future

SOON = 10.0  # seconds; far more than any of this takes
GAMMA = ("layer", "layer-0", "gamma")


def test_what_waits_for_a_server_that_is_not_there_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zmqruntime.session._intents._MOST_WAITING", 3)
    monkeypatch.setattr("zmqruntime.session._calls._MOST_WAITING", 3)
    with SessionClient.over_zmq(free_endpoint()) as client:
        with pytest.raises(ControlTimeout):
            client.connect(0.01)
        changes = [client.update(*GAMMA, number) for number in range(4)]
        calls = [client.call_nowait("layer.create", key=f"k{number}") for number in range(4)]
        with pytest.raises(StateRejectedError) as refused:
            changes[-1].result(SOON)
        assert refused.value.code == "state.busy"
        with pytest.raises(CommandError) as busy:
            calls[-1].future.result(SOON)
        assert busy.value.code == "command.busy"
        assert client.pending == 3
        assert client.value(*GAMMA) == 2, "what was refused is not shown"
    for change in changes[:3]:
        with pytest.raises(SessionClosedError):
            change.result(SOON)
    for call in calls[:3]:
        with pytest.raises(CommandError):
            call.future.result(SOON)


@pytest.mark.parametrize("protocol", [1, 2])
def test_changes_of_many_threads_are_all_answered(protocol: int) -> None:
    with serve_in_thread() as server, SessionServer(server, Baseline) as sessions:
        sessions.reduce("layer", lambda change: Applied(value=change.value))
        with SessionClient.over_zmq(server.endpoint, protocols=(protocol,)) as client:
            client.connect(SOON)
            asked: list[Future[StateAck]] = []

            def ask() -> None:
                asked.extend(client.update(*GAMMA, number) for number in range(50))

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SOON)
            assert sorted(each.result(SOON).version for each in asked) == [*range(1, 201)]
