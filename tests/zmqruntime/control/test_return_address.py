from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from zmqruntime import BusyError, FrameError, Reply
from zmqruntime.control._codec import Encoding
from zmqruntime.control._return_address import ReturnAddress

ENVELOPE = (b"\0peer", b"proxy", b"")


def address(encoding: Encoding = Encoding.MSGPACK, **fields: Any) -> ReturnAddress:
    return ReturnAddress(envelope=ENVELOPE, encoding=encoding, id="7", trace="t", **fields)


@pytest.mark.parametrize(
    ("encoding", "decode"),
    [(Encoding.MSGPACK, msgspec.msgpack.decode), (Encoding.JSON, json.loads)],
)
def test_a_reply_goes_back_the_way_the_request_came_and_is_written_as_it_was(
    encoding: Encoding, decode: Any
) -> None:
    frames = address(encoding).reply(Reply({"n": 1}, "done", (b"pixels", b"")))
    assert tuple(frames[:3]) == ENVELOPE
    assert frames[4:] == [b"pixels", b""]
    assert decode(frames[3]) == {
        "v": 1,
        "type": "done",
        "id": "7",
        "body": {"n": 1},
        "trace": "t",
    }


def test_what_cannot_be_sent_is_no_reply() -> None:
    text: Any = "text"
    for reply in (Reply({"x": object()}), Reply({}, attachments=(text,))):
        with pytest.raises(FrameError):
            address().reply(reply)


def test_a_refusal_says_why_and_leaves_out_details_that_cannot_be_sent() -> None:
    *envelope, frame = address().refusal(BusyError("later", retryable=True, details={"n": 3}))
    assert tuple(envelope) == ENVELOPE
    told = msgspec.msgpack.decode(frame)
    assert (told["type"], told["code"], told["message"]) == ("error", "busy", "later")
    assert (told["details"], told["retryable"], told["id"]) == ({"n": 3}, True, "7")
    *_, frame = address().refusal(BusyError("later", details={"n": object()}))
    told = msgspec.msgpack.decode(frame)
    assert (told["message"], "details" in told) == ("later", False)
