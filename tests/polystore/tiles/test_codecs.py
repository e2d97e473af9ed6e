"""Codecs of planes in a feed and its receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore import StreamError, TileError, UnknownCodecError
from polystore.codecs import Codecs, JpegCodec, RawCodec, ZstdCodec, standard_codecs
from polystore.testing import FakeClock
from polystore.tiles import (
    EXACT,
    Assembler,
    Ladder,
    Picture,
    Rung,
    TileFeed,
    decode_with,
    encode_with,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore.codecs import Codec
    from polystore.tiles import Parcel

HIGH = Rung(name="high", codec="jpeg", quality=90, frame_bytes=1e4)
EXACT_HIGH = Rung(name="high", codec="jpeg", quality=EXACT, frame_bytes=1e4)


def frame(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((12, 12, 1), np.uint8)))


def feed_with(exact: Codec, clock: FakeClock) -> TileFeed:
    rung = Rung(name="exact", codec=exact.id, quality=EXACT, frame_bytes=1e5)
    encode = encode_with({"exact": exact, "high": JpegCodec(90)})
    feed = TileFeed(encode, exact=rung, epoch="e", tile_px=64, clock=clock)
    feed.join("client", Ladder([HIGH], clock))
    return feed


def give(parcel: Parcel | None, view: Assembler) -> None:
    assert parcel is not None
    for message, body in parcel.messages:
        view.receive(message, body)


@pytest.mark.parametrize("exact", [ZstdCodec(), RawCodec()])
def test_frames_move_as_jpeg_and_settle_bit_for_bit(exact: Codec) -> None:
    clock = FakeClock()
    feed, view = feed_with(exact, clock), Assembler(decode_with(standard_codecs()))
    shown = frame(1)
    feed.show(shown, state_version=1)
    give(feed.take("client"), view)
    moving = view.take()
    assert moving is not None
    assert not moving.exact
    assert np.abs(moving.pixels.astype(int) - shown[..., :3]).mean() < 4
    clock.advance(1.0)
    settled: Picture | None = None
    while (parcel := feed.take("client")) is not None:
        give(parcel, view)
        settled = view.take() or settled
    assert settled is not None
    assert settled.verified
    np.testing.assert_array_equal(settled.pixels, shown[..., :3])


def test_what_is_kept_does_not_change_when_the_pixels_are_drawn_over() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    rung = Rung(name="exact", codec="raw", quality=EXACT, frame_bytes=1)
    body = encode_with({"exact": RawCodec()})(rung, pixels)
    pixels[:] = 9
    assert bytes(body) == bytes(48)


@pytest.mark.parametrize(
    ("codecs", "rung", "says"),
    [
        ({}, HIGH, "'high' is of 'jpeg'"),
        ({"high": ZstdCodec()}, HIGH, "high: zstd"),
        ({"high": JpegCodec()}, EXACT_HIGH, "lossy"),
    ],
)
def test_rung_that_its_codec_does_not_fit_is_refused(
    codecs: dict[str, Any], rung: Rung, says: str
) -> None:
    with pytest.raises(TileError, match=says):
        encode_with(codecs)(rung, frame(0)[..., :3])


def test_part_that_cannot_be_decoded_is_still_missing() -> None:
    clock = FakeClock()
    feed = feed_with(ZstdCodec(), clock)
    feed.show(frame(1), state_version=1)
    parcel = feed.take("client")
    assert parcel is not None
    for codecs, error in ((Codecs(), UnknownCodecError), (standard_codecs(), StreamError)):
        view = Assembler(decode_with(codecs))
        (header, _), (part, body), *_ = parcel.messages
        view.receive(header)
        with pytest.raises(error):
            view.receive(part, b"no JPEG" if error is StreamError else body)
        missing = view.missing()
        assert missing is not None
        assert len(missing.tiles) == 4
