"""Damaged and hostile metadata of every format: something is said, soon, within some memory."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
from tests.openhcs.formats.hostile_plates import EVERY, PLATES, is_said, opened, plates, texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["plates"]


def as_text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def behind_declaration(data: bytes, insert: bytes) -> bytes:
    declaration = re.match(rb"(\xef\xbb\xbf)?\s*<\?xml[^>]*\?>\s*", data)
    place = declaration.end() if declaration else 0
    return data[:place] + insert + data[place:]


def inside_root(data: bytes, insert: bytes) -> bytes:
    root = re.search(rb"<[A-Za-z:]+[^>?]*>", data)
    assert root is not None
    return data[: root.end()] + insert + data[root.end() :]


BOMB = (
    b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]>"
)
OUTSIDE = b'<!DOCTYPE r SYSTEM "file:///etc/passwd" [<!ENTITY p SYSTEM "file:///etc/passwd">]>'


@EVERY
def test_metadata_that_were_cut_short_or_emptied_are_named(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    assert not whole.unread
    for file in texts(folder):
        data = file.read_bytes()
        for part in (b"", data[: len(data) // 2]):
            file.write_bytes(part)
            found = opened(name, folder)
            if file.suffix.lower() not in {".wpi", ".wpp", ".mxprotocol", ".json"}:
                unused = name in {"described", "scanr"} and "descriptor" in file.name
                assert is_said(found, whole) or unused, file
        file.write_bytes(data)


@EVERY
def test_metadata_in_other_encodings_say_the_same_or_are_named(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    assert whole.plate is not None
    for file in texts(folder):
        data = file.read_bytes()
        text = as_text(data)
        wide = re.sub(r'encoding="[^"]*"', 'encoding="UTF-16"', text)
        for encoded in (
            b"\xef\xbb\xbf" + re.sub(r'encoding="[^"]*"', 'encoding="UTF-8"', text).encode(),
            wide.encode("utf-16"),
            text.encode("utf-32"),
        ):
            file.write_bytes(encoded)
            found = opened(name, folder)
            same = found.plate is not None and len(found.plate) == len(whole.plate)
            assert same or is_said(found, whole), file
        file.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [name for name in PLATES if not name.startswith(("imagexpress", "cell", "num", "ome-z"))],
)
def test_entities_are_refused_and_depth_and_length_are_borne(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    for file in texts(folder):
        data = file.read_bytes()
        if not data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
            continue
        for declared in (BOMB, OUTSIDE):
            file.write_bytes(behind_declaration(data, declared))
            found = opened(name, folder)
            refused = found.codes["XML_ENTITY"] or found.refused
            unread = file.suffix in {".wpi", ".wpp"} or "crosstalk" in file.name
            assert refused or unread or name == "described", file
            assert "root:" not in str(found)
        file.write_bytes(inside_root(data, b"<a>" * 50_000 + b"</a>" * 50_000))
        assert opened(name, folder).codes == whole.codes
        file.write_bytes(inside_root(data, b"<a>" + b"x" * 20_000_000 + b"</a>"))
        opened(name, folder)
        file.write_bytes(data)


NUMBERS = (b"1000000000", b"-1", b"nan", b"1e999", b"9" * 5000, b"99999999999999999999", b"0", b"")


@EVERY
def test_numbers_that_cannot_be_are_borne(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    chance = random.Random(5)
    for file in texts(folder):
        data = file.read_bytes()
        places = [m.span(1) for m in re.finditer(rb'[">,: \[](-?\d+(?:\.\d+)?)(?=[]"<,\s}])', data)]
        for start, end in chance.sample(places, min(8, len(places))):
            file.write_bytes(data[:start] + chance.choice(NUMBERS) + data[end:])
            opened(name, folder, deep=False)
        file.write_bytes(data)


NAMES = (
    "../../etc/passwd",
    "/etc/passwd",
    r"..\..\x.tif",
    r"C:\\x.tif",
    r"a\u0000b.tif",
    r"\ud800.tif",
    "..",
    "x" * 70_000,
)


@EVERY
def test_names_that_lead_out_of_the_plate_or_nowhere_are_named(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder, deep=False)
    for file in texts(folder):
        data = file.read_bytes()
        listed = re.compile(rb'(?<=[">,|])(?!http)[^"<>,|]+\.(?i:tiff?|png)(?=["<,\s])')
        places = [match.span() for match in listed.finditer(data)]
        for start, end in places[:1]:
            for odd in NAMES:
                file.write_bytes(data[:start] + odd.encode() + data[end:])
                found = opened(name, folder, deep=False)
                unread = name == "described" or file.suffix in {".mrf", ".mes", ".xdce"}
                assert is_said(found, whole) or unread, (file, odd)
                assert "root:" not in str(found)
        file.write_bytes(data)
