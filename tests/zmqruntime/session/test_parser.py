from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime.session import EnvelopeError, EnvelopeLimits, encode, parse, parse_hello
from zmqruntime.testing.conformance import golden_envelopes

CODES = {"too_large", "invalid_json", "invalid_payload", "unknown_type", "unexpected_message"}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def envelope(**changes: Any) -> str:
    return json.dumps({**json.loads(golden_envelopes(1)["notify.state"]), **changes})


def hello(**changes: Any) -> str:
    text = json.loads(golden_envelopes(1)["session.hello"])
    text["payload"] |= changes
    return json.dumps(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("\xff", "invalid_json"),
        ("NaN", "invalid_json"),
        ("null", "invalid_payload"),
        ("[]", "invalid_payload"),
        ("{}", "unknown_type"),
        ('{"type": 7}', "unknown_type"),
        ('{"type": "notify.nonsense"}', "unknown_type"),
        ('{"type": "notify.state"}', "invalid_payload"),
        (envelope(payload=None), "invalid_payload"),
        (envelope(timestamp="now"), "invalid_payload"),
        (envelope(id=7), "invalid_payload"),
    ],
)
def test_what_is_no_envelope_is_an_error_with_a_name(text: str, code: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse(text, 1)
    assert caught.value.code == code
    assert isinstance(caught.value, ValueError)


def test_the_cap_on_length_is_checked_before_anything_is_read() -> None:
    with pytest.raises(EnvelopeError, match="1048577 bytes") as caught:
        parse(b"\xff" * (1024 * 1024 + 1), 1)
    assert caught.value.code == "too_large"


def test_a_stranger_has_4_kib() -> None:
    with pytest.raises(EnvelopeError, match="4096") as caught:
        parse_hello(hello(client={"name": "a", "version": "1", "more": "x" * 4096}))
    assert caught.value.code == "too_large"


def test_the_cap_on_depth_holds() -> None:
    def deep(levels: int) -> str:
        return envelope(payload={"scope": "a", "target": "b", "key": "c"})[:-2] + (
            ', "value": ' + "[" * levels + "]" * levels + "}}"
        )

    assert parse(deep(29), 1).unknown == ()
    for levels in (33, 5_000, 100_000):
        with pytest.raises(EnvelopeError) as caught:
            parse(deep(levels), 1)
        assert caught.value.code in ("too_large", "invalid_json")


def test_the_cap_on_items_holds() -> None:
    payload = {"scope": "a", "target": "b", "key": "c", "value": [0] * 100_001}
    with pytest.raises(EnvelopeError, match="100000 values"):
        parse(envelope(payload=payload), 1)


@pytest.mark.parametrize("name", ["stranger_bytes", "nbytes", "depth", "items"])
def test_caps_can_be_lowered_and_not_raised(name: str) -> None:
    assert getattr(EnvelopeLimits(**{name: 1}), name) == 1
    for value in (0, getattr(EnvelopeLimits(), name) + 1):
        with pytest.raises(ValueError, match=name):
            EnvelopeLimits(**{name: value})


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_an_envelope_or_an_error_by_name(data: bytes) -> None:
    codes: list[str] = []
    for read in (lambda: parse(data, 1), lambda: parse(data, 2), lambda: parse_hello(data)):
        try:
            read()
        except EnvelopeError as error:
            codes.append(error.code)
    assert set(codes) <= CODES


@given(
    st.sampled_from([(p, text) for p in (1, 2) for text in golden_envelopes(p).values()]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_broken_golden_envelope_is_one_or_an_error_by_name(
    golden: tuple[int, str], data: st.DataObject
) -> None:
    protocol, text = golden
    content = json.loads(text)
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(PLAIN)
        break
    broken = json.dumps(content)
    try:
        parsed = parse(broken, protocol)
    except EnvelopeError as error:
        code = error.code
    else:
        code = "invalid_json"
        again = parse(encode(parsed.envelope), protocol)
        assert again.envelope == parsed.envelope
    assert code in CODES


def test_a_hello_of_protocol_1_is_read() -> None:
    read = parse_hello(golden_envelopes(1)["session.hello"])
    assert (read.protocols, read.form, read.id, read.frame_id) == ((1,), 1, "0f6f…", None)
    assert read.features == {"notify.state": True, "notify.scene": True, "notify.stream": True}
    assert read.choose() == 1


def test_a_hello_of_protocol_2_is_read() -> None:
    read = parse_hello(golden_envelopes(2)["session.hello"])
    assert (read.protocols, read.form, read.id, read.frame_id) == ((1, 2), 2, None, "c1")
    assert read.resume_tokens["notify.scene"] is None
    assert read.choose() == 2
    assert read.choose((1,)) == 1
    assert "…" not in repr(read), "tokens stay out of logs"


@pytest.mark.req("004.13")
def test_protocols_count_more_than_protocol() -> None:
    assert parse_hello(hello(protocol=1, protocols=[1, 2])).choose() == 2
    assert parse_hello(hello(protocol=7)).choose() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": None},
        {"protocol": "1"},
        {"client": None},
        {"client": {"name": "", "version": "1"}},
        {"auth": {"token": "x" * 3000}},
        {"protocols": "2"},
    ],
)
def test_a_malformed_hello_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_hello(hello(**changes))
    assert caught.value.code == "invalid_payload"


def test_a_hello_without_any_protocol_is_refused() -> None:
    text = json.loads(golden_envelopes(1)["session.hello"])
    del text["payload"]["protocol"]
    with pytest.raises(EnvelopeError, match="one of protocol and protocols"):
        parse_hello(json.dumps(text))
