from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from polystore import FormatError, Kind, Payload, UnreadableError
from polystore.formats import Format, JsonFormat
from polystore.testing import FormatTests, assert_equal

JSON = JsonFormat()


class TestJson(FormatTests):
    def make(self) -> Format:
        return JsonFormat()


def written(payload: Payload) -> bytes:
    stream = io.BytesIO()
    JSON.write(payload, stream)
    return stream.getvalue()


def read(content: bytes) -> Payload:
    return JSON.read(io.BytesIO(content), "cells.json")


def test_any_json_library_reads_the_values() -> None:
    plane = np.array([[0.1, np.nan], [np.inf, -0.0]], "f4")
    document = json.loads(written(Payload(data=plane)), parse_constant=pytest.fail)
    (array,) = document["arrays"]
    assert array["shape"] == [2, 2]
    assert np.array_equal(np.array(array["values"], "f4"), plane, equal_nan=True)


@pytest.mark.parametrize("text", ["[1, 2]", '{"a": {"b": null}}', '"µ"', "3"])
def test_a_document_of_others_is_text(text: str) -> None:
    assert_equal(read(text.encode()), Payload(data=text, kind=Kind.TEXT))


def document(**changes: Any) -> bytes:
    array = {"name": "data", "dtype": "<u2", "shape": [1, 2], "values": [[1, 2]], **changes}
    return json.dumps({"polystore": 1, "kind": "image", "arrays": [array]}).encode()


def test_a_document_written_by_hand_is_read() -> None:
    assert read(document()).array.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": [[1, 2, 3]]}, "not of the shape"),
        ({"values": [1, 2]}, "not of the shape"),
        ({"values": {}}, "not of the shape"),
        ({"shape": [1, 2, 1]}, "not of the shape"),
        ({"shape": [-1]}, "not of the shape"),
        ({"shape": 2}, "no shape"),
        ({"shape": [0, 10**12], "values": []}, "header"),
        ({"values": [[1, 2.5]]}, "no uint16"),
        ({"values": [[1, True]]}, "no uint16"),
        ({"values": [[1, "2"]]}, "no uint16"),
        ({"values": [[1, None]]}, "no uint16"),
        ({"values": [[1, 65536]]}, "beyond uint16"),
        ({"values": [[1, -1]]}, "beyond uint16"),
        ({"dtype": "<f4", "values": [[1, 1e39]]}, "beyond float32"),
        ({"dtype": "<f4", "values": [[1, 10**400]]}, "cells.json"),
        ({"dtype": "<f4", "values": [[1, "nan"]]}, "no float32"),
        ({"dtype": "|O"}, "not allowed"),
        ({"dtype": 3}, "not allowed"),
        ({"name": "other"}, "called data"),
        ({"more": 1}, "name, dtype, shape and values"),
    ],
)
def test_a_document_that_contradicts_itself_is_an_error(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        read(document(**changes))
    assert "cells.json" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b'{"polystore": 1}',
        b'{"polystore": 1, "kind": "cube", "arrays": []}',
        b'{"polystore": true, "kind": "image", "arrays": []}',
        b'{"polystore": 0, "kind": "image", "arrays": []}',
        b'{"polystore": 9, "kind": "image", "arrays": []}',
        b'{"polystore": 1, "kind": "image", "arrays": 3}',
        b'{"polystore": 1, "kind": "table", "arrays": [null]}',
        b'{"polystore": 1, "kind": "table", "arrays": [], "unknown": 1}',
        b'{"polystore": 1, "kind": "table", "arrays": [], "components": {"well": 3}}',
        b'{"polystore": 1, "kind": "table", "arrays": [], "components": []}',
        b'{"polystore": 1, "kind": "table", "arrays": [], "lossy": "yes"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        b"1" * 10_000,
    ],
)
def test_a_document_that_cannot_be_is_an_error(content: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"cells\.json"):
        read(content)


def test_a_payload_that_no_frame_could_carry_is_refused() -> None:
    columns = {f"column {number}": np.zeros(1, "u1") for number in range(2000)}
    with pytest.raises(FormatError, match="2000 arrays"):
        written(Payload(data=columns, kind=Kind.TABLE))
    with pytest.raises(FormatError, match="not Unicode"):
        written(Payload(data="\ud800", kind=Kind.TEXT))
