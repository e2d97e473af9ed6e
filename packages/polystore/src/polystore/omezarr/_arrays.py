"""What is said about an array, checked before anything of it is read.

A store may come from anyone, and its metadata say how much memory is taken and which code decodes
the chunks. So types, sizes and codecs are looked at here before zarr is given the array: numcodecs
has codecs that unpickle what they are given.

Notes
-----
Zarr v2 specification, https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html; Zarr v3 core
specification and its sharding codec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from polystore._dtypes import DTYPES
from polystore._errors import NotStoredError, UnreadableError
from polystore.omezarr._groups import OmeVersion, read_document
from polystore.omezarr._places import as_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from polystore.omezarr._places import Where

__all__ = ["CHUNK_MOST_BYTES", "ArrayMeta", "array_file", "array_file_name", "read_array"]

CHUNK_MOST_BYTES = 2 * 1024**3
"""Chunks that are larger when decoded are not read; Blosc has the same limit."""

_INDEX_MOST_BYTES = 256 * 1024**2
_SIDE_MOST = 2**53
_MOST_AXES = 32
# checksums, numbers and compression; none of these runs what it reads
_NUMCODECS = frozenset(
    {"blosc", "zstd", "zlib", "gzip", "bz2", "lzma", "lz4", "delta", "shuffle", "packbits"}
    | {"fixedscaleoffset", "quantize", "bitround", "astype", "pcodec", "zfpy"}
    | {"crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"}
)
_CODECS = frozenset({"bytes", "transpose", "blosc", "gzip", "zstd", "crc32c"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayMeta:
    """What an array's metadata say.

    Attributes
    ----------
    shape
        Of the array.
    dtype
        Of its elements.
    chunks
        Shape of what is decoded at once.
    shards
        Shape of what is one file, where that is more than one chunk.
    separator
        What stands between the numbers in the names of chunks.
    names
        Of the axes, where they are given.
    document
        All that the file says.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    separator: str
    names: tuple[str | None, ...] | None
    document: dict[str, Any]

    @property
    def codec_names(self) -> tuple[str, ...]:
        """Names of all codecs, those in shards among them."""
        if self.document.get("zarr_format") == 2:
            filters = self.document.get("filters") or []
            listed = [*filters, self.document.get("compressor")]
            return tuple(each["id"] for each in listed if each is not None)
        outer = self.document["codecs"]
        inner = []
        if self.shards is not None:
            inner = outer[0]["configuration"]["codecs"]
        return tuple(each["name"] for each in (*outer, *inner))

    @property
    def has_prefix(self) -> bool:
        """Whether names of chunks begin with ``c``."""
        encoding = self.document.get("chunk_key_encoding") or {"name": "default"}
        return self.document.get("zarr_format") == 3 and encoding.get("name") == "default"

    @property
    def has_checksums(self) -> bool:
        """Whether each chunk in its shards has a checksum."""
        outer = self.document.get("codecs") or [{}]
        inner = outer[0].get("configuration", {}).get("codecs", [])
        return any(codec.get("name") == "crc32c" for codec in inner)


def array_file(folder: Path, version: OmeVersion) -> Path:
    """File that the metadata of an array are in."""
    return folder / array_file_name(version)


def array_file_name(version: OmeVersion) -> str:
    """Name of the file that the metadata of an array are in."""
    return "zarr.json" if version is OmeVersion.V05 else ".zarray"


def read_array(where: Where, version: OmeVersion) -> ArrayMeta:
    """Read the metadata of an array.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If its metadata are not those of an array, or it is none that may be read.
    """
    place, name = as_place(where), array_file_name(version)
    file = f"{place}/{name}"
    document = read_document(place, name)
    if document is None:
        raise NotStoredError(f"{place}: there is no array (no {name})")
    try:
        meta = _meta_v3(document) if version is OmeVersion.V05 else _meta_v2(document)
        _check_sizes(meta)
    except _ArrayError as error:
        raise UnreadableError(f"{file}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{file} does not describe an array: {error!r}") from error
    return meta


class _ArrayError(Exception):
    """Why an array is not read."""


def _meta_v3(document: dict[str, Any]) -> ArrayMeta:
    if document.get("zarr_format") != 3 or document.get("node_type") != "array":
        raise _ArrayError("does not describe an array of Zarr v3")
    grid = document["chunk_grid"]
    if grid["name"] != "regular":
        raise _ArrayError(f"its chunks are not regular: {grid['name']!r}")
    outer = _sides("chunk_shape", grid["configuration"]["chunk_shape"])
    codecs = document["codecs"]
    chunks, shards = outer, None
    if codecs and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        chunks, shards = _sides("chunk_shape", sharding["chunk_shape"]), outer
        codecs = [*codecs[1:], *sharding["codecs"], *sharding.get("index_codecs", [])]
        if len(chunks) != len(shards) or any(
            inner < 1 or whole % inner for inner, whole in zip(chunks, shards, strict=True)
        ):
            raise _ArrayError(f"shards of {shards} do not hold chunks of {chunks}")
    for codec in codecs:
        _check_codec_v3(codec["name"])
    encoding = document.get("chunk_key_encoding", {})
    names = document.get("dimension_names")
    return ArrayMeta(
        shape=_sides("shape", document["shape"]),
        dtype=_dtype_v3(document["data_type"]),
        chunks=chunks,
        shards=shards,
        separator=str(encoding.get("configuration", {}).get("separator", "/")),
        names=None if names is None else tuple(names),
        document=document,
    )


def _meta_v2(document: dict[str, Any]) -> ArrayMeta:
    if document.get("zarr_format") != 2:
        raise _ArrayError("does not describe an array of Zarr v2")
    for codec in [document.get("compressor"), *(document.get("filters") or [])]:
        if codec is not None and codec["id"] not in _NUMCODECS:
            raise _ArrayError(f"the codec {codec['id']!r} is not used on what others wrote")
    dtype = document["dtype"]
    if not isinstance(dtype, str) or len(dtype) != 3 or dtype[0] not in "<>|":
        raise _ArrayError(f"elements of type {dtype!r} are not read")
    return ArrayMeta(
        shape=_sides("shape", document["shape"]),
        dtype=_checked_dtype(np.dtype(dtype)),
        chunks=_sides("chunks", document["chunks"]),
        shards=None,
        separator=str(document.get("dimension_separator", ".")),
        names=None,
        document=document,
    )


def _check_codec_v3(name: object) -> None:
    if not isinstance(name, str):
        raise _ArrayError(f"{name!r} is no name of a codec")
    if name not in _CODECS and name.removeprefix("numcodecs.") not in _NUMCODECS:
        raise _ArrayError(f"the codec {name!r} is not used on what others wrote")


def _dtype_v3(name: object) -> np.dtype[Any]:
    known = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
    if name not in (*known, "float16", "float32", "float64"):
        raise _ArrayError(f"elements of type {name!r} are not read")
    return _checked_dtype(np.dtype(str(name)))


def _checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind + str(dtype.itemsize) not in DTYPES:
        raise _ArrayError(f"elements of type {dtype} are not read")
    return dtype


def _sides(what: str, sides: object) -> tuple[int, ...]:
    if not isinstance(sides, list) or not all(map(_is_side, sides)) or len(sides) > _MOST_AXES:
        raise _ArrayError(f"{what} has to be whole numbers from 0 to 2**53, not {str(sides)[:80]}")
    return tuple(sides)


def _is_side(side: object) -> TypeGuard[int]:
    return type(side) is int and 0 <= side <= _SIDE_MOST


def _check_sizes(meta: ArrayMeta) -> None:
    if not len(meta.shape) == len(meta.chunks) == len(meta.names or meta.shape):
        raise _ArrayError(
            f"shape {meta.shape}, chunks {meta.chunks} and names {meta.names} differ in length"
        )
    if not all(meta.chunks) or not all(meta.shards or (1,)):
        raise _ArrayError(f"chunks of {meta.chunks} hold nothing")
    nbytes = _product(meta.chunks) * meta.dtype.itemsize
    if nbytes > CHUNK_MOST_BYTES:
        raise _ArrayError(
            f"its chunks of {meta.chunks} take {nbytes} bytes each, more than {CHUNK_MOST_BYTES}"
        )
    if meta.shards is not None:
        entries = _product(meta.shards) // _product(meta.chunks)
        if entries * 16 > _INDEX_MOST_BYTES:
            raise _ArrayError(f"its shards have an index of {entries} chunks each")


def _product(sides: Sequence[int]) -> int:
    return math.prod(sides)
