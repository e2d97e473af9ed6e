from __future__ import annotations

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import IOThread
from zmqruntime.security._curve import to_text
from zmqruntime.security._zap import ZapHandler, ZapRequest, answer

KEY = bytes(range(32))
REQUEST = [b"1.0", b"7", b"zmqruntime", b"192.0.2.7", b"", b"CURVE", KEY]


@pytest.mark.req("S.2")
def test_the_user_id_is_the_key() -> None:
    asked: list[ZapRequest] = []

    def decide(request: ZapRequest) -> tuple[str, str]:
        asked.append(request)
        return "200", "OK"

    assert answer(REQUEST, decide) == [b"1.0", b"7", b"200", b"OK", to_text(KEY).encode(), b""]
    assert asked == [
        ZapRequest(domain="zmqruntime", address="192.0.2.7", mechanism="CURVE", key=to_text(KEY))
    ]


def test_who_is_refused_has_no_user_id() -> None:
    assert answer(REQUEST, lambda _: ("400", "no"))[2:5] == [b"400", b"no", b""]


def test_an_error_while_deciding_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    assert answer(REQUEST, lambda _: 1 // 0)[2] == b"500"  # type: ignore[arg-type, return-value]
    assert "ZeroDivisionError" in caplog.text


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_whatever_is_asked_is_answered_in_six_frames(frames: list[bytes]) -> None:
    for asked in (frames, [*REQUEST[:5], *frames], [*REQUEST[:6], *frames]):
        reply = answer(asked, lambda request: ("200", request.mechanism))
        assert len(reply) == 6
        assert reply[0] == b"1.0"
        if asked[5:6] == [b"CURVE"] and [len(each) for each in asked[6:]] != [32]:
            assert reply[2] == b"500"


def test_a_context_has_one_handler() -> None:
    with IOThread("test") as loop:
        handler = loop.submit(ZapHandler, loop, lambda _: ("400", "")).result()
        with pytest.raises(zmq.ZMQError):
            loop.submit(ZapHandler, loop, lambda _: ("400", "")).result()
        loop.submit(handler.close).result()
        loop.submit(handler.close).result()
        again = loop.submit(ZapHandler, loop, lambda _: ("400", "")).result()
        loop.submit(again.close).result()
