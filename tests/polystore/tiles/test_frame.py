from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from polystore import TileError
from polystore.tiles import FrameLedger, Samples, Tile, content_hash


def picture(seed: int = 0, shape: tuple[int, ...] = (40, 50, 4)) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_frame_names_the_state_it_shows_and_what_changed_when() -> None:
    ledger = FrameLedger("e", lane="view", tile_px=32)
    first = picture()
    frame = ledger.show(first, state_version=5)
    assert (frame.header.frame, frame.header.state_version) == (0, 5)
    assert frame.header.changed == (0, 0, 0, 0)
    assert len(frame.dirty) == 4
    second = first.copy()
    second[35, 5, 0] ^= 1
    frame = ledger.show(second, state_version=6)
    assert frame.dirty == (Tile(0, 1, 0),)
    assert frame.header.changed == (0, 0, 1, 0)
    frame = ledger.show(second.copy(), state_version=7)
    assert frame.dirty == ()
    assert (frame.header.frame, frame.header.changed) == (2, (0, 0, 1, 0))
    assert ledger.newest is frame
    assert not frame.pixels.flags.writeable


@pytest.mark.parametrize("samples", [Samples.RGB, Samples.RGBA, Samples.BGR, Samples.BGRA])
def test_what_is_hashed_and_sent_is_packed_top_down_rgb(samples: Samples) -> None:
    truth = picture(shape=(40, 50, 3))
    stored = np.zeros((40, 50, len(samples.value)), np.uint8)
    for at, name in enumerate(samples.value):
        stored[..., at] = 255 if name == "a" else truth[..., "rgb".index(name)]
    bottom_up = stored[::-1].copy()  # as a framebuffer is read
    frame = FrameLedger("e").show(bottom_up[::-1], state_version=0, samples=samples)
    np.testing.assert_array_equal(frame.cut(), truth)
    assert content_hash(frame.cut()) == hashlib.sha256(truth.tobytes()).hexdigest()


def test_values_travel_little_endian_whatever_their_order_in_memory() -> None:
    plane = np.arange(20, dtype=">u2").reshape(4, 5)
    frame = FrameLedger("e").show(plane, state_version=0, samples=Samples.SINGLE)
    assert frame.header.raster.dtype == "<u2"
    assert frame.cut().dtype == np.dtype("<u2")
    np.testing.assert_array_equal(frame.cut(), plane)
    assert content_hash(plane) == hashlib.sha256(plane.astype("<u2").tobytes()).hexdigest()


def test_everything_is_dirty_after_a_change_of_size_or_level() -> None:
    ledger = FrameLedger("e", tile_px=32)
    ledger.show(picture(), state_version=0)
    half = ledger.show(picture(shape=(20, 25, 4)), state_version=1, level=1)
    assert half.header.raster.level == 1
    assert half.header.raster.grid.size() == (40, 50)
    assert half.header.changed == (1,)
    # what the buffer of the last full frame holds meanwhile is not known
    full = ledger.show(picture(), state_version=1)
    assert full.header.changed == (2, 2, 2, 2)
    odd = ledger.show(picture(shape=(20, 25, 4)), state_version=1, level=1, full_size=(39, 49))
    assert odd.header.raster.grid.size() == (39, 49)


def test_a_frame_in_the_memory_of_the_one_before_is_refused() -> None:
    ledger = FrameLedger("e")
    buffer = picture()
    ledger.show(buffer, state_version=0)
    buffer[:] = 0
    with pytest.raises(TileError, match="another buffer"):
        ledger.show(buffer, state_version=1)


def test_a_state_that_goes_back_is_refused() -> None:
    ledger = FrameLedger("e")
    ledger.show(picture(), state_version=4)
    with pytest.raises(TileError, match="state 3 after one of 4"):
        ledger.show(picture(), state_version=3)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (picture(shape=(4, 5, 3)), {}),
        (picture(shape=(4, 5)), {}),
        (picture(shape=(4, 10, 4))[:, ::2], {}),
        (picture().astype("u2"), {}),
        (picture(), {"samples": Samples.SINGLE}),
        (np.zeros((4, 4), "c8"), {"samples": Samples.SINGLE}),
        (picture(), {"level": 1, "full_size": (40, 50)}),
        (picture(shape=(0, 5, 4)), {}),
    ],
)
def test_pixels_that_are_no_frame_are_refused(pixels: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TileError, match=r"pixels of"):
        FrameLedger("e").show(pixels, state_version=0, **options)
