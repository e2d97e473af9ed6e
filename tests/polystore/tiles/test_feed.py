from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polystore import TileError
from polystore.testing import FakeClock
from polystore.tiles import (
    EXACT,
    Assembler,
    ClientTiles,
    Contrast,
    FrameHeader,
    Ladder,
    Parcel,
    PartHeader,
    Parts,
    Rung,
    Samples,
    Settled,
    Taken,
    TileCache,
    TileFeed,
    TileRequest,
    composite,
    from_header,
    to_header,
)

HEIGHT, WIDTH, TILE = 23, 30, 8  # 3 x 4 tiles, cut at both edges
LOSSY = Rung(name="lossy", codec="raw", quality=50, frame_bytes=HEIGHT * WIDTH)
HALF = Rung(name="half", codec="raw", quality=20, frame_bytes=HEIGHT * WIDTH / 4, level=1)
EXACTLY = Rung(name="exact", codec="raw", quality=EXACT, frame_bytes=HEIGHT * WIDTH)


def encode(rung: Rung, pixels: Any) -> bytes:
    lossy = pixels if rung.quality == EXACT else pixels & 0xFC
    return bytes(lossy.tobytes())


def decode(header: PartHeader, body: Any) -> Any:
    shape = header.raster.shape_of(header.area)
    return np.frombuffer(body, header.raster.dtype).reshape(shape)


def picture(seed: int = 0, shape: tuple[int, ...] = (HEIGHT, WIDTH, 4)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def feed(**options: Any) -> tuple[TileFeed, FakeClock]:
    clock = FakeClock()
    options = {"exact": EXACTLY, "epoch": "e", "tile_px": TILE, "clock": clock, **options}
    return TileFeed(options.pop("encode", encode), **options), clock


def ladder(clock: FakeClock, *rungs: Rung) -> Ladder:
    return Ladder(rungs or (LOSSY,), clock)


def deliver(parcel: Parcel, assembler: Assembler) -> list[Taken]:
    """Through the wire and back."""
    return [
        assembler.receive(from_header(to_header(message)), body)
        for message, body in parcel.messages
    ]


def drain(tiles: TileFeed, client: str, *assemblers: Assembler) -> list[Parcel]:
    parcels = []
    while (parcel := tiles.take(client)) is not None:
        parcels.append(parcel)
        for assembler in assemblers:
            deliver(parcel, assembler)
    return parcels


def parts(parcel: Parcel) -> list[PartHeader]:
    return [message for message, _ in parcel.messages if isinstance(message, PartHeader)]


@pytest.mark.req("001.8")
def test_unchanged_tiles_are_not_sent() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock))
    first = picture()
    tiles.show(first, state_version=0)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == HEIGHT * WIDTH * 3
    second = first.copy()
    second[9, 9] ^= 255
    tiles.show(second, state_version=1)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == TILE * TILE * 3
    assert [(part.row, part.column) for part in parts(parcel)] == [(1, 1)]
    tiles.show(second.copy(), state_version=2)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == 0  # the header alone, which names the state
    ((header, _),) = parcel.messages
    assert isinstance(header, FrameHeader)
    assert header.state_version == 2
    assert tiles.take("a") is None


@pytest.mark.req("001.8")
def test_what_comes_back_is_taken_from_the_clients_cache() -> None:
    tiles, clock = feed()
    cache = TileCache(100_000)
    assembler = Assembler(decode, cache=cache)
    tiles.join("a", ladder(clock), cache_bytes=cache.most_bytes)
    here, there = picture(1), picture(2)
    for version, view in enumerate((here, there)):
        tiles.show(view, state_version=version)
        drain(tiles, "a", assembler)
    before = dict(tiles.encodes.encodes)
    tiles.show(here.copy(), state_version=2)  # panned back
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == 0
    deliver(parcel, assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.header.state_version == 2
    np.testing.assert_array_equal(shown.pixels, here[..., :3] & 0xFC)
    assert cache.hits == 12
    assert dict(tiles.encodes.encodes) == before
    assert cache.nbytes <= cache.most_bytes


def test_a_cache_that_has_lost_what_it_is_thought_to_have_is_sent_it() -> None:
    tiles, clock = feed()
    cache = TileCache(100_000)
    assembler = Assembler(decode, cache=cache)
    tiles.join("a", ladder(clock), cache_bytes=cache.most_bytes)
    here, there = picture(1), picture(2)
    for version, view in enumerate((here, there)):
        tiles.show(view, state_version=version)
        drain(tiles, "a", assembler)
    cache.clear()
    tiles.show(here.copy(), state_version=2)
    parcel = tiles.take("a")
    assert parcel is not None
    assert deliver(parcel, assembler)[1:] == [Taken.NOT_CACHED] * 12
    request = assembler.missing()
    assert request is not None
    tiles.asked("a", request)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == HEIGHT * WIDTH * 3
    deliver(parcel, assembler)
    assert assembler.complete


@pytest.mark.req("B.5")
def test_a_frame_that_is_replaced_is_never_encoded() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock), parts=Parts.WHOLE)
    shown = 0
    for version in range(50):
        tiles.show(picture(version), state_version=version)
        if version % 7 == 0:
            shown += tiles.take("a") is not None
    assert shown == 8
    assert tiles.encodes.encodes == {"lossy": shown}
    assert tiles.superseded("a") == 50 - shown


@pytest.mark.req("B.5")
def test_clients_on_one_rung_share_an_encode_and_the_slow_cost_nothing() -> None:
    tiles, clock = feed()
    for name in ("fast", "also fast", "slow", "other"):
        rungs = (HALF,) if name == "other" else (LOSSY,)
        tiles.join(name, ladder(clock, *rungs), parts=Parts.WHOLE)
    taken: dict[str, set[int]] = {"lossy": set(), "half": set()}
    for version in range(20):
        tiles.show(picture(version), state_version=version)
        for name in ("fast", "also fast", "other"):
            parcel = tiles.take(name)
            assert parcel is not None
            taken[parcel.rung].add(parcel.frame)
    parcel = tiles.take("slow")
    assert parcel is not None
    assert parcel.frame == 19
    assert tiles.encodes.encodes == {rung: len(frames) for rung, frames in taken.items()}
    assert tiles.encodes.shared == 21
    assert tiles.superseded("slow") == 19


def test_what_is_kept_of_encodes_is_bounded() -> None:
    tiles, clock = feed(most_encoded_bytes=5000)
    tiles.join("a", ladder(clock))
    for version in range(20):
        tiles.show(picture(version), state_version=version)
        tiles.take("a")
        assert tiles.encodes.nbytes <= 5000


@pytest.mark.parametrize("samples", [Samples.RGBA, Samples.BGRA])
@pytest.mark.req("B.5", "001.2")
def test_after_a_movement_the_client_has_the_senders_frame_bit_for_bit(samples: Samples) -> None:
    tiles, clock = feed()
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock))
    last = picture(3)
    for version, view in enumerate((picture(1), picture(2), last)):
        tiles.show(view[::-1], state_version=version, samples=samples)
        drain(tiles, "a", assembler)
        clock.advance(0.1)
    assert tiles.take("a") is None
    clock.advance(0.06)
    parcels = drain(tiles, "a", assembler)
    assert len(parcels) == 13  # each tile by itself, and the hash
    settled = parcels[-1].messages[0][0]
    assert isinstance(settled, Settled)
    truth = last[::-1, :, :3] if samples is Samples.RGBA else last[::-1, :, 2::-1]
    shown = assembler.take()
    assert shown is not None
    assert shown.verified
    assert settled.state_version == 2
    assert settled.sha256 == hashlib.sha256(truth.tobytes()).hexdigest()
    assert hashlib.sha256(shown.pixels.tobytes()).hexdigest() == settled.sha256
    assert tiles.take("a") is None


def test_settling_begins_at_the_cursor_and_goes_outwards() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock))
    tiles.show(picture(), state_version=0)
    tiles.take("a")
    tiles.point("a", 20, 10)
    clock.advance(1)
    sent = [part for each in drain(tiles, "a") for part in parts(each)]
    order = [(part.row, part.column) for part in sent]
    assert order[:5] == [(2, 1), (2, 0), (1, 1), (1, 0), (2, 2)]
    distances = [part.area.distance(20, 10) for part in sent]
    assert distances == sorted(distances)
    assert len(sent) == 12


def test_the_next_change_cancels_settling() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock))
    tiles.show(picture(0), state_version=0)
    tiles.take("a")
    clock.advance(1)
    for _ in range(3):
        assert tiles.take("a") is not None
    tiles.changed()  # input came; what it shows is not drawn yet
    assert tiles.take("a") is None
    clock.advance(0.1)
    changed = picture(0)
    changed[:8, :8] ^= 255  # the tile that is farthest from being sent
    tiles.show(changed, state_version=1)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.rung == "lossy"
    clock.advance(0.1)
    assert tiles.take("a") is None
    assert tiles.deadline("a") == pytest.approx(clock() + 0.05)
    clock.advance(0.05)
    # what is held exactly from before, and has not changed, is not sent again
    exactly = [part for each in drain(tiles, "a") for part in parts(each)]
    assert len(exactly) == 12 - 3
    assert tiles.encodes.encodes["exact"] == 12


def test_a_hash_that_does_not_match_brings_the_whole_frame_again() -> None:
    wrong = [True]

    def faulty(rung: Rung, pixels: Any) -> bytes:
        body = bytearray(encode(rung, pixels))
        if rung.quality == EXACT and wrong:
            wrong.clear()
            body[0] ^= 1
        return bytes(body)

    tiles, clock = feed(encode=faulty, most_encoded_bytes=0)
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock))
    tiles.show(picture(), state_version=0)
    clock.advance(1)
    drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.verified is False
    assert assembler.mismatches == 1
    request = assembler.missing()
    assert request is not None
    assert request.whole
    tiles.asked("a", request)
    drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.verified
    np.testing.assert_array_equal(shown.pixels, picture()[..., :3])


def test_a_client_at_half_size_settles_at_full_size_and_keeps_it_while_nothing_moves() -> None:
    tiles, clock = feed()
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock, HALF))
    tiles.show(picture(1), state_version=0)
    drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.pixels.shape == (12, 15, 3)
    clock.advance(1)
    drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.verified
    np.testing.assert_array_equal(shown.pixels, picture(1)[..., :3])
    tiles.show(picture(1), state_version=1)  # another state that looks the same
    parcels = drain(tiles, "a", assembler)
    assert sum(each.nbytes for each in parcels) == 0
    shown = assembler.take()
    assert shown is not None
    assert (shown.header.state_version, shown.exact, shown.verified) == (1, True, True)


def test_a_stroke_does_not_take_a_settled_picture_back_to_half_size() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock, HALF))
    tiles.show(picture(1), state_version=0)
    clock.advance(1)
    drain(tiles, "a")
    stroke = picture(1)
    stroke[9, 9] ^= 255
    tiles.show(stroke, state_version=1)
    parcel = tiles.take("a")
    assert parcel is not None
    assert [part.rect for part in parts(parcel)] == [(8, 8, 8, 8)]
    assert parts(parcel)[0].raster.level == 0
    tiles.show(picture(2), state_version=2)
    parcel = tiles.take("a")
    assert parcel is not None
    assert {part.raster.level for part in parts(parcel)} == {1}


def test_a_frame_drawn_coarsely_is_settled_once_it_is_drawn_in_full() -> None:
    tiles, clock = feed()
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock))
    coarse = picture(1, (12, 15, 4))
    tiles.show(coarse, state_version=4, level=1, full_size=(HEIGHT, WIDTH))
    drain(tiles, "a", assembler)
    deadline = tiles.deadline("a")
    assert deadline == clock() + 0.15
    clock.advance(0.15)
    assert tiles.take("a") is None
    tiles.show(picture(2), state_version=4)  # the same state, not a change
    parcels = drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.verified
    assert {each.rung for each in parcels} == {"lossy", "exact"}


@pytest.mark.parametrize(
    ("how", "count"), [(Parts.RECTANGLE, 1), (Parts.WHOLE, 1), (Parts.TILES, 2)]
)
def test_clients_get_what_changed_in_the_parts_that_they_take(how: Parts, count: int) -> None:
    tiles, clock = feed()
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock), parts=how)
    tiles.show(picture(), state_version=0)
    drain(tiles, "a", assembler)
    changed = picture()
    changed[0, 10] ^= 255
    changed[10, 20] ^= 255
    tiles.show(changed, state_version=1)
    parcel = tiles.take("a")
    assert parcel is not None
    assert len(parts(parcel)) == count
    rects = {part.rect for part in parts(parcel)}
    assert (
        rects
        == {
            Parts.RECTANGLE: {(0, 8, 16, 16)},
            Parts.WHOLE: {(0, 0, HEIGHT, WIDTH)},
            Parts.TILES: {(0, 8, 8, 8), (8, 16, 8, 8)},
        }[how]
    )
    deliver(parcel, assembler)
    clock.advance(1)
    drain(tiles, "a", assembler)
    shown = assembler.take()
    assert shown is not None
    assert shown.verified
    np.testing.assert_array_equal(shown.pixels, changed[..., :3])


@pytest.mark.req("001.6")
def test_a_rung_may_send_the_whole_frame_where_most_of_it_changed() -> None:
    rung = Rung(name="r", codec="raw", quality=50, frame_bytes=2000, whole_above=0.5)
    tiles, clock = feed()
    tiles.join("a", ladder(clock, rung))
    tiles.show(picture(1), state_version=0)
    parcel = tiles.take("a")
    assert parcel is not None
    assert len(parts(parcel)) == 1
    changed = picture(1)
    changed[0, 0] ^= 255
    tiles.show(changed, state_version=1)
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == TILE * TILE * 3


@pytest.mark.req("B.2")
def test_contrast_and_picking_on_raw_planes_need_nothing_of_the_sender() -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 65536, (2, HEIGHT, WIDTH), dtype=np.uint16)
    raw = Rung(name="raw", codec="raw", quality=EXACT, frame_bytes=2 * HEIGHT * WIDTH)
    held = []
    asked = 0
    for channel, plane in enumerate(planes):
        clock = FakeClock()
        calls: list[str] = []

        def counting(rung: Rung, pixels: Any, calls: list[str] = calls) -> bytes:
            calls.append(rung.name)
            return encode(rung, pixels)

        lane = f"raw {channel}"
        tiles = TileFeed(counting, exact=EXACTLY, epoch="e", lane=lane, tile_px=TILE, clock=clock)
        assembler = Assembler(decode, lane=lane)
        tiles.join("a", Ladder([raw], clock))
        tiles.show(plane, state_version=0, samples=Samples.SINGLE)
        clock.advance(1)
        drain(tiles, "a", assembler)
        shown = assembler.take()
        assert shown is not None
        assert shown.verified
        held.append(shown.pixels)
        asked += len(calls)
    assert asked == 24  # each tile of each channel, once
    for limits in ((0, 65535), (100, 2000), (30_000, 30_001)):
        contrasts = [Contrast(limits=limits), Contrast(limits=limits, color=(0, 255, 0))]
        np.testing.assert_array_equal(
            composite(held, contrasts), composite(list(planes), contrasts)
        )
    for y, x in ((0, 0), (22, 29), (11, 7)):
        assert [plane[y, x] for plane in held] == [plane[y, x] for plane in planes]
    assert tiles.take("a") is None


def test_an_encoder_that_fails_has_sent_nothing() -> None:
    fails = [True]

    def failing(rung: Rung, pixels: Any) -> bytes:
        if fails:
            raise RuntimeError("no memory left in the encoder")
        return encode(rung, pixels)

    tiles, clock = feed(encode=failing)
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock))
    tiles.show(picture(), state_version=0)
    with pytest.raises(RuntimeError, match="no memory"):
        tiles.take("a")
    fails.clear()
    drain(tiles, "a", assembler)
    assert assembler.complete


def test_a_client_that_came_again_begins_anew() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock))
    tiles.show(picture(), state_version=0)
    tiles.take("a")
    tiles.join("a", ladder(clock))
    parcel = tiles.take("a")
    assert parcel is not None
    assert parcel.nbytes == HEIGHT * WIDTH * 3
    tiles.leave("a")
    tiles.leave("a")
    with pytest.raises(KeyError):
        tiles.take("a")


def test_who_has_been_sent_everything_and_its_hash_waits_for_nothing() -> None:
    tiles, clock = feed()
    assembler = Assembler(decode)
    tiles.join("a", ladder(clock))
    tiles.show(picture(1), state_version=1)
    drain(tiles, "a", assembler)
    due = tiles.deadline("a")
    assert due is not None
    clock.advance(due - clock())
    drain(tiles, "a", assembler)
    assert assembler.take() is not None
    assert tiles.deadline("a") is None
    tiles.changed()  # something is about to show: the proof is given anew
    assert tiles.deadline("a") is not None
    clock.advance(1)
    drain(tiles, "a", assembler)
    assert tiles.deadline("a") is None
    tiles.asked("a", TileRequest(epoch="e", whole=True))
    assert tiles.deadline("a") == clock()


def test_before_the_first_frame_there_is_nothing() -> None:
    tiles, clock = feed()
    tiles.join("a", ladder(clock))
    assert tiles.newest is None
    assert tiles.take("a") is None
    assert tiles.deadline("a") is None


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="is not exact"):
        feed(exact=LOSSY)
    tiles, clock = feed()
    tiles.join("a", ladder(clock, HALF))
    tiles.show(np.zeros((8, 8), "f2"), state_version=0, samples=Samples.SINGLE)
    with pytest.raises(TileError, match="not sent coarser"):
        tiles.take("a")
    with pytest.raises(ValueError, match="after the header"):
        ClientTiles().sent(
            PartHeader(
                epoch="e",
                lane="",
                frame=0,
                state_version=0,
                raster=tiles.newest.header.raster,  # type: ignore[union-attr]  # it was shown
                row=0,
                column=0,
                rect=(0, 0, 8, 8),
                quality=0,
                codec="",
            )
        )


class FeedMachine(RuleBasedStateMachine):
    """A feed and clients whose links lose, repeat and reorder what they carry."""

    @initialize(
        kinds=st.lists(
            st.tuples(
                st.sampled_from(list(Parts)),
                st.sampled_from([(LOSSY,), (HALF, LOSSY), (HALF,)]),
                st.sampled_from([0, 600, 50_000]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    def join(self, kinds: list[tuple[Parts, tuple[Rung, ...], int]]) -> None:
        self.clock = FakeClock()
        self.encoded: list[str] = []
        self.tiles = TileFeed(
            self._encode, exact=EXACTLY, epoch="e", tile_px=TILE, clock=self.clock
        )
        self.frames: list[Any] = []
        self.pixels = picture()
        self.clients: dict[str, Assembler] = {}
        self.under_way: dict[str, list[tuple[Any, Any]]] = {}
        self.last: dict[str, int] = {}
        self.served: set[tuple[Any, ...]] = set()
        for number, (how, rungs, cache_bytes) in enumerate(kinds):
            name = str(number)
            cache = TileCache(cache_bytes) if cache_bytes else None
            self.clients[name] = Assembler(decode, cache=cache)
            self.under_way[name] = []
            self.last[name] = -1
            self.tiles.join(name, Ladder(rungs, self.clock), parts=how, cache_bytes=cache_bytes)

    def _name(self, number: int) -> str:
        return str(number % len(self.clients))

    def _encode(self, rung: Rung, pixels: Any) -> bytes:
        self.encoded.append(rung.name)
        return encode(rung, pixels)

    @rule(
        spots=st.lists(
            st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), max_size=3
        ),
        back=st.booleans(),
    )
    def show(self, spots: list[tuple[int, int]], back: bool) -> None:
        pixels = (self.frames[0] if back and self.frames else self.pixels).copy()
        for y, x in spots:
            pixels[y, x] ^= 85
        encoded = len(self.encoded)
        self.tiles.show(pixels, state_version=len(self.frames))
        assert len(self.encoded) == encoded
        self.frames.append(pixels)
        self.pixels = pixels

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.2]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(number=st.integers(0, 2), times=st.integers(1, 4))
    def take(self, number: int, times: int) -> None:
        name = self._name(number)
        for _ in range(times):
            parcel = self.tiles.take(name)
            if parcel is not None:
                assert parcel.frame == len(self.frames) - 1
                self.under_way[name] += parcel.messages

    @rule(number=st.integers(0, 2), data=st.data())
    def carry(self, number: int, data: st.DataObject) -> None:
        name = self._name(number)
        there = self.under_way[name]
        if there:
            places = st.integers(0, len(there) - 1)
            lost = data.draw(st.sets(places, max_size=3))
            order = [at for at in range(len(there)) if at not in lost]
            order += data.draw(st.lists(places, max_size=3))
            for at in data.draw(st.just(order) | st.permutations(order)):
                self.clients[name].receive(*there[at])
            if data.draw(st.booleans()):
                there.clear()

    @rule(number=st.integers(0, 2))
    def carry_all(self, number: int) -> None:
        """Carry everything, so that frames come together also while others are shown."""
        name = self._name(number)
        for message in self.under_way[name]:
            self.clients[name].receive(*message)
        self.under_way[name].clear()

    @rule(number=st.integers(0, 2))
    def ask(self, number: int) -> None:
        name = self._name(number)
        request = self.clients[name].missing()
        if request is not None:
            self.tiles.asked(name, request)

    @invariant()
    def no_picture_is_wrong(self) -> None:
        for name, assembler in getattr(self, "clients", {}).items():
            shown = assembler.take()
            if shown is None:
                continue
            assert shown.header.frame >= self.last[name]
            self.last[name] = shown.header.frame
            assert shown.verified is not False
            truth = self.frames[shown.header.frame][..., :3]
            if shown.header.raster.level == 0:
                assert (shown.pixels >> 2 == truth >> 2).all()
                if shown.exact:
                    np.testing.assert_array_equal(shown.pixels, truth)

    def teardown(self) -> None:
        if not getattr(self, "frames", None):
            return
        self.clock.advance(1)
        for name, assembler in self.clients.items():
            for message in self.under_way[name]:
                assembler.receive(*message)
            for _ in range(4):  # from now on nothing is lost
                drain(self.tiles, name, assembler)
                request = assembler.missing()
                if request is None:
                    break
                self.tiles.asked(name, request)
            else:
                raise AssertionError(f"still missing: {request}")
            self.no_picture_is_wrong()
            shown = assembler.shown
            assert shown is not None
            assert (shown.frame, shown.raster.level) == (len(self.frames) - 1, 0)
            assert assembler.mismatches == assembler.corrupt == 0


FeedMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFeed = FeedMachine.TestCase
