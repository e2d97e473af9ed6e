"""Payloads of every kind as JSON, for people and for programs in other languages.

A document is the note of the payload, and ``arrays``, those that a frame would have: each with its
name, its type in numpy's short form, its shape, and its values as nested lists::

    {
        "polystore": 1,
        "kind": "points",
        "arrays": [{"name": "data", "dtype": "<f4", "shape": [1, 2], "values": [[0.5, 1.5]]}],
    }

Numbers are written so that the same come back, whatever their type. What JSON has no number for is
text: ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``; which NaN it was is not kept. Text arrays have
the type ``"text"``. A column may have a ``unit``; where one is ``missing`` values, they are null.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import msgspec
import numpy as np

from polystore._errors import PolystoreError, UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore.formats._guard import reading, refused
from polystore.formats._note import as_note, dtype_of, read_note
from polystore.wire._frames import decode, encode
from polystore.wire._header import WIRE_VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["JsonFormat"]

_TEXT = "text"
_OF_ARRAYS = frozenset({"name", "dtype", "shape", "values"})
_OF_COLUMNS = frozenset({"unit", "missing"})
_EMPTY = {"f": float("nan"), "b": False}
"""What stands for a missing value, by kind of elements; 0 for others."""
_NAMED = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_NUMBERS = {"b": (bool,), "u": (int,), "i": (int,), "f": (int, float)}


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """Payloads of every kind as ``.json``.

    A document of others, whatever is in it, is read as text. Large images are better kept in a
    format for images: here each number is text.
    """

    @property
    def name(self) -> str:
        """``"JSON"``."""
        return "JSON"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".json"``."""
        return (".json",)

    @property
    def package(self) -> str:
        """Nothing else is needed."""
        return "polystore"

    @property
    def kinds(self) -> frozenset[Kind]:
        """All."""
        return frozenset(Kind)

    def refusal(self, payload: Payload) -> str | None:  # noqa: ARG002
        """Refuse nothing."""
        return None

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write a document.

        Raises
        ------
        FormatError
            If the payload is larger, or has more columns, than a frame may have, or a column's
            text is not Unicode.
        """
        try:
            header, buffers = encode(payload)
        except PolystoreError as error:
            raise refused(self.name, str(error)) from error
        rest = iter(buffers)
        arrays = []
        for entry in msgspec.msgpack.decode(header)["arrays"]:
            name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
            values: Any
            if dtype == _TEXT:
                values = _texts(next(rest), next(rest))
            else:
                values = _numbers(np.frombuffer(next(rest), dtype_of(dtype)).reshape(shape))
            said = {key: entry[key] for key in _OF_COLUMNS if key in entry}
            if entry.get("missing"):
                missing = np.unpackbits(np.frombuffer(next(rest), np.uint8), count=shape[0])
                for row in np.flatnonzero(missing).tolist():
                    values[row] = None
            arrays.append({"name": name, "dtype": dtype, "shape": shape, **said, "values": values})
        document = {**as_note(payload), "arrays": arrays}
        stream.write(json.dumps(document, allow_nan=False).encode("ascii") + b"\n")

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read a document.

        Raises
        ------
        UnreadableError
            If it is no JSON, or one of ours that contradicts itself.
        """
        with reading(where, self.name):
            raw = stream.read()
            if not raw:
                raise UnreadableError(f"{where} cannot be read as JSON: it is empty")
            document = json.loads(raw)
            if not isinstance(document, dict) or "polystore" not in document:
                return Payload(data=raw.decode(), kind=Kind.TEXT)
            note = read_note(document, where, "arrays")
            arrays, buffers = _frames(document.get("arrays"), where)
            header = {
                "v": WIRE_VERSION,
                "kind": note.kind,
                "axes": note.said.get("axes", ()),
                "arrays": arrays,
            }
            try:
                data = decode(msgspec.msgpack.encode(header), buffers).data
            except PolystoreError as error:
                raise UnreadableError(f"{where}: {error}") from error
            return note.payload(data)


def _numbers(array: NDArray[Any]) -> Any:
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return array.tolist()
    values = array.astype(object)
    values[np.isnan(array)] = "NaN"
    values[np.isposinf(array)] = "Infinity"
    values[np.isneginf(array)] = "-Infinity"
    return values.tolist()


def _texts(offsets: memoryview, joined: memoryview) -> list[str]:
    ends = np.frombuffer(offsets, "<i8").tolist()
    return [str(joined[start:end], "utf-8") for start, end in itertools.pairwise(ends)]


def _frames(entries: Any, where: str) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Turn the arrays of a document into those of a frame, sizes and bytes."""
    arrays: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or entry.keys() - _OF_COLUMNS != _OF_ARRAYS:
            raise UnreadableError(f"{where}: an array has to have name, dtype, shape and values")
        shape, values = entry["shape"], entry["values"]
        if not isinstance(shape, list) or not all(type(side) is int for side in shape):
            raise UnreadableError(f"{where}: {shape!r} is no shape")
        flat = _flat(values, shape, where)
        missing = None
        if entry.get("missing") is True:
            missing = np.packbits(np.array([value is None for value in flat], np.bool_))
            empty = "" if entry["dtype"] == _TEXT else _EMPTY.get(str(entry["dtype"])[1:2], 0)
            flat = [empty if value is None else value for value in flat]
        if entry["dtype"] == _TEXT:
            if not all(type(text) is str for text in flat):
                raise UnreadableError(f"{where}: array {entry['name']!r} is not all text")
            parts = [text.encode() for text in flat]
            offsets = np.zeros(len(parts) + 1, "<i8")
            np.cumsum([len(part) for part in parts], out=offsets[1:])
            made = [offsets.tobytes(), b"".join(parts)]
        else:
            made = [_elements(flat, str(entry["dtype"]), f"{where}: array {entry['name']!r}")]
        if missing is not None:
            made.append(missing.tobytes())
        arrays.append({**entry, "sizes": [len(part) for part in made]})
        del arrays[-1]["values"]
        buffers.extend(made)
    return arrays, buffers


def _elements(flat: list[Any], dtype_text: str, what: str) -> bytes:
    """Make elements of numbers that have to be exactly those of the type, and in its range."""
    dtype = dtype_of(dtype_text)
    allowed = _NUMBERS[dtype.kind]
    if dtype.kind == "f":
        flat = [_NAMED.get(value, value) if type(value) is str else value for value in flat]
    if not all(type(value) in allowed for value in flat):
        raise UnreadableError(f"{what} holds what is no {dtype.name}")
    if dtype.kind in "ui" and flat:
        info = np.iinfo(dtype)
        if min(flat) < info.min or max(flat) > info.max:
            raise UnreadableError(f"{what} holds numbers that are beyond {dtype.name}")
    if dtype.kind != "f":
        return np.array(flat, dtype).tobytes()
    wide = np.array(flat, "f8")
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if not np.array_equal(np.isfinite(wide), np.isfinite(narrow)):
        raise UnreadableError(f"{what} holds numbers that are beyond {dtype.name}")
    return narrow.tobytes()


def _flat(values: Any, shape: list[int], where: str) -> list[Any]:
    """Check nested lists against a shape, and make one list of them."""
    level: list[Any] = [values]
    for side in shape:
        if not all(isinstance(part, list) and len(part) == side for part in level):
            raise UnreadableError(f"{where}: values are not of the shape {shape} that is said")
        level = [value for part in level for value in part]
    return level
