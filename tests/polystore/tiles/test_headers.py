from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import WireError, WireHeaderError, WireVersionError
from polystore.tiles import (
    FrameHeader,
    PartHeader,
    Raster,
    Rect,
    Settled,
    Tile,
    TileMessage,
    TileRequest,
    from_header,
    to_header,
)

RASTER = Raster(height=1080, width=1920)
HASH = "0" * 63 + "a"
PART = PartHeader(
    epoch="e",
    lane="view",
    frame=7,
    state_version=3,
    raster=RASTER,
    row=4,
    column=7,
    rect=(1024, 1792, 56, 128),
    quality=80,
    codec="jpeg",
    content=HASH,
)
FRAME = FrameHeader(
    epoch="e", lane="view", frame=7, state_version=3, raster=RASTER, changed=(7,) * 40
)
MESSAGES: list[TileMessage] = [
    PART,
    FRAME,
    Settled(epoch="e", lane="view", frame=7, state_version=3, raster=RASTER, sha256=HASH),
    TileRequest(epoch="e", lane="view", frame=7, tiles=((4, 7),), exact=True),
]


@pytest.mark.req("001.21")
def test_a_part_names_its_state_its_level_and_its_rectangle() -> None:
    header = to_header(PART)
    assert header["state_version"] == 3
    assert header["raster"]["level"] == 0
    assert (header["row"], header["column"]) == (4, 7)
    assert header["rect"] == [1024, 1792, 56, 128] or header["rect"] == (1024, 1792, 56, 128)
    assert PART.area == Rect(y=1024, x=1792, height=56, width=128)
    assert PART.tiles == (Tile(0, 4, 7),)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back_from_msgpack_and_from_json(message: TileMessage) -> None:
    header = to_header(message)
    assert from_header(msgspec.msgpack.decode(msgspec.msgpack.encode(header))) == message
    assert from_header(json.loads(json.dumps(header))) == message


def altered(message: TileMessage, **changes: Any) -> dict[str, Any]:
    return {**to_header(message), **changes}


RASTER_LIES: list[dict[str, Any]] = [
    {"height": 0},
    {"width": 70_000},
    {"level": 16},
    {"tile_px": 1},
    {"dtype": "|O8"},
    {"dtype": ">u2"},
    {"samples": 2},
    {"samples": 4},
]


@pytest.mark.parametrize(
    "header",
    [
        altered(PART, rect=[1024, 1792, 56, 129]),
        altered(PART, row=5),
        altered(PART, rows=2),
        altered(PART, quality=101),
        altered(PART, content=None, inline=False),
        altered(PART, content="zz"),
        altered(PART, frame=-1),
        altered(PART, frame=True),
        altered(PART, type="other"),
        altered(PART, surprise=1),
        altered(FRAME, changed=[7] * 39),
        altered(FRAME, changed=[8] * 40),
        altered(FRAME, epoch="x" * 300),
        *(altered(PART, raster={**to_header(PART)["raster"], **lie}) for lie in RASTER_LIES),
        {"v": 1},
    ],
)
def test_a_header_that_lies_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(WireHeaderError, match="cannot be read"):
        from_header(header)


def test_another_version_is_refused_by_its_number() -> None:
    with pytest.raises(WireVersionError, match="version 2"):
        from_header(altered(PART, v=2, whatever=0))
    for version in (None, True, 1.0, "1"):
        with pytest.raises(WireVersionError, match="is of version"):
            from_header(altered(PART, v=version))
    with pytest.raises(WireHeaderError, match="is a map"):
        from_header([])  # type: ignore[arg-type]  # what a wire may bring


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(
    message=st.sampled_from(MESSAGES),
    changes=st.dictionaries(st.sampled_from(sorted(to_header(PART))), VALUES, max_size=3),
)
def test_whatever_comes_is_a_message_or_a_typed_error(
    message: TileMessage, changes: dict[str, Any]
) -> None:
    try:
        read = from_header(altered(message, **changes))
    except WireError:
        return
    assert from_header(to_header(read)) == read
