from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings

from polystore import FormatError, Kind, Payload, UnreadableError
from polystore.formats import Format, NpyFormat, standard_formats
from polystore.testing import FormatTests, assert_equal, samples
from polystore.testing.strategies import payloads

if TYPE_CHECKING:
    from pathlib import Path

NPY = NpyFormat()


class TestNpy(FormatTests):
    def make(self) -> Format:
        return NpyFormat()


def written(payload: Payload) -> bytes:
    stream = io.BytesIO()
    NPY.write(payload, stream)
    return stream.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    raw = text.encode("latin-1")
    width = 2 if version[:1] == b"\x01" else 4
    return b"\x93NUMPY" + version + len(raw).to_bytes(width, "little") + raw


def read(content: bytes) -> Payload:
    return NPY.read(io.BytesIO(content), "plane.npy")


@settings(max_examples=40)
@given(payloads((Kind.IMAGE, Kind.LABELS, Kind.POINTS)))
def test_arrays_of_any_bits_come_back(payload: Payload) -> None:
    assert_equal(read(written(payload)), payload)


def test_numpy_opens_them_mapped_too(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    for sample in samples():
        if not isinstance(sample.payload.data, np.ndarray):
            continue
        array = sample.payload.array
        file.write_bytes(written(sample.payload))
        for mode in (None, "r") if array.size else (None,):
            opened = np.load(file, mmap_mode=mode, allow_pickle=False)
            assert (opened.dtype, opened.shape) == (array.dtype, array.shape), sample.what
            assert opened.tobytes() == array.tobytes(), sample.what


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "f4", "?"])
def test_what_numpy_saved_is_a_plain_image(order: Any, dtype: str) -> None:
    array = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)
    stream = io.BytesIO()
    np.save(stream, array)
    assert_equal(read(stream.getvalue()), Payload(data=array))


@pytest.mark.parametrize("mapped", [False, True])
def test_a_mapped_file_is_the_same_payload(tmp_path: Path, *, mapped: bool) -> None:
    for sample in samples():
        if NPY.refusal(sample.payload) is None:
            file = tmp_path / "a.npy"
            file.write_bytes(written(sample.payload))
            with file.open("rb") as stream:
                act = NPY.read_mapped if mapped else NPY.read
                payload = act(stream, str(file))
            file.unlink()
            assert_equal(payload, sample.payload)
            assert not payload.array.flags.writeable


def test_a_mapped_file_takes_no_memory_for_its_elements(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    with file.open("wb") as sparse:
        text = "{'descr': '<u2', 'fortran_order': False, 'shape': (1048576, 1048576)}"
        sparse.write(header(text))
        sparse.truncate(sparse.tell() + 2**41)
    with file.open("rb") as stream:
        payload = NPY.read_mapped(stream, str(file))
    assert payload.array.shape == (2**20, 2**20)
    assert payload.array[2**19, 5] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1)}", "objects are never read"),
        ("{'descr': '<U4', 'fortran_order': False, 'shape': (1, 1)}", "not allowed"),
        ("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1)}", "not allowed"),
        ("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (1, 1)}", "records"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (9, 9)}", "162 bytes, and 16 follow"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999, 99999999999)}", "lies"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (-2, -2)}", "no shape"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (True, 2)}", "no shape"),
        ("{'descr': '<u2', 'fortran_order': 1, 'shape': (2, 2)}", "not one of NPY"),
        ("{'descr': '<u2', 'shape': (2, 2)}", "not one of NPY"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 4)", "cannot be read as NPY"),
        ("__import__('os').abort()", "cannot be read as NPY"),
        ("(" * 5000, "cannot be read as NPY"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (8,)}", "what its axes are"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': ()}", "14 bytes follow"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (1, 2, 2, 2)}", "what its axes are"),
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2)}", "8 bytes follow"),
    ],
)
def test_a_header_that_lies_is_an_error_that_names_the_file(text: str, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        read(header(text) + bytes(16))
    assert "plane.npy" in str(caught.value)


def test_a_header_of_gigabytes_is_not_read() -> None:
    content = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{}"
    with pytest.raises(UnreadableError, match="4294967295 bytes, 10000 are allowed"):
        read(content)


def test_a_note_of_a_newer_version_says_what_to_do() -> None:
    payload = Payload(data=np.zeros((1, 1), "u1"))
    content = written(payload).replace(b'"polystore": 1', b'"polystore": 2')
    with pytest.raises(UnreadableError, match=r"written by a newer polystore.*install the newest"):
        read(content)


def test_a_note_that_contradicts_the_array_is_an_error() -> None:
    content = written(Payload(data=np.zeros((2, 2), "f4"), name="abcd"))
    for old, new in (
        (b'"image"', b'"label"'),
        (b'"image"', b'"table"'),
        (b'["y", "x"]', b'["z", "x"]'),
        (b'"name"', b'"mane"'),
        (b'"abcd"', b"123456"),
    ):
        with pytest.raises(UnreadableError, match=r"plane\.npy"):
            read(content.replace(old, new))


def test_the_note_is_json_that_a_person_can_read() -> None:
    content = written(Payload(data=np.zeros((2, 2), "u1"), pixel_um=(0.5, 0.5), units="µ"))
    note = json.loads(content[content.index(b'{"polystore"') : content.index(b"polystore-note")])
    assert note == {
        "polystore": 1,
        "kind": "image",
        "axes": ["y", "x"],
        "pixel_um": [0.5, 0.5],
        "units": "µ",
    }


def test_the_registry_says_what_could_hold_a_table() -> None:
    table = Payload(data={"a": np.ones(2)}, kind=Kind.TABLE)
    with pytest.raises(FormatError, match=r"'B03/cells\.npy' cannot be written as NPY.*\.json"):
        standard_formats().to_bytes("B03/cells.npy", table)
