from __future__ import annotations

import io

import pytest

from polystore import Components, FormatError, Kind, Payload, UnreadableError
from polystore.formats import Format, TextFormat, standard_formats
from polystore.testing import FormatTests, assert_equal


class TestText(FormatTests):
    notices_cuts = False

    def make(self) -> Format:
        return TextFormat()

    def holds(self, payload: Payload) -> bool:
        return payload.kind is Kind.TEXT and payload.components == Components()


def test_the_file_is_the_text_and_nothing_else() -> None:
    text = "first\r\nsecond µ\n\ufeff"
    payload = Payload(data=text, kind=Kind.TEXT)
    assert standard_formats().to_bytes("a.txt", payload) == text.encode()
    assert_equal(standard_formats().from_bytes("a.txt", text.encode()), payload)


def test_what_there_is_no_place_for_is_named() -> None:
    payload = Payload(data="x", kind=Kind.TEXT, components=Components(well="A01"), run="7")
    with pytest.raises(FormatError, match=r"says components, run too; .*JSON \(\.json\)"):
        standard_formats().to_bytes("a.txt", payload)
    with pytest.raises(FormatError, match="not Unicode"):
        standard_formats().to_bytes("a.txt", Payload(data="\ud800", kind=Kind.TEXT))


def test_another_encoding_is_an_error() -> None:
    with pytest.raises(UnreadableError, match=r"a\.txt is no text in UTF-8"):
        TextFormat().read(io.BytesIO("µ".encode("latin-1")), "a.txt")
