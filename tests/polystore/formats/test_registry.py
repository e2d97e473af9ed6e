from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

import numpy as np
import pytest

from polystore import FormatError, Kind, Payload, UnknownFormatError, UnreadableError
from polystore.formats import Format, Formats, JsonFormat, NpyFormat, standard_formats


@dataclass(frozen=True)
class Upper:
    """A format of somebody else: text in capitals."""

    suffixes: tuple[str, ...] = (".upper", ".up.per")
    name: str = "capitals"
    package: str = "somebody's"
    kinds: frozenset[Kind] = frozenset({Kind.TEXT})

    def refusal(self, payload: Payload) -> str | None:
        return None if payload.kind is Kind.TEXT else "it is no text"

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        stream.write(payload.text.upper().encode())

    def read(self, stream: IO[bytes], where: str) -> Payload:
        if not (content := stream.read()):
            raise UnreadableError(f"{where} is empty")
        return Payload(data=content.decode(), kind=Kind.TEXT)


def test_a_format_of_a_third_party_is_one_among_others() -> None:
    formats = standard_formats()
    formats.add(Upper())
    assert isinstance(Upper(), Format)
    text = Payload(data="quiet", kind=Kind.TEXT)
    assert formats.to_bytes("a/b.upper", text) == b"QUIET"
    assert formats.from_bytes("a/b.UP.PER", b"LOUD").text == "LOUD"
    assert len(formats) == len(standard_formats()) + 1
    with pytest.raises(UnreadableError, match=r"s3://bucket/a\.upper is empty"):
        formats.from_bytes("a.upper", b"", "s3://bucket/a.upper")
    with pytest.raises(FormatError, match=r"could hold it here: capitals \(\.upper\)"):
        Formats([NpyFormat(), Upper()]).to_bytes("a.npy", text)


def test_a_registry_is_its_own() -> None:
    standard_formats().add(Upper())
    assert standard_formats().find("a.upper") is None


def test_two_formats_of_one_suffix_are_an_error() -> None:
    with pytest.raises(FormatError, match=r"\.npy is NPY here already, so it cannot be capitals"):
        Formats([NpyFormat(), Upper(suffixes=(".npy",))])


@pytest.mark.parametrize("suffix", ["npy", ".NPY", "", ".", ".a b", ".a/b", "..a", ".a."])
def test_what_cannot_be_a_suffix_is_an_error(suffix: str) -> None:
    with pytest.raises(FormatError, match="no suffix"):
        Formats([Upper(suffixes=(suffix,))])
    with pytest.raises(FormatError, match="no suffix"):
        Formats([Upper(suffixes=())])


@pytest.mark.parametrize("name", ["plane", "plane.czi", ".npy", "a.npy/plane", "plane.npy.", ""])
def test_a_name_that_says_no_format_is_an_error_that_lists_them(name: str) -> None:
    formats = Formats([NpyFormat(), JsonFormat()])
    assert formats.find(name) is None
    for act in (
        lambda: formats.of(name),
        lambda: formats.read(name, io.BytesIO()),
        lambda: formats.to_bytes(name, Payload(data=np.zeros((1, 1)))),
    ):
        with pytest.raises(UnknownFormatError, match=r"let it end in one of \.json, \.npy"):
            act()
    with pytest.raises(UnknownFormatError, match="this registry is empty"):
        Formats().of("a.npy")


def test_the_longest_suffix_counts() -> None:
    inner, outer = Upper(suffixes=(".per",)), Upper(suffixes=(".up.per",))
    formats = Formats([inner, outer])
    assert formats.of("a.up.per") is outer
    assert formats.of("a.b.per") is inner
    assert formats.of("plate.B03.per") is inner


def test_what_nothing_could_hold_is_said() -> None:
    with pytest.raises(FormatError, match="no format here could hold it"):
        Formats([NpyFormat()]).to_bytes("a.npy", Payload(data="x", kind=Kind.TEXT))
