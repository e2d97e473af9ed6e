from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import FrameError, FrameTooLargeError
from zmqruntime.execution._pipe import MOST_BYTES, MessageReader, PipeWriter, framed
from zmqruntime.execution._worker_messages import Cancel, Exit, FromWorker, Run, ToWorker

MESSAGES = st.one_of(
    st.builds(Cancel, id=st.text(max_size=9), attempt=st.integers(0, 9)),
    st.builds(Run, id=st.text(), attempt=st.integers(0, 9), kind=st.text(), payload=st.binary()),
    st.just(Exit()),
)


@given(st.lists(MESSAGES), st.integers(1, 50))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[ToWorker], size: int
) -> None:
    data = b"".join(map(framed, messages))
    reader: MessageReader[ToWorker] = MessageReader(ToWorker)
    found: list[ToWorker] = []
    for begin in range(0, len(data), size):
        found.extend(reader.feed(data[begin : begin + size]))
    assert found == messages


@given(st.binary(max_size=200))
def test_bytes_that_are_no_messages_are_an_error_by_name(data: bytes) -> None:
    reader: MessageReader[FromWorker] = MessageReader(FromWorker)
    try:
        for _ in reader.feed(data):
            pass
    except FrameError:
        pass


def test_a_length_that_cannot_be_is_refused_before_anything_is_read() -> None:
    reader: MessageReader[FromWorker] = MessageReader(FromWorker)
    with pytest.raises(FrameTooLargeError):
        next(reader.feed((MOST_BYTES + 1).to_bytes(4, "little")))
    with pytest.raises(FrameTooLargeError):
        framed(Run(id="", attempt=1, kind="", payload=bytes(MOST_BYTES)))


def test_a_writer_never_waits_for_its_reader_and_keeps_the_order() -> None:
    read, write = os.pipe()
    writer = PipeWriter(write, name="test")
    sent = [bytes([number]) * 300_000 for number in range(5)]
    for data in sent:
        writer.write(data)
    received = b""
    while len(received) < 1_500_000:
        received += os.read(read, 1 << 20)
    assert received == b"".join(sent)
    writer.close()
    writer.close()
    assert os.read(read, 1) == b""
    os.close(read)


def test_a_reader_that_is_gone_hurts_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    writer = PipeWriter(write, name="test")
    writer.write(b"hello")
    writer.write(b"anybody?")
    writer.close()
