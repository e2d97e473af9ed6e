"""Payloads cut into chunks and parts, and put together again; nothing else is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime import DescriptorError, InlineLimits, PayloadTooLargeError
from zmqruntime.carriers import Assembly
from zmqruntime.carriers._inline import check_sizes, cut, part_sizes

LIMITS = InlineLimits(chunk_bytes=4, part_bytes=10, payload_bytes=1000)


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(max_examples=150, deadline=None)
def test_what_is_cut_is_put_together_again(buffers: list[bytes]) -> None:
    total = sum(map(len, buffers))
    parts = list(cut([memoryview(each) for each in buffers], limits=LIMITS))
    sizes = part_sizes(total, limits=LIMITS)
    assert [sum(map(len, chunks)) for chunks in parts] == list(sizes)
    assert all(0 < len(chunk) <= 4 for chunks in parts for chunk in chunks)
    assembly = Assembly([len(each) for each in buffers], len(parts), limits=LIMITS)
    whole = [assembly.add(index, chunks) for index, chunks in enumerate(parts)]
    assert whole == [False] * (len(parts) - 1) + [True]
    assert [bytes(each) for each in assembly.buffers()] == buffers
    assert assembly.bytes_copied <= total


def test_a_buffer_of_one_chunk_is_handed_on_as_it_came() -> None:
    chunk = b"abcd"
    assembly = Assembly([4], 1, limits=LIMITS)
    assert assembly.add(0, [chunk])
    (view,) = assembly.buffers()
    assert view.obj is chunk
    assert assembly.bytes_copied == 0


@given(
    st.lists(st.integers(0, 20), max_size=5),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 4), st.lists(st.binary(max_size=6), max_size=5)), max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_is_put_together_or_refused(
    sizes: list[int], parts: int, messages: list[tuple[int, list[bytes]]]
) -> None:
    try:
        assembly = Assembly(sizes, parts, limits=LIMITS)
        whole = [assembly.add(index, chunks) for index, chunks in messages]
    except DescriptorError:
        return
    if whole and whole[-1]:
        assert [each.nbytes for each in assembly.buffers()] == sizes
    else:
        with pytest.raises(DescriptorError):
            assembly.buffers()


@pytest.mark.req("F.12")
def test_sizes_are_refused_before_anything_is_allocated() -> None:
    with pytest.raises(PayloadTooLargeError, match="at most 4294967296 bytes"):
        check_sizes([1 << 62])
    with pytest.raises(PayloadTooLargeError, match="4096 buffers"):
        check_sizes([0] * 4097)
    with pytest.raises(DescriptorError, match="negative"):
        check_sizes([-1, 2])
    with pytest.raises(DescriptorError, match="make 7 parts, not 1"):
        Assembly([64], 1, limits=LIMITS)


@pytest.mark.parametrize(
    ("index", "chunks", "said"),
    [
        (1, [b"abcd"], "part 1 came where part 0"),
        (0, [b"abc"], "should have 10 bytes"),
        (0, [b"abcd", b"efgh", b"ijk"], "should have 10 bytes"),
        (0, [b"abcdefghij"], "chunks of at most 4"),
        (0, [b"abcd", b"", b"efgh", b"ij"], "chunks of at most 4"),
        (0, [b"abcd", b"efg", b"hij"], "where 2 were missing"),
    ],
)
def test_parts_that_do_not_fit_are_refused(index: int, chunks: list[bytes], said: str) -> None:
    assembly = Assembly([6, 9], 2, limits=LIMITS)
    with pytest.raises(DescriptorError, match=said):
        assembly.add(index, chunks)


@pytest.mark.parametrize(
    "sizes",
    [
        {"chunk_bytes": 0},
        {"chunk_bytes": 17 << 20},
        {"chunk_bytes": 8, "part_bytes": 4},
        {"part_bytes": 1 << 30, "payload_bytes": 1 << 20},
        {"payload_bytes": 5 << 30},
    ],
)
def test_limits_are_in_order(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="fits into a p"):
        InlineLimits(**sizes)
