from __future__ import annotations

import array
import contextlib
import ctypes
import dataclasses
import enum
import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import DescriptorError, FrameError
from zmqruntime.router._buffers import BufferEntry, pack, unpack

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CODES = "bBhHiIqQfd"

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def through(value: object, *, cuts: list[int] | None = None) -> Any:
    """Send a value through its parts, with the bytes of its buffers cut in other places."""
    packed = pack(value)
    table = msgspec.msgpack.decode(
        msgspec.msgpack.encode(packed.table), type=tuple[BufferEntry, ...]
    )
    frames: list[bytes] = [bytes(view) for view in packed.views]
    if cuts is not None:
        whole = b"".join(frames)
        places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
        frames = [whole[a:b] for a, b in itertools.pairwise(places)]
    return unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(packed.plain)), table, frames)


@PATIENT
@given(plain, st.lists(st.integers(0, 2**16), max_size=5))
def test_plain_values_and_bytes_come_back_however_frames_are_cut(
    value: object, cuts: list[int]
) -> None:
    assert through(value) == value
    assert through(value, cuts=cuts) == value


@PATIENT
@given(
    st.sampled_from(CODES),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**16), max_size=3),
)
def test_arrays_come_back_with_format_and_shape(
    code: str, shape: list[int], cuts: list[int]
) -> None:
    count = 1
    for length in shape:
        count *= length
    data = array.array(code, (number % 100 for number in range(count)))
    view = memoryview(data).cast("B").cast(code, shape)  # type: ignore[call-overload]
    for back in (through([view])[0], through({"deep": [1, view]}, cuts=cuts)["deep"][1]):
        assert (back.format, back.shape, back.tobytes()) == (code, tuple(shape), data.tobytes())
        assert back.readonly


def test_a_frame_that_holds_a_buffer_alone_is_not_copied() -> None:
    packed = pack(array.array("H", range(100)))
    frame = bytes(packed.views[0])
    assert unpack(None, packed.table, [frame]).obj is frame


def test_what_is_packed_looks_at_the_memory_of_the_value() -> None:
    data = bytearray(1000)
    packed = pack(data)
    data[5] = 7
    assert packed.views[0][5] == 7


def test_strided_memory_is_laid_out_in_order() -> None:
    view = memoryview(array.array("H", range(10)))[::2]
    assert through(view).tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("shape", "kind"), [((0,), ctypes.c_double), ((3, 0), ctypes.c_uint16), ((0, 4), ctypes.c_int8)]
)
def test_arrays_without_items_keep_their_shape(shape: tuple[int, ...], kind: Any) -> None:
    for length in reversed(shape):
        kind = kind * length
    back = through(kind())
    assert (back.shape, back.itemsize) == (shape, memoryview(kind()).itemsize)


def test_a_number_in_a_buffer_comes_back_as_a_number() -> None:
    assert through(ctypes.c_double(2.5)) == 2.5
    assert through({"n": ctypes.c_uint16(7)}) == {"n": 7}


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Plain(enum.Enum):
    ONE = "one"


@dataclasses.dataclass
class Position:
    x: float
    tags: tuple[str, ...]


def test_dataclasses_enums_and_tuples_become_plain() -> None:
    value = {"p": Position(1.5, ("a", "b")), "c": Colour.RED, "l": Level.HIGH, "e": Plain.ONE}
    assert through(value) == {"p": {"x": 1.5, "tags": ["a", "b"]}, "c": "red", "l": 3, "e": "one"}
    packed = pack(value)
    assert type(packed.plain["c"]) is str
    assert type(packed.plain["l"]) is int


def test_bytes_stay_bytes_and_bytearrays_become_views() -> None:
    back = through([b"ab", bytearray(b"cd"), memoryview(b"ef"), b""])
    assert back[0] == b"ab"
    assert type(back[0]) is bytes
    assert (type(back[1]), back[1].tobytes()) == (memoryview, b"cd")
    assert back[2].tobytes() == b"ef"
    assert back[3] == b""


class Foreign(ctypes.BigEndianStructure):
    _fields_ = [("x", ctypes.c_uint16)]


itself: list[object] = []
itself.append(itself)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "object"),
        ({1: "one"}, "keys are text"),
        ([0, {"a": {2, object()}}], r"\[1\]\['a'\]"),
        (lambda: None, "function"),
        (Foreign(), "format"),
        (ctypes.py_object(3), "format"),
        ((ctypes.c_uint16.__ctype_be__ * 2)(), "byte order"),
        (itself, "deeper"),
    ],
)
def test_what_cannot_travel_is_named_with_its_place(value: object, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        pack(value)


def entry(**fields: Any) -> BufferEntry:
    return msgspec.structs.replace(
        BufferEntry(at=(), format="<H", shape=(2,), itemsize=2), **fields
    )


@pytest.mark.req("F.27")
@pytest.mark.parametrize(
    "table",
    [
        [entry(format="O", itemsize=8, shape=(1,))],
        [entry(format="<O", itemsize=8, shape=(1,))],
        [entry(format="<P", itemsize=8, shape=(1,))],
        [entry(format="4s", itemsize=4, shape=(1,))],
        [entry(format="<Zd", itemsize=8, shape=(1,))],
        [entry(format="<H", itemsize=1, shape=(4,))],
        [entry(format=">H")],
        [entry(format="bytes", itemsize=2, shape=(2,))],
        [entry(format="bytes", itemsize=1, shape=(2, 2))],
        [entry(shape=(3,))],
        [entry(shape=(2**32, 2**32))],
        [entry(shape=(0, 2**32, 2**32, 2**32)), entry(at=("x",))],
        [entry(format="<e")],
        [entry(at=("there",))],
        [entry(at=("list", 5))],
        [entry(at=("list", -1))],
        [entry(at=("text", 0))],
        [entry(at=(0,))],
        [entry(at=("value",))],
        [entry(at=())],
    ],
)
def test_a_table_that_contradicts_its_frames_is_refused_before_anything_is_made(
    table: list[BufferEntry],
) -> None:
    with pytest.raises(DescriptorError):
        unpack({"list": [None], "text": "abc", "value": 1}, table, [struct.pack("<2H", 1, 2)])


def test_a_table_with_too_many_buffers_is_refused() -> None:
    with pytest.raises(DescriptorError, match="at most"):
        unpack(None, [entry(shape=(0,))] * 4001, [])


@PATIENT
@given(
    st.lists(
        st.builds(
            BufferEntry,
            at=st.lists(st.integers(-3, 3) | st.text(max_size=2), max_size=3).map(tuple),
            format=st.text(max_size=4) | st.sampled_from(["<H", "<d", "bytes", "<?"]),
            shape=st.lists(st.integers(0, 2**32), max_size=3).map(tuple),
            itemsize=st.integers(1, 8),
        ),
        max_size=3,
    ),
    plain,
    st.lists(st.binary(max_size=16), max_size=3),
)
def test_hostile_tables_are_read_or_refused_and_nothing_else(
    table: list[BufferEntry], value: object, frames: list[bytes]
) -> None:
    with contextlib.suppress(DescriptorError):
        unpack(value, table, frames)
