"""What frames of version 3 say: regions of every kind, columns with units, provenance."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import (
    Components,
    Kind,
    Payload,
    PayloadError,
    Provenance,
    Region,
    RegionKind,
    Regions,
    Table,
    WireError,
    WireHeaderError,
    WireSizeError,
    decode,
    encode,
)
from polystore.testing import assert_equal
from polystore.testing.strategies import payloads, regions, tables

TRIANGLE = np.array([[0, 0], [0, 2], [2, 2]], np.float32)


def shapes() -> Payload:
    made = [
        Region(kind=RegionKind.POINT, label=1, rings=(TRIANGLE,)),
        Region(kind=RegionKind.POLYGON, label=2, rings=(TRIANGLE, TRIANGLE)),
        Region.ellipse(3, y=4, x=5, height=6, width=7),
        Region.from_mask(4, [[1, 0, 1], [1, 1, 1], [0, 0, 1]], top=1, left=2),
    ]
    table = Table(
        {"area": np.arange(4.0), "name": ("a", "b", "", "d")},
        {"area": "µm²"},
        {"name": np.array([False, False, True, False])},
    )
    data = Regions.from_regions(made, properties=table)
    return Payload(data=data, kind=Kind.REGIONS, components=Components(well="B03"), name="cells")


def lying(payload: Payload, array: str | None = None, **changes: Any) -> tuple[bytes, list[bytes]]:
    """Encode a payload, and change what its header says of one array or of itself."""
    header, buffers = encode(payload)
    fields = msgspec.msgpack.decode(header)
    target = fields
    if array is not None:
        (target,) = (each for each in fields["arrays"] if each["name"] == array)
    target.update(changes)
    return msgspec.msgpack.encode(fields), [bytes(buffer) for buffer in buffers]


def test_regions_and_columns_come_back_without_a_copy() -> None:
    payload = shapes()
    header, buffers = encode(payload)
    back = decode(header, buffers)
    assert_equal(back, payload)
    for name in ("vertices", "labels", "kinds", "rings", "offsets", "bits"):
        mine, theirs = getattr(back.regions, name), getattr(payload.regions, name)
        assert np.shares_memory(mine, theirs), name
        assert not mine.flags.writeable
    area = back.regions.properties["area"]
    assert isinstance(area, np.ndarray)
    assert np.shares_memory(area, np.asarray(payload.regions.properties["area"]))


@settings(max_examples=40, deadline=None)
@given(made=regions(), table=tables(), sources=st.lists(st.text(min_size=1, max_size=9)))
def test_everything_of_version_3_comes_back(
    made: Regions, table: Table, sources: list[str]
) -> None:
    provenance = Provenance(sources=tuple(sources), software="openhcs 0.1.0")
    for payload in (
        Payload(data=made, kind=Kind.REGIONS, provenance=provenance),
        Payload(data=table, kind=Kind.TABLE, units="px", provenance=provenance),
    ):
        assert_equal(decode(*encode(payload)), payload)


def test_the_oldest_version_that_can_say_it_is_written() -> None:
    def version(payload: Payload) -> int:
        number: int = msgspec.msgpack.decode(encode(payload)[0])["v"]
        return number

    polygons = Regions.from_polygons([TRIANGLE])
    column = {"area": np.zeros(2)}
    assert version(Payload(data=polygons, kind=Kind.REGIONS)) == 1
    assert version(Payload(data=Regions.from_polygons([]), kind=Kind.REGIONS)) == 1
    assert version(Payload(data=column, kind=Kind.TABLE)) == 1
    assert version(shapes()) == 3
    assert version(Payload(data=polygons.take([]), kind=Kind.REGIONS)) == 1
    named = Regions.from_polygons([TRIANGLE], properties=Table({"name": ("a",)}))
    assert version(Payload(data=named, kind=Kind.REGIONS)) == 3
    hollow = Regions.from_regions(
        [Region(kind=RegionKind.POLYGON, label=1, rings=(TRIANGLE, TRIANGLE))]
    )
    assert version(Payload(data=hollow, kind=Kind.REGIONS)) == 3
    assert version(Payload(data=Table(column, {"area": "µm²"}), kind=Kind.TABLE)) == 3
    some = {"area": np.array([True, False])}
    assert version(Payload(data=Table(column, {}, some), kind=Kind.TABLE)) == 3
    assert version(Payload(data=np.zeros((2, 2)), provenance=Provenance())) == 3
    assert version(Payload(data=np.zeros((2, 2)), run="7", units="counts")) == 1


class ArrayOfVersion2(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    codec: dict[str, Any] | None = None


class HeaderOfVersion2(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    kind: str
    arrays: tuple[ArrayOfVersion2, ...]
    components: dict[str, str | int] = {}
    name: str = ""
    axes: tuple[str, ...] = ()
    pixel_um: tuple[float, float] | None = None
    origin_um: tuple[float, float] | None = None
    units: str | None = None
    channel_name: str | None = None
    contrast_limits: tuple[float, float] | None = None
    run: str | None = None
    lossy: bool = False


@settings(max_examples=60, deadline=None)
@given(payload=payloads())
def test_a_reader_of_version_2_reads_what_it_knows_and_can_refuse_the_rest_by_its_number(
    payload: Payload,
) -> None:
    header, _ = encode(payload)
    version = msgspec.msgpack.decode(header)["v"]
    old = msgspec.msgpack.Decoder(HeaderOfVersion2)
    if version < 3:
        assert old.decode(header).kind == payload.kind
    elif payload.kind is not Kind.REGIONS or payload.provenance is not None:
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            old.decode(header)


@pytest.mark.parametrize(
    ("array", "changes", "error", "what"),
    [
        (None, {"v": 1}, WireHeaderError, "only 3 can"),
        (None, {"v": 2}, WireHeaderError, "only 3 can"),
        (None, {"kind": "table"}, WireHeaderError, "rows"),
        (None, {"kind": "image"}, WireHeaderError, "no column"),
        (None, {"made": {"sources": [""]}}, WireHeaderError, "sources"),
        (None, {"made": {"sources": ["x"] * 1025}}, WireHeaderError, "sources"),
        (None, {"made": {"software": "x" * 1025}}, WireHeaderError, "software"),
        (None, {"made": {"pickle": b""}}, WireHeaderError, "pickle"),
        (None, {"made": []}, WireHeaderError, "made"),
        ("vertices", {"name": "corners"}, WireHeaderError, "vertices"),
        ("vertices", {"dtype": "<f8"}, WireHeaderError, "bytes"),
        ("vertices", {"dtype": "<i4"}, WireHeaderError, "vertices"),
        ("vertices", {"shape": [2**40, 2]}, WireHeaderError, "shape"),
        ("vertices", {"shape": [26]}, WireHeaderError, "vertices"),
        ("vertices", {"unit": "px"}, WireHeaderError, "units"),
        ("vertices", {"unit": ""}, WireHeaderError, "unit"),
        ("offsets", {"shape": [3, 2]}, WireHeaderError, "offsets"),
        ("offsets", {"shape": [7]}, WireHeaderError, "56 bytes"),
        ("labels", {"missing": True}, WireHeaderError, "bit"),
        ("kinds", {"dtype": "|i1"}, WireHeaderError, "vertices"),
        ("bits", {"shape": [1]}, WireHeaderError, "1 bytes"),
        ("area", {"shape": [2, 2]}, WireHeaderError, "rows"),
        ("area", {"missing": True}, WireHeaderError, "bit"),
        ("area", {"name": "vertices"}, None, ""),
        ("area", {"name": "name"}, WireHeaderError, "twice"),
        ("area", {"name": ""}, WireHeaderError, "name"),
        ("area", {"name": "x" * 257}, WireHeaderError, "name"),
        ("area", {"unit": "x" * 257}, WireHeaderError, "unit"),
        ("name", {"missing": False}, WireHeaderError, "two buffers"),
        ("name", {"sizes": [40, 3, 2]}, WireHeaderError, "bit"),
        ("name", {"sizes": [40, 3, 1, 1]}, WireHeaderError, "sizes"),
        ("name", {"shape": [2**40]}, WireHeaderError, "shape"),
        ("name", {"shape": [5]}, WireHeaderError, "offsets"),
        ("name", {"dtype": "|u1"}, WireHeaderError, "2 buffers"),
        ("name", {"missing": 1}, WireHeaderError, "missing"),
    ],
)
def test_a_header_that_lies_about_regions_is_refused_before_anything_is_allocated(
    array: str | None, changes: dict[str, Any], error: type[WireError] | None, what: str
) -> None:
    header, buffers = lying(shapes(), array, **changes)
    tracemalloc.start()
    try:
        if error is None:
            decode(header, buffers)
        else:
            with pytest.raises(error, match=what):
                decode(header, buffers)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("array", "values", "what"),
    [
        ("offsets", [0, 3, 6, 2**62, 13, 15], "offsets"),
        ("offsets", [0, 3, 9, 6, 13, 15], "offsets"),
        ("offsets", [-1, 3, 6, 9, 13, 15], "offsets"),
        ("rings", [0, 1, 3, 4, 6], "rings"),
        ("rings", [0, 1, 1, 4, 5], "rings"),
        ("kinds", [0, 2, 4, 9], "kind"),
        ("kinds", [0, 2, 5, 5], "mask"),
        ("vertices", [np.nan] * 30, "finite"),
        ("vertices", [1e30] * 30, "mask|rectangle"),
    ],
)
def test_buffers_of_regions_that_lie_are_refused(array: str, values: list[Any], what: str) -> None:
    payload = shapes()
    header, buffers = encode(payload)
    names = [entry["name"] for entry in msgspec.msgpack.decode(header)["arrays"]]
    old = getattr(payload.regions, array)
    changed = [bytes(buffer) for buffer in buffers]
    changed[names.index(array)] = np.array(values, old.dtype).tobytes()
    with pytest.raises(WireError, match=what):
        decode(header, changed)


def test_a_mask_that_says_to_be_larger_than_its_bits_takes_no_memory() -> None:
    header, buffers = encode(shapes())
    vertices = np.frombuffer(buffers[0], np.float32).copy()
    vertices[-2:] = 2**22 + 0.5  # 2**44 pixels
    tracemalloc.start()
    try:
        with pytest.raises(WireHeaderError, match="do not fill"):
            decode(header, [vertices.tobytes(), *buffers[1:]])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_text_and_missing_bits_that_are_cut_are_refused() -> None:
    table = Table({"gene": ("TP53", "MYC")}, {}, {"gene": np.array([True, False])})
    header, buffers = encode(Payload(data=table, kind=Kind.TABLE))
    assert [buffer.nbytes for buffer in buffers] == [24, 3, 1]
    with pytest.raises(WireSizeError, match="buffer 2"):
        decode(header, [*buffers[:2], b""])
    with pytest.raises(WireSizeError, match="2 came"):
        decode(header, buffers[:2])


def test_more_properties_than_a_header_holds_are_refused_when_sent() -> None:
    many = Table({f"{n}": np.zeros(1) for n in range(1020)})
    data = Regions.from_polygons([TRIANGLE], properties=many)
    with pytest.raises(PayloadError, match="columns"):
        encode(Payload(data=data, kind=Kind.REGIONS))
    sources = tuple(f"plate/B03/{'x' * 500}{n}" for n in range(200))
    with pytest.raises(PayloadError, match="sources"):
        encode(Payload(data=np.zeros((2, 2)), provenance=Provenance(sources=sources)))


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), max_size=6),
    flips=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 4096), st.integers(0, 255)), max_size=6
    ),
    cut=st.none() | st.integers(0, 600),
)
def test_mangled_regions_are_a_typed_error_or_other_regions(
    edits: list[tuple[int, int]], flips: list[tuple[int, int, int]], cut: int | None
) -> None:
    header, buffers = encode(shapes())
    mangled, changed = bytearray(header), [bytearray(buffer) for buffer in buffers]
    for at, value in edits:
        mangled[at % len(mangled)] = value
    for number, at, value in flips:
        buffer = changed[number % len(changed)]
        buffer[at % len(buffer)] = value
    with contextlib.suppress(WireError):
        back = decode(bytes(mangled[:cut]), changed)
        if back.kind is Kind.REGIONS:
            list(back.regions)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"sources": "abc"}, "tuple"),
        ({"sources": ("",)}, "1 to 1024"),
        ({"sources": (1,)}, "1 to 1024"),
        ({"sources": ("x",) * 1025}, "more than"),
        ({"software": ""}, "1 to 1024"),
        ({"software": "x" * 1025}, "1 to 1024"),
    ],
)
def test_provenance_that_cannot_be_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Provenance(**options)
    with pytest.raises(PayloadError, match="Provenance"):
        Payload(data=np.zeros((2, 2)), provenance={})  # type: ignore[arg-type]  # that is the point
