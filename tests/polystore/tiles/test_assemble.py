from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import TileError
from polystore.tiles import (
    EXACT,
    Assembler,
    Frame,
    FrameHeader,
    FrameLedger,
    PartHeader,
    Samples,
    Settled,
    Taken,
    Tile,
    TileCache,
    TileMessage,
    TileRequest,
    content_hash,
)

HEIGHT, WIDTH, TILE = 11, 14, 4  # 3 x 4 tiles, cut at both edges
LOSSY = 60


def decode(header: PartHeader, body: Any) -> Any:
    shape = header.raster.shape_of(header.area)
    return np.frombuffer(body, header.raster.dtype).reshape(shape)


def as_sent(pixels: Any, quality: int) -> Any:
    return pixels if quality == EXACT else pixels & 0xFE


Sent = tuple[TileMessage, bytes | None]


@dataclass
class Sender:
    """Makes frames and cuts parts of them."""

    epoch: str = "e"
    tile_px: int = TILE
    frames: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = FrameLedger(self.epoch, tile_px=self.tile_px)

    def show(self, pixels: Any, version: int | None = None, **options: Any) -> Frame:
        version = 10 * len(self.frames) if version is None else version
        options.setdefault("samples", Samples.SINGLE)
        frame = self.ledger.show(pixels, state_version=version, **options)
        self.frames.append(frame)
        return frame

    def part(
        self,
        frame: Frame,
        tile: Tile,
        quality: int = EXACT,
        *,
        rows: int = 1,
        columns: int = 1,
        inline: bool = True,
    ) -> tuple[PartHeader, bytes | None]:
        header = frame.header
        rect = header.raster.grid.rect(tile, rows, columns)
        pixels = frame.cut(rect)
        part = PartHeader(
            epoch=header.epoch,
            lane=header.lane,
            frame=header.frame,
            state_version=header.state_version,
            raster=header.raster,
            row=tile.row,
            column=tile.column,
            rows=rows,
            columns=columns,
            rect=(rect.y, rect.x, rect.height, rect.width),
            quality=quality,
            codec="raw",
            content=content_hash(pixels),
            inline=inline,
        )
        return part, as_sent(pixels, quality).tobytes() if inline else None

    def answer(self, request: TileRequest) -> list[Sent]:
        frame = self.frames[-1]
        level = frame.header.raster.level
        tiles = [Tile(level, row, column) for row, column in request.tiles]
        if request.header or request.whole:
            tiles = list(frame.header.raster.grid.tiles(level))
        sent: list[Sent] = [(frame.header, None)]
        return sent + [self.part(frame, tile) for tile in tiles]


def settled(frame: Frame) -> Settled:
    header = frame.header
    return Settled(
        epoch=header.epoch,
        lane=header.lane,
        frame=header.frame,
        state_version=header.state_version,
        raster=header.raster,
        sha256=content_hash(frame.cut()),
    )


def plane(value: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Any:
    return np.full(shape, value, np.uint8)


def fill(assembler: Assembler, sender: Sender, quality: int = EXACT) -> None:
    frame = sender.frames[-1]
    assembler.receive(frame.header)
    for tile in frame.header.raster.grid.tiles():
        assembler.receive(*sender.part(frame, tile, quality))


@st.composite
def streams(draw: st.DrawFn) -> tuple[Sender, list[Sent]]:
    """Frames with what changed, at a quality or two, some tiles again, some several at once."""
    sender = Sender()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    sent: list[Sent] = []
    for _ in range(draw(st.integers(1, 5))):
        pixels = pixels.copy()
        for y, x in draw(
            st.lists(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), max_size=3)
        ):
            pixels[y, x] ^= 3
        frame = sender.show(pixels)
        sent.append((frame.header, None))
        again = draw(st.lists(st.sampled_from(frame.header.raster.grid.tiles()), max_size=2))
        sent += [
            sender.part(frame, tile, draw(st.sampled_from((LOSSY, EXACT))))
            for tile in (*frame.dirty, *again)
        ]
        if draw(st.booleans()):
            sent.append(
                sender.part(frame, Tile(0, 1, 1), LOSSY, rows=2, columns=3),
            )
        if draw(st.booleans()):
            sent.append((settled(frame), None))
    return sender, sent


@pytest.mark.req("001.21")
@settings(max_examples=80, deadline=None)
@given(stream=streams(), data=st.data(), cached=st.booleans())
def test_no_picture_has_a_wrong_tile_whatever_is_lost_repeated_or_reordered(
    stream: tuple[Sender, list[Sent]], data: st.DataObject, cached: bool
) -> None:
    sender, sent = stream
    order = data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=2 * len(sent)))
    assembler = Assembler(decode, cache=TileCache(10_000) if cached else None)
    last = -1

    def look() -> None:
        nonlocal last
        picture = assembler.take()
        if picture is None:
            return
        number = picture.header.frame
        assert number >= last
        last = number
        truth = sender.frames[number]
        assert picture.header == truth.header
        exact = True
        for tile in truth.header.raster.grid.tiles():
            rect = truth.header.raster.grid.rect(tile)
            shown, right = picture.pixels[rect.slices], truth.cut(rect)
            assert np.array_equal(shown, right) or np.array_equal(shown, as_sent(right, LOSSY))
            exact &= np.array_equal(shown, right)
        if picture.exact:
            assert exact
        assert picture.verified in {None, True}

    for at in order:
        assembler.receive(*sent[at])
        look()
    # and what is missing is known: answers to what is asked for complete the newest frame
    assembler.receive(sender.frames[-1].header)
    for _ in range(3):
        request = assembler.missing()
        if request is None:
            break
        for message in sender.answer(request):
            assembler.receive(*message)
            look()
    assert assembler.missing() is None
    look()
    assert last == sender.frames[-1].header.frame
    assert assembler.corrupt == assembler.mismatches == 0


@pytest.mark.req("001.21")
def test_an_older_tile_never_overwrites_a_newer_one() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    old = sender.show(plane(1))
    new = sender.show(plane(2))
    fill(assembler, sender)
    picture = assembler.take()
    assert picture is not None
    for tile in old.header.raster.grid.tiles():
        assert assembler.receive(*sender.part(old, tile)) is Taken.STALE
    assert assembler.receive(old.header) is Taken.STALE
    assert assembler.take() is None
    assert (picture.pixels == 2).all()
    assert picture.header == new.header


def test_a_frame_with_a_tile_missing_is_not_shown_and_the_tile_is_named() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    sender.show(plane(1))
    fill(assembler, sender)
    assert assembler.take() is not None
    frame = sender.show(plane(2))
    assembler.receive(frame.header)
    for tile in frame.dirty[:-1]:
        assembler.receive(*sender.part(frame, tile))
    assert not assembler.complete
    assert assembler.take() is None
    assert assembler.shown is not None
    assert assembler.shown.state_version == 0
    request = assembler.missing()
    assert request is not None
    assert request.tiles == ((2, 3),)
    assembler.receive(*sender.part(frame, Tile(0, 2, 3)))
    assert assembler.complete
    assert assembler.missing() is None
    picture = assembler.take()
    assert picture is not None
    assert (picture.pixels == 2).all()


def test_tiles_that_came_before_their_frame_wait_for_it() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    sender.show(plane(1))
    fill(assembler, sender)
    assembler.take()
    frame = sender.show(plane(2))
    for tile in frame.dirty:
        assert assembler.receive(*sender.part(frame, tile)) is Taken.NEW
    assert assembler.take() is None  # nothing says yet that this is all
    request = assembler.missing()
    assert request is not None
    assert request.header
    assert request.tiles == ()
    assembler.receive(frame.header)
    picture = assembler.take()
    assert picture is not None
    assert (picture.pixels == 2).all()


def test_a_frame_of_another_size_replaces_what_was_held() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    sender.show(plane(1))
    fill(assembler, sender)
    first = assembler.take()
    sender.show(plane(3, (6, 7)), level=1, full_size=(HEIGHT, WIDTH))
    frame = sender.frames[-1]
    for tile in frame.dirty:
        assembler.receive(*sender.part(frame, tile))
    assembler.receive(frame.header)
    picture = assembler.take()
    assert picture is not None
    assert picture.pixels.shape == (6, 7)
    assert (picture.pixels == 3).all()
    assert first is not None
    assert (first.pixels == 1).all()
    stale = sender.part(sender.frames[0], Tile(0, 0, 0))
    assert assembler.receive(*stale) is Taken.STALE


def test_what_is_held_is_not_decoded_again() -> None:
    decoded: list[PartHeader] = []

    def counting(header: PartHeader, body: Any) -> Any:
        decoded.append(header)
        return decode(header, body)

    sender = Sender()
    assembler = Assembler(counting)
    frame = sender.show(plane(1))
    assembler.receive(frame.header)
    part = sender.part(frame, Tile(0, 0, 0))
    assert assembler.receive(*part) is Taken.NEW
    assert assembler.receive(*part) is Taken.HELD
    assert assembler.receive(*sender.part(frame, Tile(0, 0, 0), LOSSY)) is Taken.HELD
    assert len(decoded) == 1


def test_a_restarted_sender_is_followed_and_its_former_life_is_not() -> None:
    old, new = Sender("one"), Sender("two")
    assembler = Assembler(decode)
    assert assembler.receive(*old.part(old.show(plane(1)), Tile(0, 0, 0))) is Taken.EARLY
    for value in (2, 3, 4):
        old.show(plane(value))
        fill(assembler, old)
    new.show(plane(9))
    fill(assembler, new)
    picture = assembler.take()
    assert picture is not None
    assert (picture.pixels == 9).all()
    late = old.show(plane(5))
    assert assembler.receive(late.header) is Taken.STALE
    assert assembler.receive(*old.part(late, Tile(0, 0, 0))) is Taken.STALE


def test_an_exact_tile_whose_pixels_are_not_its_content_is_not_taken() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(1))
    assembler.receive(frame.header)
    header, body = sender.part(frame, Tile(0, 0, 0))
    assert body is not None
    assert assembler.receive(header, bytes([body[0] ^ 1]) + body[1:]) is Taken.CORRUPT
    assert assembler.corrupt == 1
    request = assembler.missing()
    assert request is not None
    assert (0, 0) in request.tiles


def test_a_decoder_that_fails_leaves_the_tile_missing() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(1))
    assembler.receive(frame.header)
    header, _ = sender.part(frame, Tile(0, 0, 0))
    with pytest.raises(ValueError, match="reshape"):
        assembler.receive(header, b"short")
    request = assembler.missing()
    assert request is not None
    assert len(request.tiles) == 12


def test_pixels_do_not_change_with_the_buffer_that_they_came_in() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(7))
    assembler.receive(frame.header)
    for tile in frame.dirty:
        header, body = sender.part(frame, tile)
        assert body is not None
        slot = bytearray(body)
        assembler.receive(header, slot)
        slot[:] = bytes(len(slot))  # the next one is written there
    picture = assembler.take()
    assert picture is not None
    assert (picture.pixels == 7).all()


def test_a_whole_that_does_not_have_the_senders_hash_is_asked_for_again_and_counted() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(7))
    fill(assembler, sender)
    lie = Settled(
        **{name: getattr(settled(frame), name) for name in Settled.__struct_fields__[:-2]},
        sha256="0" * 64,
    )
    assembler.receive(lie)
    picture = assembler.take()
    assert picture is not None
    assert picture.verified is False
    assert assembler.mismatches == 1
    request = assembler.missing()
    assert request is not None
    assert request.whole
    assert request.exact
    assert len(request.tiles) == 12
    assembler.receive(settled(frame))
    for message in sender.answer(request):
        assembler.receive(*message)
    picture = assembler.take()
    assert picture is not None
    assert picture.verified
    assert assembler.missing() is None


def test_after_settling_tiles_that_are_not_exact_are_missing() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(7))
    fill(assembler, sender, LOSSY)
    picture = assembler.take()
    assert picture is not None
    assert not picture.exact
    assert assembler.missing() is None
    assembler.receive(settled(frame))
    request = assembler.missing()
    assert request is not None
    assert request.exact
    assert len(request.tiles) == 12
    fill(assembler, sender)
    picture = assembler.take()
    assert picture is not None
    assert picture.exact
    assert picture.verified


@pytest.mark.req("001.8")
def test_what_the_cache_has_need_not_come_again() -> None:
    sender = Sender()
    cache = TileCache(10_000)
    assembler = Assembler(decode, cache=cache)
    truth = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    sender.show(truth)
    fill(assembler, sender)
    assembler.take()
    sender.show(truth[::-1].copy())  # pan away
    fill(assembler, sender)
    assembler.take()
    frame = sender.show(truth.copy())  # and back
    assembler.receive(frame.header)
    for tile in frame.dirty:
        assert assembler.receive(*sender.part(frame, tile, inline=False)) is Taken.NEW
    picture = assembler.take()
    assert picture is not None
    np.testing.assert_array_equal(picture.pixels, truth)
    assert cache.hits == 12


def test_what_the_cache_does_not_have_is_missing() -> None:
    sender = Sender()
    assembler = Assembler(decode)
    frame = sender.show(plane(1))
    assembler.receive(frame.header)
    part = sender.part(frame, Tile(0, 0, 0), inline=False)
    assert assembler.receive(*part) is Taken.NOT_CACHED
    request = assembler.missing()
    assert request is not None
    assert (0, 0) in request.tiles


def test_what_cannot_be_taken_in_is_refused() -> None:
    sender = Sender()
    assembler = Assembler(decode, lane="other")
    frame = sender.show(plane(1))
    with pytest.raises(TileError, match="lane 'other' takes no FrameHeader of lane ''"):
        assembler.receive(frame.header)
    with pytest.raises(TileError, match="TileRequest"):
        assembler.receive(TileRequest(lane="other"))
    with pytest.raises(TileError, match="larger than 100"):
        Assembler(decode, most_bytes=100).receive(frame.header)
    assembler = Assembler(decode)
    assembler.receive(frame.header)
    with pytest.raises(TileError, match="did not come"):
        assembler.receive(sender.part(frame, Tile(0, 0, 0))[0])
    first = Assembler(decode).missing()
    assert first is not None
    assert first.whole


def test_headers_alone_allocate_nothing() -> None:
    header = FrameHeader(
        epoch="e",
        lane="",
        frame=0,
        state_version=0,
        raster=Sender().show(plane(0)).header.raster,
        changed=(0,) * 12,
    )
    assembler = Assembler(decode)
    assembler.receive(header)
    assert assembler.take() is None
