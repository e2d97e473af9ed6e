from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import (
    BasePlaneError,
    CodecError,
    Kind,
    Payload,
    StreamError,
    coding_of,
    decode,
    encode,
)
from polystore.codecs import (
    Blosc2Codec,
    Blosc2Compressor,
    Codec,
    DeltaCodec,
    EarlierPlanes,
    Encoded,
    content_hash,
    standard_codecs,
)
from polystore.testing import CodecTests
from polystore.testing.strategies import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _HalfChanged(DeltaCodec):
    """Encodes each array as the difference to itself with half of its rows inverted."""

    def encode(self, array: NDArray[Any]) -> Encoded:
        if not self.takes(array.dtype, array.shape):
            return super().encode(array)
        base = np.array(array, order="C")
        rows = base.reshape(-1, base.shape[-1]).view(np.uint8)
        rows[len(rows) - len(rows) // 2 :] ^= 1
        return DeltaCodec(self._planes, self._planes.add(base)).encode(array)


class TestDeltaCodec(CodecTests):
    def make(self) -> Codec:
        return _HalfChanged(EarlierPlanes())


def sender_and_receiver(first: NDArray[Any]) -> tuple[DeltaCodec, DeltaCodec]:
    here, there = EarlierPlanes(), EarlierPlanes()
    there.add(first)
    return DeltaCodec(here, here.add(first)), DeltaCodec(there)


def labels(t: int) -> NDArray[np.uint32]:
    """Squares, of which a few move."""
    made = np.zeros((256, 256), np.uint32)
    for number in range(8):
        row, column = 30 * number + 5, 20 + 25 * number
        moved = t if number < 2 else 0
        made[row : row + 20, column + moved : column + moved + 20] = number + 1
    return made


@pytest.mark.req("001.14")
def test_a_time_series_comes_back_bit_for_bit_in_fewer_bytes_than_frame_by_frame() -> None:
    codec, receiver = sender_and_receiver(labels(0))
    alone = Blosc2Codec(Blosc2Compressor.ZSTD)
    together = independent = 0
    before = content_hash(labels(0))
    for t in range(1, 20):
        plane = labels(t)
        codec = codec.against(before)
        assert codec.gains(plane)
        encoded = codec.encode(plane)
        np.testing.assert_array_equal(receiver.decode(encoded), plane)
        together += encoded.stream.nbytes
        independent += alone.encode(plane).stream.nbytes
        before = str(encoded.parameters["content"])
    assert together < independent / 2


@pytest.mark.req("001.14")
def test_a_noisy_frame_of_which_few_rows_change_gains_and_fresh_noise_is_refused() -> None:
    rng = np.random.default_rng(0)
    first = rng.poisson(300, (256, 256)).astype(np.uint16)
    second = first.copy()
    second[64:96] = rng.poisson(300, (32, 256))
    codec, receiver = sender_and_receiver(first)
    assert codec.gains(second)
    encoded = codec.encode(second)
    np.testing.assert_array_equal(receiver.decode(encoded), second)
    whole = Blosc2Codec(Blosc2Compressor.ZSTD).encode(second)
    assert encoded.stream.nbytes < whole.stream.nbytes / 5
    fresh = rng.poisson(300, (256, 256)).astype(np.uint16)
    assert not codec.gains(fresh)
    with pytest.raises(CodecError, match="256 of 256 rows differ"):
        codec.encode(fresh)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_plane_comes_back_bit_for_bit(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    first = np.array(data.draw(arrays(shape)), order="C")
    second = first.copy()
    flat = second.reshape(-1, shape[-1]).view(np.uint8)
    for row in data.draw(st.sets(st.integers(0, len(flat) - 1), max_size=len(flat) // 2)):
        flat[row, data.draw(st.integers(0, flat.shape[1] - 1))] ^= 1
    codec, receiver = sender_and_receiver(first)
    assert codec.gains(second)
    back = receiver.decode(codec.encode(second))
    assert (back.dtype, back.shape) == (second.dtype, second.shape)
    assert back.tobytes() == second.tobytes()
    assert not back.flags.writeable


def test_the_same_plane_takes_one_bit_a_row() -> None:
    codec, receiver = sender_and_receiver(labels(0))
    encoded = codec.encode(labels(0))
    assert encoded.stream.nbytes == 256 // 8
    np.testing.assert_array_equal(receiver.decode(encoded), labels(0))


def test_a_missing_base_is_an_error_that_names_it_and_asks_for_the_whole() -> None:
    codec, _ = sender_and_receiver(labels(0))
    encoded = codec.encode(labels(1))
    with pytest.raises(BasePlaneError, match=f"{content_hash(labels(0))}.*whole"):
        DeltaCodec(EarlierPlanes()).decode(encoded)
    with pytest.raises(LookupError):
        DeltaCodec(EarlierPlanes(), "0" * 32).encode(labels(1))


def test_another_base_is_an_error_and_never_a_wrong_picture() -> None:
    codec, receiver = sender_and_receiver(labels(0))
    other = receiver._planes.add(labels(7))
    smaller = receiver._planes.add(labels(0)[:100])
    encoded = codec.encode(labels(1))
    for base, error in ((other, StreamError), (smaller, BasePlaneError)):
        named = dataclasses.replace(encoded, parameters={**encoded.parameters, "base": base})
        with pytest.raises(error):
            receiver.decode(named)
    for parameters in ({}, {"base": 1, "content": 2}, {"base": other}):
        with pytest.raises(StreamError, match="does not name"):
            receiver.decode(dataclasses.replace(encoded, parameters=parameters))


def test_a_stream_with_rows_that_are_not_there_is_an_error() -> None:
    codec, receiver = sender_and_receiver(labels(0)[:100])
    encoded = codec.encode(labels(0)[:100])
    mask = bytes(encoded.stream)
    for stream, what in (
        (mask[:-1], "ends in"),
        (mask[:-1] + b"\x01", "more rows"),
        (mask + b"\0", "does not name"),
        (b"\x80" + mask[1:], "chunk"),
    ):
        with pytest.raises(StreamError, match=what):
            receiver.decode(dataclasses.replace(encoded, stream=memoryview(stream)))


def test_a_damaged_difference_is_never_a_wrong_picture() -> None:
    codec, receiver = sender_and_receiver(labels(0))
    encoded = codec.encode(labels(1))
    for at in range(encoded.stream.nbytes):
        stream = bytearray(encoded.stream)
        stream[at] ^= 16
        try:
            back = receiver.decode(dataclasses.replace(encoded, stream=memoryview(bytes(stream))))
        except StreamError:
            continue
        np.testing.assert_array_equal(back, labels(1))


def test_without_a_base_nothing_is_encoded() -> None:
    codec = DeltaCodec(EarlierPlanes())
    assert not codec.gains(labels(0))
    with pytest.raises(CodecError, match="against"):
        codec.encode(labels(0))
    codec, _ = sender_and_receiver(labels(0))
    assert not codec.gains(labels(0)[:10])
    with pytest.raises(BasePlaneError, match=r"\(256, 256\)"):
        codec.encode(labels(0)[:10])


def test_what_is_kept_does_not_change_with_what_was_added() -> None:
    planes = EarlierPlanes()
    plane = labels(0)
    name = planes.add(plane)
    plane[:] = 9
    np.testing.assert_array_equal(planes.get(name), labels(0))
    with pytest.raises(ValueError, match="read-only"):
        planes.get(name)[0, 0] = 1


def test_planes_are_kept_up_to_so_many_bytes_and_the_one_used_longest_ago_goes() -> None:
    nbytes = labels(0).nbytes
    planes = EarlierPlanes(most_bytes=2 * nbytes + 10)
    first, second = planes.add(labels(0)), planes.add(labels(1))
    planes.get(first)
    third = planes.add(labels(2))
    assert [name in planes for name in (first, second, third)] == [True, False, True]
    assert (len(planes), planes.nbytes) == (2, 2 * nbytes)
    assert planes.add(labels(2)) == third
    assert planes.nbytes == 2 * nbytes
    large = np.zeros((1024, 1024), np.uint32)
    assert planes.add(large) not in planes
    assert planes.nbytes == 2 * nbytes


def test_a_content_hash_is_of_type_shape_and_elements_however_they_lie() -> None:
    plane = labels(0)
    same = [np.asfortranarray(plane), np.repeat(plane, 2, axis=0)[::2]]
    assert {content_hash(each) for each in same} == {content_hash(plane)}
    others = [plane.reshape(128, 512), plane.astype(">u4"), plane.astype("i4"), labels(1)]
    assert content_hash(plane) not in {content_hash(each) for each in others}
    documented = hashlib.sha256(b"<u2 1,2\n" + bytes(4)).hexdigest()[:32]
    assert content_hash(np.zeros((1, 2), "<u2")) == documented
    with pytest.raises(CodecError, match="object"):
        content_hash(np.zeros(1, object))


def test_labels_travel_as_differences_on_the_wire() -> None:
    codec, receiver = sender_and_receiver(labels(0))
    codecs = standard_codecs()
    codecs.add(receiver)
    payload = Payload(data=labels(1), kind=Kind.LABELS, name="nuclei")
    header, buffers = encode(payload, codec=codec)
    coding = coding_of(header)
    assert coding is not None
    assert coding.codec == "delta-xor"
    assert coding.parameters["base"] == content_hash(labels(0))
    assert coding.stream_nbytes < coding.nbytes / 100
    np.testing.assert_array_equal(decode(header, buffers, codecs=codecs).array, labels(1))
    with pytest.raises(LookupError, match="delta-xor"):
        decode(header, buffers, codecs=standard_codecs())
