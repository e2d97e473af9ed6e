"""The sink on a slow link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from polystore import CodecError, Components, Kind, Payload, coding_of, decode
from polystore.backends import StreamingBackend
from polystore.codecs import JpegXlCodec, QuantizedCodec, ZstdCodec, standard_codecs
from polystore.testing import assert_equal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polystore.backends import Publish

PIXELS = (100 + np.random.default_rng(0).poisson(9, (64, 64))).astype(np.uint16)
IMAGE = Payload(data=PIXELS, components=Components(well="A01"))
LABELS = Payload(data=(PIXELS > 110).astype(np.int32), kind=Kind.LABELS, name="nuclei")
Sent = list[tuple[bytes, list[memoryview]]]


def outbox() -> tuple[Sent, Publish]:
    sent: Sent = []

    def publish(header: bytes, buffers: Sequence[memoryview], /) -> None:
        sent.append((header, [*buffers]))

    return sent, publish


def sizes(sent: Sent) -> list[int]:
    return [sum(buffer.nbytes for buffer in buffers) for _, buffers in sent]


def test_images_and_labels_are_sent_smaller_and_come_back_the_same() -> None:
    sent, publish = outbox()
    sink = StreamingBackend(publish, codec=ZstdCodec())
    sink.save_batch([IMAGE, LABELS, Payload(data="done", kind=Kind.TEXT)])
    assert sizes(sent)[0] < IMAGE.nbytes
    assert sizes(sent)[1] < LABELS.nbytes
    for payload, frames in zip((IMAGE, LABELS), sent, strict=False):
        assert_equal(decode(*frames, codecs=standard_codecs()), payload)
    assert decode(*sent[2]).text == "done"


def test_each_payload_can_have_a_codec_of_its_own() -> None:
    sent, publish = outbox()

    def codec_of(payload: Payload) -> JpegXlCodec | None:
        return JpegXlCodec() if payload.kind is Kind.IMAGE else None

    sink = StreamingBackend(publish, codec=codec_of)
    sink.save_batch([IMAGE, LABELS])
    codings = [coding_of(header) for header, _ in sent]
    assert [coding and coding.codec for coding in codings] == ["jpegxl", None]


def test_what_the_codec_does_not_take_is_refused_and_not_sent() -> None:
    sent, publish = outbox()
    sink = StreamingBackend(publish, codec=JpegXlCodec())
    with pytest.raises(CodecError, match="int32"):
        sink.save(LABELS)
    assert sent == []


def test_approximations_are_sent_only_where_they_are_asked_for() -> None:
    sent, publish = outbox()
    with pytest.raises(CodecError, match="preview=True"):
        StreamingBackend(publish, codec=QuantizedCodec()).save(IMAGE)
    StreamingBackend(publish, codec=QuantizedCodec(), preview=True).save(IMAGE)
    assert decode(*sent[0], codecs=standard_codecs()).lossy
