"""Arrays in numpy's own format, with what is known about them behind the elements.

numpy reads as many elements as the header says and leaves alone what follows, also when it maps
the file. What follows here is the note, and then how to find it::

    NPY header | elements | note, JSON | b"polystore-note" | 8 bytes, length of the note

with the length in little-endian order. A file that is cut off right behind the elements is one
without a note.

Anything else behind the elements is an error: it would be data that nobody reads.
"""

from __future__ import annotations

import ast
import io
import json
import math
import mmap
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore.files._room import reserve
from polystore.formats._guard import reading
from polystore.formats._note import NOTE_MOST_BYTES, Note, as_note, dtype_of, read_note

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NpyFormat"]

_MAGIC = b"\x93NUMPY"
_MARK = b"polystore-note"
_TAIL = len(_MARK) + 8
_HEADER_MOST_BYTES = 10_000  # the most that numpy itself reads unasked
_CHUNK_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class NpyFormat:
    """Images, labels and points as ``.npy``; ``numpy.load`` opens them, mapped too.

    Elements keep their type and byte order. Arrays of others need at least two axes; what has more
    than three is read if its file carries a note.
    """

    @property
    def name(self) -> str:
        """``"NPY"``."""
        return "NPY"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".npy"``."""
        return (".npy",)

    @property
    def package(self) -> str:
        """Part of numpy."""
        return "polystore"

    @property
    def kinds(self) -> frozenset[Kind]:
        """What is an array."""
        return frozenset({Kind.IMAGE, Kind.LABELS, Kind.POINTS})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what is no array."""
        if isinstance(payload.data, np.ndarray):
            return None
        return f"it holds one array, and this is of kind {payload.kind}"

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write an array; what is not contiguous is copied piece by piece."""
        array = payload.array
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        note = json.dumps(as_note(payload)).encode("ascii")
        reserve(stream, array.nbytes)
        stream.write(_header_for(array.dtype.str, fortran, array.shape))
        _write_elements(array.T if fortran else array, stream)
        stream.write(note + _MARK + len(note).to_bytes(8, "little"))

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read an array; it lies in memory of its own.

        Raises
        ------
        UnreadableError
            If it is no NPY file, is not as long as its header says, has other elements than
            payloads may hold (objects are never read), or something foreign behind them.
        """
        with reading(where, self.name):
            header, behind = _read_header(stream, where)
            array = _read_elements(stream, header, where)
            note = _read_tail(stream, behind, where)
            return _payload(header.shaped(array), note, where)

    def read_mapped(self, stream: IO[bytes], where: str) -> Payload:
        """Read an array whose elements stay in the file until they are looked at.

        Parameters
        ----------
        stream
            A file of the operating system, at its start. It may be closed afterwards.
        where
            Name of the file, for messages.

        Raises
        ------
        UnreadableError
            As `read`.

        Notes
        -----
        The map is of the file as it was opened: a store that replaces it by another leaves this
        one as it is. Whoever shortens a file in place takes the elements away, and looking at
        them then ends the process (SIGBUS); stores here never do.
        """
        with reading(where, self.name):
            header, behind = _read_header(stream, where)
            start = stream.tell()
            stream.seek(start + header.nbytes)
            note = _read_tail(stream, behind, where)
            if header.nbytes:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                count = math.prod(header.shape)
                array = np.frombuffer(mapped, header.dtype, count, start)
            else:
                array = np.empty(0, header.dtype)
            return _payload(header.shaped(array), note, where)


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def shaped(self, flat: NDArray[Any]) -> NDArray[Any]:
        if self.fortran:
            return flat.reshape(self.shape[::-1]).T
        return flat.reshape(self.shape)


@lru_cache(maxsize=64)  # planes of one plate all have the same
def _header_for(descr: str, fortran: bool, shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": fortran, "shape": shape}
    )
    return header.getvalue()


def _write_elements(array: NDArray[Any], stream: IO[bytes]) -> None:
    if array.flags.c_contiguous:
        stream.write(array.reshape(-1).view(np.uint8).data)
    elif array.nbytes <= _CHUNK_BYTES or len(array) == 1:
        stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    else:
        step = max(1, len(array) * _CHUNK_BYTES // array.nbytes)
        for start in range(0, len(array), step):
            _write_elements(array[start : start + step], stream)


def _read_elements(stream: IO[bytes], header: _Header, where: str) -> NDArray[Any]:
    # numpy asks for large pages, which bytes are not given: half the time
    array = np.empty(math.prod(header.shape), header.dtype)
    into = getattr(stream, "readinto", None)
    view = array.view(np.uint8)
    if into is None:
        raw = stream.read(header.nbytes)
        read = len(raw)
        view[:read] = np.frombuffer(raw, np.uint8)
    else:
        read = into(view.data) if header.nbytes else 0
    if read != header.nbytes:
        raise UnreadableError(f"{where} became shorter while it was read")
    return array


def _read_header(stream: IO[bytes], where: str) -> tuple[_Header, int]:
    """Read up to the elements; gives how many bytes follow them, too."""
    start = stream.read(8)
    if start[:6] != _MAGIC:
        raise UnreadableError(
            f"{where} is no NPY file: "
            + ("it is empty" if not start else f"it begins with {start[:6]!r}")
        )
    wide = start[6:7] != b"\x01"
    if start[6:7] not in {b"\x01", b"\x02", b"\x03"}:
        raise UnreadableError(f"{where} is of version {start[6:8]!r} of NPY, which is unknown")
    length = int.from_bytes(stream.read(4 if wide else 2), "little")
    if length > _HEADER_MOST_BYTES:
        raise UnreadableError(
            f"{where}: its header would be {length} bytes, {_HEADER_MOST_BYTES} are allowed"
        )
    text = stream.read(length)
    if len(text) != length:
        raise UnreadableError(f"{where} is cut off in its header")
    header = _parsed(text.decode("utf-8" if start[6:7] == b"\x03" else "latin-1"), where)
    at = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(at)
    behind = size - at - header.nbytes
    if behind < 0:
        raise UnreadableError(
            f"{where} is cut off, or its header lies: {header.dtype} {header.shape} is "
            f"{header.nbytes} bytes, and {size - at} follow the header"
        )
    return header, behind


def _parsed(text: str, where: str) -> _Header:
    try:
        return _header_of(text.strip())
    except UnreadableError as error:
        raise UnreadableError(f"{where}: {error}") from error.__cause__


@lru_cache(maxsize=64)  # planes of one plate all have the same
def _header_of(text: str) -> _Header:
    fields = ast.literal_eval(text)
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise UnreadableError("its header is not one of NPY")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if type(descr) is not str:
        raise UnreadableError("it holds records, and not elements of one type")
    if type(fortran) is not bool or type(shape) is not tuple:
        raise UnreadableError("its header is not one of NPY")
    if len(shape) > 32 or not all(type(side) is int and side >= 0 for side in shape):
        raise UnreadableError(f"{shape} is no shape")
    try:
        return _Header(dtype_of(descr), fortran, shape)
    except ValueError as error:
        advice = "; objects are never read" if "O" in descr else ""
        raise UnreadableError(f"{error}{advice}") from error


def _read_tail(stream: IO[bytes], length: int, where: str) -> Note | None:
    if not length:
        return None
    tail = stream.read(min(length, NOTE_MOST_BYTES + _TAIL))
    end = len(tail) - _TAIL
    if (
        end >= 0
        and len(tail) == length
        and tail.startswith(_MARK, end)
        and int.from_bytes(tail[-8:], "little") == end
    ):
        return read_note(tail[:end], where)
    raise UnreadableError(
        f"{where}: {length} bytes follow the array, and they are no note of polystore; "
        "if these are several arrays in one file, read them with numpy.load and store each under "
        "its own name"
    )


def _payload(array: NDArray[Any], note: Note | None, where: str) -> Payload:
    array.flags.writeable = False
    if note is not None:
        return note.payload(array)
    if array.ndim not in {2, 3}:
        raise UnreadableError(
            f"{where} holds an array of shape {array.shape}, and does not say what its axes are: "
            "read it with numpy.load and make a Payload with axes"
        )
    return Payload(data=array)
