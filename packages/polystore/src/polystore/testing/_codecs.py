"""The suite that a codec has to pass."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import Deviation, check_id
from polystore._dtypes import DTYPES
from polystore._errors import CodecError, StreamError, WireError
from polystore._payload import Payload
from polystore.codecs import Codecs
from polystore.wire._frames import coding_of, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from polystore._coding import Codec

__all__ = ["CodecTests"]

_SHAPES = ((1, 1), (7, 5), (16, 16), (33,), (3, 9, 4), (9, 8, 3), (2, 3, 5, 8), (1, 300), (0, 4))
_FOREIGN = ("O", "c8", "U3", "S2", "M8[s]", "V4")


class CodecTests(ABC):
    """Subclass it in a test module and say how to make the codec; pytest runs the rest.

    Attributes
    ----------
    damaged_streams
        So many damaged streams are decoded.
    """

    damaged_streams = 300

    @abstractmethod
    def make(self) -> Codec:
        """Make a codec. Called once in each test."""

    def arrays(self, codec: Codec) -> Iterator[NDArray[Any]]:
        """Give arrays of every type and many shapes that the codec takes.

        Override it for a codec that takes only what is not among them, or refuses some arrays for
        what they hold.
        """
        rng = np.random.default_rng(0)
        for kind in sorted(DTYPES):
            for order in "<>":
                dtype = np.dtype(order + kind)
                for shape in _SHAPES:
                    if codec.takes(dtype, shape):
                        count = int(np.prod(shape)) * dtype.itemsize
                        noise = rng.integers(0, 2 if kind == "b1" else 256, count, np.uint8)
                        yield noise.view(dtype).reshape(shape)
                        yield np.ones(shape, dtype)

    def test_it_takes_something_and_says_so(self) -> None:
        """A codec that takes none of the samples has to override `arrays`."""
        codec = self.make()
        assert list(self.arrays(codec)), "no sample is taken: override arrays()"
        for array in self.arrays(codec):
            assert codec.takes(array.dtype, array.shape)

    def test_its_names_can_be_sent(self) -> None:
        """Id and package are in the header of each payload."""
        codec = self.make()
        check_id(codec.id)
        assert 0 < len(codec.package) <= 64
        assert isinstance(codec.lossy, bool)
        for array in self.arrays(codec):
            encoded = codec.encode(array)
            assert (encoded.codec, encoded.package) == (codec.id, codec.package)
            assert (encoded.dtype, encoded.shape) == (array.dtype, array.shape)
            assert encoded.lossy == codec.lossy
            assert encoded.stream.readonly
            assert (encoded.stream.ndim, encoded.stream.itemsize) == (1, 1)

    def test_what_is_encoded_comes_back(self) -> None:
        """Bit for bit, or, from a lossy one, of the same type and shape."""
        codec = self.make()
        for array in self.arrays(codec):
            before = array.tobytes()
            back = codec.decode(codec.encode(array))
            assert array.tobytes() == before, "the array was changed"
            _check_same(codec, array, back)
            assert not back.flags.writeable, "what comes back can be changed"

    def test_how_the_array_lies_in_memory_does_not_matter(self) -> None:
        """Columns first, with gaps, backwards."""
        codec = self.make()
        for array in self.arrays(codec):
            gaps = np.zeros((2 * array.shape[0], *array.shape[1:]), array.dtype)
            gaps[::2] = array
            for same in (np.asfortranarray(array), gaps[::2], array[::-1].copy()[::-1]):
                _check_same(codec, array, codec.decode(codec.encode(same)))

    def test_what_it_does_not_take_is_an_error(self) -> None:
        """Objects never are, and an empty array is or comes back."""
        codec = self.make()
        for foreign in _FOREIGN:
            assert not codec.takes(np.dtype(foreign), (4, 4)), f"{foreign} cannot be sent"
        for kind in sorted(DTYPES):
            for shape in ((), *_SHAPES):
                array = np.zeros(shape, kind)
                if not codec.takes(array.dtype, shape):
                    _assert_raises(CodecError, lambda array=array: codec.encode(array))

    def test_a_stream_that_is_cut_off_is_an_error(self) -> None:
        """Wherever it is."""
        codec = self.make()
        for array in self._few(codec):
            encoded = codec.encode(array)
            whole = bytes(encoded.stream)
            for length in {0, 1, 2, len(whole) // 4, len(whole) // 2, len(whole) - 1}:
                if length < len(whole):
                    cut = dataclasses.replace(encoded, stream=memoryview(whole[:length]))
                    _assert_raises(StreamError, lambda cut=cut: codec.decode(cut))

    def test_a_stream_of_another_size_than_announced_is_an_error(self) -> None:
        """Larger or smaller, in pixels or in bytes of a pixel."""
        codec = self.make()
        for array in self._few(codec):
            encoded = codec.encode(array)
            for shape in (
                (2 * array.shape[0], *array.shape[1:]),
                (array.shape[0] + 1, *array.shape[1:]),
                (2**20, *array.shape[1:]),
            ):
                lying = dataclasses.replace(encoded, shape=shape)
                _assert_raises(WireError, lambda lying=lying: codec.decode(lying))
            wider = np.dtype("f8" if array.itemsize < 8 else "u1")
            lying = dataclasses.replace(encoded, dtype=wider)
            _assert_raises(WireError, lambda lying=lying: codec.decode(lying))

    def test_a_damaged_stream_is_an_error_or_an_array_as_announced(self) -> None:
        """No other exception, no crash; a checksum finds by chance what the codec does not."""
        codec = self.make()
        chance = random.Random(0)
        samples = [codec.encode(array) for array in self._few(codec)]
        for number in range(self.damaged_streams):
            encoded = samples[number % len(samples)]
            damaged = dataclasses.replace(encoded, stream=_damage(encoded.stream, chance))
            try:
                back = codec.decode(damaged)
            except StreamError:
                continue
            assert (back.dtype, back.shape) == (encoded.dtype, encoded.shape)

    def test_threads_may_share_it(self) -> None:
        """Each gets what it asked for."""
        codec = self.make()
        arrays = list(self._few(codec))

        def work(number: int) -> None:
            array = arrays[number % len(arrays)]
            _check_same(codec, array, codec.decode(codec.encode(array)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(64)))

    def test_it_works_on_the_wire(self) -> None:
        """A payload that it encodes comes back, marked where it is lossy."""
        codec = self.make()
        codecs = Codecs([codec])
        for array in self.arrays(codec):
            if array.ndim != 2:
                continue
            payload = Payload(data=array)
            header, buffers = encode(payload, codec=codec, preview=True)
            back = decode(header, buffers, codecs=codecs)
            coding = coding_of(header)
            if coding is None:  # nothing was gained
                assert back.array.tobytes() == array.tobytes()
            else:
                assert (coding.codec, coding.lossy) == (codec.id, codec.lossy)
                _check_same(codec, array, back.array)
                assert back.lossy == codec.lossy

    def _few(self, codec: Codec) -> Iterator[NDArray[Any]]:
        """Give every seventh sample: a stream of each kind is enough to be damaged."""
        for number, array in enumerate(self.arrays(codec)):
            if number % 7 == 0 and array.size and array.ndim:
                yield array


def _check_same(codec: Codec, array: NDArray[Any], back: NDArray[Any]) -> None:
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    if codec.lossy:
        Deviation.between(array, back)  # of a type for which it can be said
    else:
        assert back.tobytes() == array.tobytes(), f"{array.dtype} {array.shape} came back changed"


def _damage(stream: memoryview, chance: random.Random) -> memoryview:
    """Change, cut, repeat or add bytes; the first bytes, which say the most, as often as others."""
    made = bytearray(stream)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(len(made), chance.choice((48, len(made) or 1))) or 1)
        match chance.randrange(8):
            case 0:
                del made[at:]
            case 1:
                del made[at : at + chance.randint(1, 16)]
            case 2:
                made[at:at] = chance.randbytes(chance.randint(1, 16))
            case 3:
                made[at : at + 4] = (chance.getrandbits(32)).to_bytes(4, "little")
            case _:
                made[at : at + 1] = chance.randbytes(1)
    return memoryview(bytes(made))


def _assert_raises(error: type[Exception], act: Any) -> None:
    try:
        act()
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")
