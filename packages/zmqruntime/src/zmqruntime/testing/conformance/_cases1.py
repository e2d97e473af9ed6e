"""Cases of protocol 1."""

from __future__ import annotations

import json
from typing import Any

from zmqruntime.session import protocol1
from zmqruntime.testing.conformance._case import Case, Needs
from zmqruntime.testing.conformance._subject import Dialogue, Subject

__all__ = ["CASES_1", "open_1"]

FEATURES = {"notify_state": True, "notify_scene": True, "notify_stream": True}


def hello_1(subject: Subject, **changes: Any) -> dict[str, Any]:
    """Return the payload of a hello."""
    payload: dict[str, Any] = {
        "protocol": 1,
        "client": {"name": "conformance", "version": "1"},
        "extras": {"features": dict(FEATURES)},
    }
    if subject.token is not None:
        payload["auth"] = {"token": subject.token}
    return {key: value for key, value in (payload | changes).items() if value is not None}


def open_1(subject: Subject) -> Dialogue:
    """Open a session and take its baseline in."""
    dialogue = Dialogue(subject, 1)
    with dialogue.closing_on_failure():
        dialogue.say("session.hello", hello_1(subject))
        dialogue.welcome = dialogue.expect(protocol1.Welcome)
        dialogue.expect(protocol1.NotifyScene)
        dialogue.say("call.command", {"name": "conformance.no-such-command", "args": {}})
        dialogue.wait_for(protocol1.ErrorCommand)  # what comes by itself has come
    return dialogue


def welcome_echoes_the_hello(subject: Subject) -> None:
    """Check that the first envelope is a welcome with the id of the hello; then comes the scene."""
    with Dialogue(subject, 1) as dialogue:
        name = dialogue.say("session.hello", hello_1(subject))
        welcome = dialogue.expect(protocol1.Welcome)
        dialogue.check(welcome.id == name, f"the welcome echoes {welcome.id!r}, not {name!r}")
        dialogue.check(welcome.payload.protocol == 1, "the welcome states another protocol")
        dialogue.expect(protocol1.NotifyScene)


def capabilities_are_spelled_exactly(subject: Subject) -> None:
    """Check that the welcome lists notify.state, notify.scene, notify.stream and call.command."""
    with open_1(subject) as dialogue:
        stated = set(dialogue.welcome.payload.session.capabilities)
        missing = set(protocol1.CAPABILITIES) - stated
        dialogue.check(not missing, f"the welcome lacks {sorted(missing)}")


def _rejected(subject: Subject, payload: Any, type_: str = "session.hello") -> str:
    with Dialogue(subject, 1) as dialogue:
        name = dialogue.say(type_, payload)
        reject = dialogue.expect(protocol1.Reject)
        if type_ == "session.hello" and isinstance(payload, dict) and "client" in payload:
            dialogue.check(reject.id == name, "the reject does not echo the id of the hello")
        dialogue.check(reject.payload.message, "the reject does not say why")
        dialogue.expect_end()
        return str(reject.payload.code)


def hello_without_features_is_rejected(subject: Subject) -> None:
    """Who does not take all three notifications is rejected, and the connection closed."""
    for missing in FEATURES:
        features = {**FEATURES, missing: False}
        _rejected(subject, hello_1(subject, extras={"features": features}))
    _rejected(subject, hello_1(subject, extras=None))


def another_protocol_is_rejected(subject: Subject) -> None:
    """Check that who speaks a protocol that nobody knows is rejected."""
    _rejected(subject, hello_1(subject, protocol=999))


def anything_before_hello_is_rejected(subject: Subject) -> None:
    """Check that a command before the welcome is rejected."""
    _rejected(subject, {"name": "layer.create", "args": {}}, "call.command")


def wrong_token_is_rejected(subject: Subject) -> None:
    """Check that who shows a token that is none is rejected."""
    _rejected(subject, hello_1(subject, auth={"token": "not-" + str(subject.token)}))


def text_that_is_no_json_keeps_the_session(subject: Subject) -> None:
    """Check that a frame that is no JSON is answered by error.session, and the session goes on."""
    with open_1(subject) as dialogue:
        dialogue.connection.send('{"type": "notify.state", ')
        dialogue.expect(protocol1.ErrorSession)
        _still_there(dialogue)


def unknown_types_are_refused(subject: Subject) -> None:
    """Check that an envelope of a type that nobody knows is answered in kind."""
    with open_1(subject) as dialogue:
        dialogue.say("notify.nonsense", {})
        dialogue.expect(protocol1.ErrorSession)
        name = dialogue.say("call.nonsense", {})
        error = dialogue.expect(protocol1.ErrorCommand)
        dialogue.check(error.id == name, "the error does not share the id of the call")
        _still_there(dialogue)


def unknown_envelope_keys_are_refused(subject: Subject) -> None:
    """Check that a key beside type, id, timestamp and payload is refused."""
    with open_1(subject) as dialogue:
        dialogue.say("call.command", {"name": "x", "args": {}}, colour="red")
        dialogue.expect(protocol1.ErrorCommand, protocol1.ErrorSession)
        _still_there(dialogue)


def unknown_commands_are_not_implemented(subject: Subject) -> None:
    """Check that a command that nobody knows fails with NotImplemented and the id of its call."""
    with open_1(subject) as dialogue:
        _still_there(dialogue)


def _still_there(dialogue: Dialogue) -> None:
    payload = {"name": "conformance.no-such-command", "args": {}, "colour": "an unknown key"}
    name = dialogue.say("call.command", payload)
    error = dialogue.expect(protocol1.ErrorCommand)
    dialogue.check(error.id == name, "the error does not share the id of the call")
    dialogue.check(
        error.payload.code == "NotImplemented", f"{error.payload.code} is not NotImplemented"
    )


def set_1(dialogue: Dialogue, value: Any, seq: int, client: str = "c", **more: Any) -> None:
    """Ask for a change."""
    assert dialogue.subject.profile.property is not None
    scope, target, key = dialogue.subject.profile.property
    mark = {"id": client, "seq": seq}
    dialogue.say(
        "notify.state",
        {"scope": scope, "target": target, "key": key, "value": value, "client": mark, **more},
    )


def changes_are_echoed_to_their_sender_and_told_to_others(subject: Subject) -> None:
    """Check that the sender alone sees ack, and that server_seq grows."""
    with open_1(subject) as one, open_1(subject) as two:
        last = 0
        steps = zip(subject.profile.values, ("start", "commit"), strict=True)
        for seq, (value, phase) in enumerate(steps, start=1):
            set_1(one, value, seq, interaction_id="drag-1", phase=phase)
            echo, told = one.expect(protocol1.NotifyState), two.expect(protocol1.NotifyState)
            one.check(echo.payload.ack is True, "the echo to the sender has no ack: true")
            two.check(told.payload.ack is not True, "another client was sent ack: true")
            for each in (echo, told):
                one.check(each.payload.value == value, f"{each.payload.value!r} is not {value!r}")
                one.check(each.payload.client.seq == seq, "the echo has another client.seq")
                one.check(each.payload.interaction_id == "drag-1", "interaction_id was lost")
            one.check(echo.payload.server_seq == told.payload.server_seq, "two server_seq")
            one.check(echo.payload.server_seq > last, "server_seq does not grow")
            last = echo.payload.server_seq


def refused_changes_name_what_offends(subject: Subject) -> None:
    """Check that a value that is refused is answered by error.state with the offending change."""
    with open_1(subject) as dialogue:
        set_1(dialogue, subject.profile.bad_value, 1)
        error = dialogue.expect(protocol1.ErrorState)
        offending = error.payload.offending
        asked = (*(subject.profile.property or ()), subject.profile.bad_value)
        found = (offending.scope, offending.target, offending.key, offending.value)
        dialogue.check(found == asked, f"offending is {found}, not {asked}")
        _still_there(dialogue)


def malformed_changes_are_refused(subject: Subject) -> None:
    """Check that notify.state without a target is answered by error.state."""
    with open_1(subject) as dialogue:
        dialogue.say("notify.state", {"scope": "layer", "key": "gamma", "value": 1})
        dialogue.expect(protocol1.ErrorState)
        _still_there(dialogue)


def commands_are_matched_by_id(subject: Subject) -> None:
    """Check that calls that are under way together are answered each by its id."""
    profile = subject.profile
    with open_1(subject) as dialogue:
        payload = {"name": profile.command, "args": dict(profile.arguments)}
        names = {dialogue.say("call.command", payload) for _ in range(8)}
        answered = set()
        for _ in names:
            reply = dialogue.expect(protocol1.ReplyCommand)
            dialogue.check(reply.payload.result == profile.result, f"{reply.payload.result!r}")
            answered.add(reply.id)
        dialogue.check(answered == names, "the replies have other ids than the calls")


def a_deep_frame_is_refused(subject: Subject) -> None:
    """Check that a frame that nests deeper than 32 is refused, and the session goes on."""
    with open_1(subject) as dialogue:
        deep = "[" * 100 + "]" * 100
        payload = '{"scope":"layer","target":"x","key":"y","value":' + deep + "}"
        text = json.dumps({"type": "notify.state", "timestamp": 0})[:-1]
        dialogue.connection.send(text + ', "payload": ' + payload + "}")
        dialogue.expect(protocol1.ErrorSession, protocol1.ErrorState)
        _still_there(dialogue)


CASES_1: tuple[Case, ...] = tuple(
    Case.of(1, function, needs)
    for function, needs in (
        (welcome_echoes_the_hello, Needs.READ),
        (capabilities_are_spelled_exactly, Needs.READ),
        (hello_without_features_is_rejected, Needs.READ),
        (another_protocol_is_rejected, Needs.READ),
        (anything_before_hello_is_rejected, Needs.READ),
        (wrong_token_is_rejected, Needs.TOKEN),
        (text_that_is_no_json_keeps_the_session, Needs.READ),
        (unknown_types_are_refused, Needs.READ),
        (unknown_envelope_keys_are_refused, Needs.READ),
        (unknown_commands_are_not_implemented, Needs.READ),
        (a_deep_frame_is_refused, Needs.READ),
        (malformed_changes_are_refused, Needs.READ),
        (changes_are_echoed_to_their_sender_and_told_to_others, Needs.PROPERTY),
        (refused_changes_name_what_offends, Needs.BAD_VALUE),
        (commands_are_matched_by_id, Needs.COMMAND),
    )
)
"""Cases of protocol 1, in the order in which they are best read."""
