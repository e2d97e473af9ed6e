from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import zmqruntime
from zmqruntime.session import (
    PROTOCOLS,
    EnvelopeError,
    Reference,
    canonical,
    encode,
    json_schema,
    parse,
    protocol1,
    protocol2,
    type_of,
)
from zmqruntime.testing.conformance import golden_envelopes, golden_schema

GOLDEN = [
    (protocol, name, text)
    for protocol in PROTOCOLS
    for name, text in golden_envelopes(protocol).items()
]
NAMES = [f"{protocol}-{name}" for protocol, name, _ in GOLDEN]
TEXTS = [(protocol, text) for protocol, _, text in GOLDEN]


@pytest.mark.req(
    "004.2", "004.3", "004.4", "004.6", "004.7", "004.8", "004.9", "004.10", "B.11", "T7"
)
@pytest.mark.parametrize(("protocol", "name", "text"), GOLDEN, ids=NAMES)
def test_a_golden_envelope_is_read_and_written_again_byte_for_byte(
    protocol: int, name: str, text: str
) -> None:
    parsed = parse(text, protocol)
    assert parsed.unknown == ()
    assert name.startswith(type_of(parsed.envelope))
    assert canonical(encode(parsed.envelope)) == canonical(text)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_envelope_has_a_golden_example(protocol: int) -> None:
    shapes = {1: protocol1.ENVELOPES, 2: protocol2.ENVELOPES}[protocol]
    shown = {json.loads(text)["type"] for text in golden_envelopes(protocol).values()}
    assert shown == {type_of(shape) for shape in shapes}


@pytest.mark.req("B.11")
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_schema_file_is_what_the_types_say(protocol: int) -> None:
    assert golden_schema(protocol) == json_schema(protocol)


@pytest.mark.req("004.7")
@pytest.mark.parametrize("field", ["axis_index", "meta", "interaction_id", "client", "ack"])
def test_null_is_not_absent(field: str) -> None:
    envelope = json.loads(golden_envelopes(1)["notify.state.view"])
    assert field not in json.loads(encode(parse(json.dumps(envelope), 1).envelope))["payload"]
    envelope["payload"][field] = None
    with pytest.raises(EnvelopeError, match=field) as caught:
        parse(json.dumps(envelope), 1)
    assert caught.value.code == "invalid_payload"


def test_null_is_a_value_where_anything_is() -> None:
    envelope = json.loads(golden_envelopes(1)["notify.state.view"])
    envelope["payload"]["value"] = None
    assert b'"value":null' in encode(parse(json.dumps(envelope), 1).envelope)


@pytest.mark.req("004.2")
@pytest.mark.parametrize(("protocol", "text"), TEXTS, ids=NAMES)
def test_an_unknown_key_of_the_envelope_is_refused(protocol: int, text: str) -> None:
    envelope = {**json.loads(text), "colour": "red"}
    with pytest.raises(EnvelopeError, match="colour"):
        parse(json.dumps(envelope), protocol)


@pytest.mark.req("004.13")
@pytest.mark.parametrize(("protocol", "text"), TEXTS, ids=NAMES)
def test_an_unknown_key_of_the_payload_is_ignored_and_named(protocol: int, text: str) -> None:
    envelope = json.loads(text)
    envelope["payload"]["colour"] = "red"
    parsed = parse(json.dumps(envelope), protocol)
    assert parsed.unknown == ("colour",)
    assert canonical(encode(parsed.envelope)) == canonical(text)


def test_unknown_keys_are_found_at_any_depth() -> None:
    envelope = json.loads(golden_envelopes(1)["notify.state"])
    envelope["payload"]["meta"]["colour"] = 1
    assert parse(json.dumps(envelope), 1).unknown == ("meta.colour",)


FORBIDDEN: list[tuple[str, str, Any]] = [
    ("session.hello", "session", "srv-1"),
    ("session.hello", "seq", 1),
    ("session.reject", "session", "srv-1"),
    ("session.welcome", "seq", 1),
    ("heartbeat", "intent_id", "i"),
    ("ack", "delta_token", "t"),
    ("notify.stream", "intent_id", "i"),
    ("notify.dims", "seq", 1),
    ("notify.telemetry", "seq", 1),
    ("state.update", "seq", 1),
    ("ack.state", "intent_id", "i"),
    ("call.command", "intent_id", "i"),
    ("call.cancel", "seq", 1),
]


@pytest.mark.parametrize(("name", "key", "value"), FORBIDDEN)
def test_protocol_2_refuses_what_an_envelope_must_not_carry(
    name: str, key: str, value: Any
) -> None:
    envelope = {**json.loads(golden_envelopes(2)[name]), key: value}
    with pytest.raises(EnvelopeError):
        parse(json.dumps(envelope), 2)


REQUIRED = [
    ("session.hello", "frame_id"),
    ("session.welcome", "session"),
    ("session.welcome", "frame_id"),
    ("heartbeat", "frame_id"),
    ("notify.scene", "seq"),
    ("notify.scene", "delta_token"),
    ("notify.layers", "delta_token"),
    ("notify.dims", "intent_id"),
    ("notify.camera", "frame_id"),
    ("state.update", "intent_id"),
    ("state.update", "frame_id"),
    ("ack.state", "session"),
    ("call.command", "frame_id"),
    ("heartbeat", "version"),
    ("heartbeat", "timestamp"),
    ("heartbeat", "payload"),
]


@pytest.mark.parametrize(("name", "key"), REQUIRED)
def test_protocol_2_refuses_an_envelope_that_lacks_what_it_needs(name: str, key: str) -> None:
    envelope = json.loads(golden_envelopes(2)[name])
    del envelope[key]
    with pytest.raises(EnvelopeError):
        parse(json.dumps(envelope), 2)


@pytest.mark.req("F.30")
def test_a_scene_with_another_number_than_0_is_refused() -> None:
    envelope = {**json.loads(golden_envelopes(2)["notify.scene"]), "seq": 1}
    with pytest.raises(EnvelopeError, match="seq is 0"):
        parse(json.dumps(envelope), 2)


def test_a_view_names_its_frame_or_its_intent_and_not_both() -> None:
    envelope = {**json.loads(golden_envelopes(2)["notify.camera"]), "intent_id": "i"}
    with pytest.raises(EnvelopeError, match="exactly one"):
        parse(json.dumps(envelope), 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"pixels", {1: 2}, object()])
def test_what_json_cannot_say_is_refused_instead_of_changed(value: object) -> None:
    payload = protocol1.StatePayload(scope="layer", target="a", key="gamma", value=value)
    with pytest.raises(EnvelopeError, match="plain values"):
        encode(protocol1.NotifyState(timestamp=0.0, payload=payload))


@pytest.mark.req("004.14")
def test_large_things_travel_by_reference_and_never_inside() -> None:
    reference = Reference(name="thumbnail", uri="https://lab.example/A01.png?signature=x")
    for shape, more in (
        (protocol1.NotifyReference, {}),
        (protocol2.NotifyReference, {"version": 2}),
    ):
        fields: dict[str, Any] = {**more, "session": "srv-1"} if more else {}
        text = encode(shape(timestamp=0.0, payload=reference, **fields))
        assert json.loads(text)["payload"]["uri"].startswith("https://")
    types = msgspec.json.encode([json_schema(protocol) for protocol in PROTOCOLS])
    assert b"contentEncoding" not in types  # how a schema says that bytes are base64


@pytest.mark.req("004.22")
def test_capabilities_of_protocol_1_are_spelled_as_they_always_were() -> None:
    assert protocol1.CAPABILITIES == (
        "notify.state",
        "notify.scene",
        "notify.stream",
        "call.command",
    )


@pytest.mark.req("004.18")
def test_each_envelope_is_defined_once() -> None:
    names: dict[str, list[str]] = {}
    for path in Path(zmqruntime.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                for keyword in node.keywords:
                    if keyword.arg == "tag" and isinstance(keyword.value, ast.Constant):
                        tag = str(keyword.value.value)
                        package = path.parent.name
                        place = package if package == "protocol2" else path.stem
                        names.setdefault(tag, []).append(f"{place}:{tag}")
    dotted = {name: places for name, places in names.items() if "." in name}
    allowed = {"protocol1", "protocol2", "_parser"}
    assert {place.partition(":")[0] for places in dotted.values() for place in places} <= allowed
    assert all(len(places) == len(set(places)) for places in dotted.values())


def test_canonical_text_is_the_same_for_the_same_content() -> None:
    assert canonical('{"b": 1.0, "a": "é"}') == canonical('{"a":"\\u00e9","b":1}')
    assert canonical("[1.5, 1e3]") == b"[1.5,1000]"
