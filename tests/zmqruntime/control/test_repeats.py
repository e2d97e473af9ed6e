from __future__ import annotations

import pytest

from zmqruntime import BusyError, ConflictError, NotFoundError, Reply
from zmqruntime.control._repeats import Repeats


def test_a_repeat_waits_while_it_is_under_way_and_gets_the_reply_afterwards() -> None:
    repeats: Repeats[str] = Repeats()
    assert repeats.arrive("submit", "k", "first") is True
    assert repeats.arrive("submit", "k", "second") is False
    assert repeats.arrive("cancel", "k", "other type") is True
    reply = Reply({"run": 1})
    assert repeats.finish("submit", "k", reply) == ["second"]
    assert repeats.arrive("submit", "k", "third") is reply


def test_a_failed_request_is_forgotten() -> None:
    repeats: Repeats[str] = Repeats()
    repeats.arrive("submit", "k", "first")
    repeats.arrive("submit", "k", "second")
    assert repeats.finish("submit", "k", NotFoundError("no plate")) == ["second"]
    assert repeats.arrive("submit", "k", "third") is True
    assert repeats.finish("submit", "unknown", Reply()) == []


def test_memory_is_bounded() -> None:
    repeats: Repeats[int] = Repeats(remembered=2, waiting=1)
    repeats.arrive("submit", "a", 0)
    repeats.arrive("submit", "b", 0)
    with pytest.raises(BusyError) as caught:
        repeats.arrive("submit", "c", 0)
    assert caught.value.retryable
    repeats.arrive("submit", "a", 1)
    with pytest.raises(ConflictError):
        repeats.arrive("submit", "a", 2)
    repeats.finish("submit", "b", Reply())
    assert repeats.arrive("submit", "c", 0) is True
    assert repeats.finish("submit", "b", Reply()) == []


@pytest.mark.req("S.8", "003.14")
def test_a_key_that_another_client_guesses_is_another_one() -> None:
    repeats: Repeats[str] = Repeats()
    assert repeats.arrive("submit", "k", "mine", client="me") is True
    assert repeats.arrive("submit", "k", "theirs", client="them") is True
    assert repeats.arrive("submit", "k", "mine again", client="me") is False
    reply = Reply({"secret": 1})
    assert repeats.finish("submit", "k", reply, client="me") == ["mine again"]
    assert repeats.arrive("submit", "k", "mine", client="me") is reply
    assert repeats.arrive("submit", "k", "theirs again", client="them") is False
    assert repeats.finish("submit", "k", NotFoundError("no"), client="them") == ["theirs again"]
    assert repeats.arrive("submit", "k", "mine", client="me") is reply
