"""The page on frames is enough: who has it alone reads what is sent, and its bytes are ours."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from polystore import Components, Kind, Payload, Provenance, Table, decode, encode
from polystore.testing.strategies import payloads

PAGE = Path(__file__).parents[3] / "docs" / "protocol" / "payloads.md"
KINDS = ["point", "line", "polygon", "rectangle", "ellipse", "mask"]


def example(title: str) -> tuple[bytes, list[bytes]]:
    """Read the bytes of an example, a header and then each buffer."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2]
    block = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert block is not None
    parts = [
        "".join(re.match(r"(?:[0-9a-f]{2} ?)*", line).group() for line in part.splitlines())  # type: ignore[union-attr]  # an empty match is one
        for part in block[1].split("buffer\n")
    ]
    header, *buffers = map(bytes.fromhex, parts)
    return header, buffers


@pytest.mark.parametrize(
    ("title", "payload"),
    [
        (
            "Bytes of an image",
            Payload(data=np.array([[1, 515]], "<u2"), components=Components(well="A01")),
        ),
        (
            "Bytes of a table",
            Payload(
                data=Table(
                    {"area": np.array([2.5, 0]), "gene": ("MYC", "é")},
                    {"area": "µm²"},
                    {"area": np.array([False, True])},
                ),
                kind=Kind.TABLE,
                provenance=Provenance(sources=("n",), software="demo 1"),
            ),
        ),
    ],
)
def test_the_bytes_on_the_page_are_those_that_are_sent(title: str, payload: Payload) -> None:
    header, buffers = example(title)
    sent, views = encode(payload)
    assert sent == header
    assert [bytes(view) for view in views] == buffers
    assert decode(header, buffers).kind is payload.kind


def read(header: bytes, buffers: list[bytes]) -> dict[str, Any]:
    """Read a payload as somebody would who has nothing but the page."""
    fields = msgspec.msgpack.decode(header)
    rest = iter(buffers)
    arrays: dict[str, Any] = {}
    missing: dict[str, list[int]] = {}
    for entry in fields["arrays"]:
        own = [next(rest) for _ in entry["sizes"]]
        if entry.get("missing"):
            bits = own.pop()
            rows = range(entry["shape"][0])
            missing[entry["name"]] = [bits[row // 8] >> (7 - row % 8) & 1 for row in rows]
        if entry["dtype"] == "text":
            ends = np.frombuffer(own[0], "<i8").tolist()
            made: Any = [own[1][a:b].decode() for a, b in pairwise(ends)]
        else:
            made = np.frombuffer(own[0], entry["dtype"]).reshape(entry["shape"])
        arrays[entry["name"]] = made
    assert next(rest, None) is None
    if fields["kind"] == "regions" and len(fields["arrays"]) == 3:
        count = len(arrays["labels"])
        arrays |= {"rings": np.arange(count + 1), "kinds": np.full(count, 2), "bits": b""}
    return {**fields, "arrays": arrays, "missing": missing}


@settings(max_examples=60, deadline=None)
@given(payload=payloads())
def test_a_reader_made_from_the_page_reads_every_payload(payload: Payload) -> None:
    header, views = encode(payload)
    found = read(header, [bytes(view) for view in views])
    assert found["kind"] == payload.kind
    assert found.get("components", {}) == payload.components.to_dict()
    assert (found.get("made") or {}).get("software") == (
        payload.provenance.software if payload.provenance else None
    )
    arrays = found["arrays"]
    if payload.kind is Kind.TEXT:
        assert arrays["data"] == [payload.text]
    elif payload.kind is Kind.TABLE:
        assert list(arrays) == list(payload.table)
        assert {name: [bool(bit) for bit in bits] for name, bits in found["missing"].items()} == {
            name: mask.tolist() for name, mask in payload.table.missing.items()
        }
    elif payload.kind is Kind.REGIONS:
        byte = 0
        for number, region in enumerate(payload.regions):
            assert KINDS[arrays["kinds"][number]] == region.kind
            assert arrays["labels"][number] == region.label
            rings = range(arrays["rings"][number], arrays["rings"][number + 1])
            for mine, ring in zip(region.rings, rings, strict=True):
                corners = arrays["vertices"][arrays["offsets"][ring] : arrays["offsets"][ring + 1]]
                np.testing.assert_array_equal(corners, mine)
            if region.mask is not None:
                for place, pixel in enumerate(region.mask.ravel().tolist()):
                    bit = arrays["bits"][byte + place // 8] >> (7 - place % 8) & 1
                    assert bool(bit) == pixel
                byte += -(-region.mask.size // 8)
    else:
        assert arrays["data"].tobytes() == payload.array.tobytes()


def test_the_versions_and_caps_of_the_page_are_ours() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d) \| ", text, re.MULTILINE) == ["1", "2", "3"]
    for cap in ("64 KiB", "1024 maps", "4 GiB"):
        assert cap in text
