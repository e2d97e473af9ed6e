"""What a payload says besides its data, as a line of JSON that files carry with them.

The note of a file is one JSON object of ASCII, so that it fits any tag or header::

    {"polystore": 1, "kind": "image", "axes": ["y", "x"], "components": {"well": "B03"}, …}

``polystore`` is the number of the format of the note, the others are the fields of `Payload`, left
out where they have their default. A format adds what its own file does not say: ``dtype``, the
type of the elements in numpy's short form, ``shape``, and ``columns``, the types of a table's.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import numpy as np

from polystore._components import Components
from polystore._dtypes import DTYPES
from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._typed import from_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from polystore._payload import Data

__all__ = ["NOTE_MOST_BYTES", "NOTE_VERSION", "Note", "as_note", "dtype_of", "read_note"]

NOTE_VERSION = 1
"""Number of the newest note that this module writes and reads."""
NOTE_MOST_BYTES = 4 * 1024**2
"""Longest note that is read; the longest of an image is less than 200 kB."""

_OWN = frozenset({"polystore", "kind", "dtype", "shape", "columns"})
_KINDS = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note that was read.

    Attributes
    ----------
    kind
        Of the payload.
    said
        Fields of the payload by name, without data and kind.
    dtype
        Of the array, where the file itself does not say it.
    shape
        Of the array, likewise.
    columns
        Types of a table's columns by name, likewise.
    document
        All of it, for formats that say more in it.
    """

    kind: Kind
    said: Mapping[str, Any]
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    document: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def payload(self, data: Data) -> Payload:
        """Put data and what is said about them together.

        Raises
        ------
        PayloadError
            If they do not fit each other.
        """
        return Payload(data=data, kind=self.kind, **self.said)


def as_note(
    payload: Payload,
    *,
    dtype: np.dtype[Any] | None = None,
    shape: tuple[int, ...] | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make the note of a payload, as a document for JSON."""
    document: dict[str, Any] = {"polystore": NOTE_VERSION, "kind": str(payload.kind)}
    for name, default in _defaults().items():
        value = getattr(payload, name)
        if value == default:
            continue
        if isinstance(value, Components):
            document[name] = value.to_dict()
        else:
            document[name] = msgspec.to_builtins(value)
    if dtype is not None:
        document["dtype"] = dtype.str
    if shape is not None:
        document["shape"] = list(shape)
    if columns:
        document["columns"] = dict(columns)
    return document


def read_note(raw: bytes | str | Mapping[str, Any], where: str, *also: str) -> Note:
    """Read a note.

    Parameters
    ----------
    raw
        JSON, or the document that it is.
    where
        Name of the file, for messages.
    also
        Names that the format adds, which `Note.document` has.

    Raises
    ------
    UnreadableError
        If it is no note, of another version, or says what cannot be.
    """
    document = _document(raw, where)
    version = document.get("polystore")
    if type(version) is not int or version < 1:
        raise UnreadableError(f"{where}: {version!r} is no version of the note in it")
    if version > NOTE_VERSION:
        raise UnreadableError(
            f"{where} was written by a newer polystore: its note is of version {version}, this is "
            f"version {NOTE_VERSION}; install the newest"
        )
    fields_of = _fields()
    given = {name: value for name, value in document.items() if name not in also}
    if unknown := given.keys() - {*fields_of.__struct_fields__, "polystore"}:
        raise UnreadableError(
            f"{where}: its note says {', '.join(sorted(unknown))}, which is unknown here"
        )
    try:
        read: Any = from_plain(given, fields_of)
        said = {name: getattr(read, name) for name in given if name not in _OWN}
        if "components" in said:
            said["components"] = Components.from_dict(said["components"])
        return Note(
            kind=_KINDS[read.kind],
            said=said,
            dtype=None if read.dtype is None else dtype_of(read.dtype),
            shape=read.shape,
            columns=read.columns,
            document=document,
        )
    except (msgspec.ValidationError, ValueError, KeyError) as error:
        raise UnreadableError(f"{where}: its note cannot be: {error}") from error


def dtype_of(text: str) -> np.dtype[Any]:
    """Read a type in numpy's short form, as ``"<u2"``; only those that payloads may hold.

    Raises
    ------
    ValueError
        If it is another, or none.
    """
    order, element = text[:1], text[1:]
    if order not in {"<", ">", "|"} or element not in DTYPES:
        raise ValueError(f"elements of type {text!r} are not allowed")
    return np.dtype(text)


def _document(raw: bytes | str | Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if isinstance(raw, (bytes, str)):
        if len(raw) > NOTE_MOST_BYTES:
            raise UnreadableError(
                f"{where}: a note of {len(raw)} bytes is in it, {NOTE_MOST_BYTES} are allowed"
            )
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"{where}: the note in it is damaged: {error}") from error
    if not isinstance(raw, dict):
        raise UnreadableError(f"{where}: the note in it is no JSON object")
    return raw


@cache
def _defaults() -> dict[str, Any]:
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(Payload)
        if each.name not in {"data", "kind"}
    }


@cache
def _fields() -> type[msgspec.Struct]:
    """Make what one call of msgspec checks a note against: the fields of a payload, and ours."""
    hints = {**get_type_hints(Payload), "kind": str, "components": dict[str, str | int]}
    del hints["data"]
    own: dict[str, Any] = {
        "dtype": str | None,
        "shape": tuple[int, ...] | None,
        "columns": dict[str, str],
    }
    defaults: dict[str, Any] = {"columns": {}}
    return msgspec.defstruct(
        "NoteFields",
        [
            ("kind", hints.pop("kind")),
            *((name, hint, defaults.get(name)) for name, hint in {**hints, **own}.items()),
        ],
    )
