from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polystore import CodecError
from polystore.codecs import (
    CodecSpeed,
    JpegCodec,
    RawCodec,
    choose,
    measure,
    standard_codecs,
)
from polystore.testing import FakeClock

RAW = CodecSpeed(codec="raw", ratio=1, encode_mb_s=math.inf, decode_mb_s=math.inf)
LZ4 = CodecSpeed(codec="blosc2-lz4", ratio=2.0, encode_mb_s=1000, decode_mb_s=1400)
JXL = CodecSpeed(codec="jpegxl", ratio=2.4, encode_mb_s=230, decode_mb_s=130)
JPEG = CodecSpeed(codec="jpeg", ratio=20, encode_mb_s=300, decode_mb_s=400, lossy=True)
SPEEDS = (RAW, LZ4, JXL, JPEG)
PLANE = 2048 * 2048 * 2


def chosen(link_bytes_per_s: float, *, queue_grows: bool = False) -> str:
    return choose(
        SPEEDS, link_bytes_per_s=link_bytes_per_s, nbytes=PLANE, queue_grows=queue_grows
    ).codec


def test_the_slower_the_link_the_smaller_the_stream() -> None:
    assert [chosen(link) for link in (1e6, 2e7, 1e8, 1e9, math.inf)] == [
        "jpegxl",
        "blosc2-lz4",
        "blosc2-lz4",
        "raw",
        "raw",
    ]


def test_while_the_queue_grows_only_the_slowest_stage_counts() -> None:
    assert chosen(4e7) == "blosc2-lz4"
    assert chosen(4e7, queue_grows=True) == "jpegxl"
    assert chosen(8e8, queue_grows=True) == "blosc2-lz4"


def test_the_times_are_those_of_the_stages() -> None:
    choice = choose(SPEEDS, link_bytes_per_s=1e8, nbytes=PLANE)
    lz4 = next(each for each in choice.predictions if each.codec == "blosc2-lz4")
    assert lz4.encode == pytest.approx(PLANE / 1000e6)
    assert lz4.transfer == pytest.approx(PLANE / 2 / 1e8)
    assert lz4.decode == pytest.approx(PLANE / 1400e6)
    assert lz4.counted == pytest.approx(lz4.encode + lz4.transfer + lz4.decode)


def test_lossy_codecs_are_chosen_for_previews_only() -> None:
    assert chosen(1e5) == "jpegxl"
    preview = choose(SPEEDS, link_bytes_per_s=1e5, nbytes=PLANE, preview=True)
    assert preview.codec == "jpeg"
    exact = choose(SPEEDS, link_bytes_per_s=1e5, nbytes=PLANE, before=preview)
    assert exact.codec == "jpegxl"
    assert "jpeg" not in [each.codec for each in exact.predictions]
    with pytest.raises(CodecError, match="previews only"):
        choose((JPEG,), link_bytes_per_s=1e5, nbytes=PLANE)


def test_a_link_that_wavers_does_not_change_the_codec() -> None:
    even = 8.07e6  # about where jpegxl and blosc2-lz4 take as long
    links = [even * (1 + 0.05 * (-1) ** number) for number in range(50)]
    choice = choose(SPEEDS, link_bytes_per_s=links[0], nbytes=PLANE)
    changes = 0
    for link in links[1:]:
        after = choose(SPEEDS, link_bytes_per_s=link, nbytes=PLANE, before=choice)
        changes += after.codec != choice.codec
        choice = after
    assert changes == 0


def test_a_link_that_has_changed_changes_the_codec() -> None:
    slow = choose(SPEEDS, link_bytes_per_s=1e6, nbytes=PLANE)
    fast = choose(SPEEDS, link_bytes_per_s=1e10, nbytes=PLANE, before=slow)
    assert (slow.codec, fast.codec) == ("jpegxl", "raw")
    assert not fast.kept


def test_the_choice_can_be_read_back_with_its_reasons() -> None:
    first = choose(SPEEDS, link_bytes_per_s=8e6, nbytes=PLANE)
    again = choose(SPEEDS, link_bytes_per_s=8.2e6, nbytes=PLANE, before=first)
    assert (first.codec, again.codec) == ("jpegxl", "jpegxl")
    for choice in (first, again):
        said = str(choice)
        assert said.startswith("jpegxl")
        for part in ("raw", "blosc2-lz4", "8388608 bytes", "queue is short"):
            assert part in said
    grown = choose(SPEEDS, link_bytes_per_s=1e8, nbytes=PLANE, queue_grows=True)
    assert "the queue grows" in str(grown)


def test_what_is_kept_although_another_is_quicker_says_so() -> None:
    before = choose((LZ4,), link_bytes_per_s=1e8, nbytes=PLANE)
    quicker = dataclasses.replace(LZ4, codec="quicker", encode_mb_s=1100)
    kept = choose((LZ4, quicker), link_bytes_per_s=1e8, nbytes=PLANE, before=before)
    assert (kept.codec, kept.kept) == ("blosc2-lz4", True)
    assert kept.predictions[0].codec == "quicker"
    assert "kept because" in str(kept)


@given(
    speeds=st.lists(
        st.builds(
            CodecSpeed,
            codec=st.sampled_from("abcdefgh"),
            ratio=st.floats(0.5, 1000),
            encode_mb_s=st.floats(1, 1e5),
            decode_mb_s=st.floats(1, 1e5),
            lossy=st.booleans(),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda speed: speed.codec,
    ),
    link=st.floats(1e3, 1e11),
    grows=st.booleans(),
    preview=st.booleans(),
    former=st.none() | st.sampled_from("abcdefgh"),
)
def test_nothing_allowed_is_quicker_than_what_is_chosen_by_more_than_the_margin(
    speeds: list[CodecSpeed], link: float, grows: bool, preview: bool, former: str | None
) -> None:
    allowed = [speed for speed in speeds if preview or not speed.lossy]
    before = None
    if former is not None and former in [speed.codec for speed in speeds]:
        alone = [speed for speed in speeds if speed.codec == former]
        before = choose(alone, link_bytes_per_s=link, nbytes=PLANE, preview=True)
    if not allowed:
        with pytest.raises(CodecError):
            choose(speeds, link_bytes_per_s=link, nbytes=PLANE)
        return
    choice = choose(
        speeds,
        link_bytes_per_s=link,
        nbytes=PLANE,
        queue_grows=grows,
        preview=preview,
        before=before,
    )
    times = {each.codec: each.counted for each in choice.predictions}
    assert set(times) == {speed.codec for speed in allowed}
    assert min(times.values()) >= times[choice.codec] * (1 - 0.15) * (1 - 1e-9)
    if before is None:
        assert times[choice.codec] == min(times.values())


@pytest.mark.parametrize(
    "wrong",
    [{"link_bytes_per_s": 0.0}, {"link_bytes_per_s": math.nan}, {"nbytes": -1}, {"margin": 1.0}],
    ids=str,
)
def test_numbers_that_are_no_ground_for_a_choice_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ground"):
        choose(SPEEDS, **{"link_bytes_per_s": 1e6, "nbytes": 1, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="measured"):
        choose([dataclasses.replace(LZ4, ratio=0.0)], link_bytes_per_s=1e6, nbytes=1)


class _Slow(RawCodec):
    """Takes 2 s to encode and 1 s to decode."""

    id = "slow"

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def encode(self, array):  # type: ignore[no-untyped-def]
        self._clock.advance(2)
        return super().encode(array)

    def decode(self, encoded):  # type: ignore[no-untyped-def]
        self._clock.advance(1)
        return super().decode(encoded)


def test_speeds_are_measured_by_the_clock_that_is_given() -> None:
    clock = FakeClock()
    sample = np.zeros((1000, 1000), np.uint16)
    raw, slow = measure([RawCodec(), JpegCodec(), _Slow(clock)], sample, clock)
    assert (raw.codec, raw.ratio, raw.encode_mb_s) == ("raw", 1, math.inf)
    assert slow == CodecSpeed(codec="slow", ratio=1, encode_mb_s=1, decode_mb_s=2)
    with pytest.raises(ValueError, match="one repeat"):
        measure([RawCodec()], sample, clock, repeats=0)


def test_what_was_measured_of_the_standard_codecs_leads_to_a_choice() -> None:
    clock = FakeClock()

    def ticking() -> float:
        clock.advance(0.001)
        return clock()

    sample = np.random.default_rng(0).poisson(300, (256, 256)).astype(np.uint16)
    speeds = measure(standard_codecs(), sample, ticking)
    assert {speed.codec for speed in speeds} == {
        "raw",
        "blosc2-lz4",
        "blosc2-zstd",
        "jpegxl",
        "quantized-jpegxl",
        "zstd",
    }
    smallest = max((each for each in speeds if not each.lossy), key=lambda speed: speed.ratio)
    assert choose(speeds, link_bytes_per_s=1e4, nbytes=PLANE).codec == smallest.codec
    view = choose(speeds, link_bytes_per_s=1e4, nbytes=PLANE, preview=True)
    assert view.codec == "quantized-jpegxl"
    assert choose(speeds, link_bytes_per_s=math.inf, nbytes=PLANE).codec == "raw"
