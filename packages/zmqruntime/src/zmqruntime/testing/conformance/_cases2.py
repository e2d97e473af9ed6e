"""Cases of protocol 2."""

from __future__ import annotations

from typing import Any

from zmqruntime.session import protocol2
from zmqruntime.testing.conformance._case import Case, Needs
from zmqruntime.testing.conformance._subject import Dialogue, Subject

__all__ = ["CASES_2", "open_2"]


def hello_2(
    subject: Subject, *, tokens: dict[str, str] | None = None, **changes: Any
) -> dict[str, Any]:
    """Return the payload of a hello."""
    payload: dict[str, Any] = {
        "protocols": [2],
        "client": {"name": "conformance", "version": "1", "platform": "test"},
        "features": dict.fromkeys(protocol2.TOPICS, True),
        "resume_tokens": tokens or {},
    }
    if subject.token is not None:
        payload["auth"] = {"type": "bearer", "token": subject.token}
    return payload | changes


def open_2(subject: Subject, tokens: dict[str, str] | None = None) -> Dialogue:
    """Open a session; what comes after the welcome is left to the caller."""
    dialogue = Dialogue(subject, 2)
    with dialogue.closing_on_failure():
        dialogue.say("session.hello", hello_2(subject, tokens=tokens))
        dialogue.welcome = dialogue.expect(protocol2.Welcome)
    dialogue.session = dialogue.welcome.session
    for topic, feature in dialogue.welcome.payload.features.items():
        if feature.resume_state:
            dialogue.tokens[topic] = feature.resume_state.delta_token
    return dialogue


def begun_2(subject: Subject) -> Dialogue:
    """Open a session and take its baseline in."""
    dialogue = open_2(subject)
    with dialogue.closing_on_failure():
        dialogue.expect(protocol2.NotifyScene)
        dialogue.say("heartbeat", {})
        dialogue.wait_for(protocol2.Ack)  # what comes by itself has come
    return dialogue


def update(dialogue: Dialogue, intent: str, value: Any, **more: Any) -> str:
    """Ask for a change."""
    assert dialogue.subject.profile.property is not None
    scope, target, key = dialogue.subject.profile.property
    payload = {"scope": scope, "target": target, "key": key, "value": value, **more}
    return dialogue.say("state.update", payload, intent_id=intent)


def fresh_intent(dialogue: Dialogue, name: str) -> str:
    """Name an intent as nobody has before, also not in an earlier run."""
    return f"{dialogue.session}-{name}"


def welcome_names_the_session(subject: Subject) -> None:
    """Check that the welcome echoes frame_id, names the session, and states the times."""
    with Dialogue(subject, 2) as dialogue:
        name = dialogue.say("session.hello", hello_2(subject))
        welcome = dialogue.expect(protocol2.Welcome)
        dialogue.check(welcome.frame_id == name, "the welcome does not echo frame_id")
        dialogue.check(welcome.session == welcome.payload.session.id, "two names of the session")
        dialogue.check(welcome.payload.session.heartbeat_s > 0, "no heartbeat_s")


def scene_comes_first_with_number_0(subject: Subject) -> None:
    """Check that after the welcome comes the scene, whose seq is 0."""
    with open_2(subject) as dialogue:
        scene = dialogue.expect(protocol2.NotifyScene)
        dialogue.check(scene.seq == 0, f"the scene has seq {scene.seq}")


def highest_common_protocol_is_chosen(subject: Subject) -> None:
    """Check that of protocols that both speak, the highest is chosen; the rest is not looked at."""
    with Dialogue(subject, 2) as dialogue:
        payload = hello_2(subject, protocols=[1, 2, 999], protocol=1)
        dialogue.say("session.hello", payload)
        welcome = dialogue.expect(protocol2.Welcome)
        dialogue.check(welcome.payload.protocol_version == 2, "protocol 2 was not chosen")


def no_common_protocol_is_rejected(subject: Subject) -> None:
    """Check that without a protocol in common comes a reject, protocol_mismatch."""
    with Dialogue(subject, 2) as dialogue:
        name = dialogue.say("session.hello", hello_2(subject, protocols=[999]))
        reject = dialogue.expect(protocol2.Reject)
        dialogue.check(reject.frame_id == name, "the reject does not echo frame_id")
        code = reject.payload.code
        dialogue.check(code == "protocol_mismatch", f"{code} is not protocol_mismatch")
        dialogue.expect_end()


def heartbeats_are_acknowledged(subject: Subject) -> None:
    """Check that a heartbeat is answered by an ack with the same frame_id."""
    with begun_2(subject) as dialogue:
        name = dialogue.say("heartbeat", {})
        ack = dialogue.expect(protocol2.Ack)
        dialogue.check(ack.frame_id == name, "the ack has another frame_id than the heartbeat")


def goodbye_ends_the_session(subject: Subject) -> None:
    """Check that after a goodbye the server says nothing more."""
    with begun_2(subject) as dialogue:
        dialogue.say("session.goodbye", {"code": "bye", "message": "done", "reason": "test"})
        dialogue.expect_end()


def another_session_cannot_be_named(subject: Subject) -> None:
    """Check that a frame that names another session than that of its connection is refused."""
    with begun_2(subject) as dialogue:
        dialogue.say("call.command", {"command": "x"}, session="srv-of-somebody-else")
        dialogue.expect(protocol2.ErrorCommand, protocol2.NotifyError)


def forbidden_keys_are_refused(subject: Subject) -> None:
    """Check that a number on an envelope that carries none is refused, and the session goes on."""
    with begun_2(subject) as dialogue:
        dialogue.say("heartbeat", {}, seq=1)
        dialogue.expect(protocol2.NotifyError)
        name = dialogue.say("heartbeat", {})
        dialogue.check(dialogue.expect(protocol2.Ack).frame_id == name, "the session is broken")


def unknown_commands_are_not_found(subject: Subject) -> None:
    """Check that a command that nobody knows fails with command.not_found."""
    with begun_2(subject) as dialogue:
        name = dialogue.say("call.command", {"command": "conformance.no-such-command"})
        error = dialogue.expect(protocol2.ErrorCommand)
        dialogue.check(error.payload.in_reply_to == name, "in_reply_to is of another call")
        code = error.payload.code
        dialogue.check(code == "command.not_found", f"{code} is not command.not_found")


def unknown_calls_cannot_be_cancelled(subject: Subject) -> None:
    """Check that to cancel what is not under way is answered, and not accepted."""
    with begun_2(subject) as dialogue:
        dialogue.say("call.cancel", {"command_id": "nothing"})
        reply = dialogue.expect(protocol2.ReplyCancel)
        dialogue.check(reply.payload.accepted is False, "something was cancelled")


def ack_comes_before_the_notification(subject: Subject) -> None:
    """Check that ack.state comes, then notify.layers with its intent_id and number 1."""
    with begun_2(subject) as one, begun_2(subject) as two:
        intent = fresh_intent(one, "a")
        name = update(one, intent, subject.profile.values[0])
        ack = one.expect(protocol2.AckState)
        one.check(ack.payload.in_reply_to == name, "in_reply_to is of another frame")
        one.check(ack.payload.intent_id == intent, "intent_id is another one")
        one.check(ack.payload.status == "accepted", f"it was {ack.payload.status}")
        for dialogue in (one, two):
            delta = dialogue.expect(protocol2.NotifyLayers)
            dialogue.check(delta.intent_id == intent, "the delta has another intent_id")
            dialogue.check(delta.seq == 1, f"the first delta has number {delta.seq}")
        update(two, fresh_intent(two, "b"), subject.profile.values[1])
        two.expect(protocol2.AckState)
        for dialogue in (one, two):
            delta = dialogue.expect(protocol2.NotifyLayers)
            dialogue.check(delta.seq == 2, f"the second delta has number {delta.seq}")


def an_intent_is_carried_out_once(subject: Subject) -> None:
    """Check that a repeat of an intent gets the same version, and nobody is told again."""
    with begun_2(subject) as dialogue:
        intent = fresh_intent(dialogue, "once")
        update(dialogue, intent, subject.profile.values[0])
        first = dialogue.expect(protocol2.AckState)
        dialogue.expect(protocol2.NotifyLayers)
        update(dialogue, intent, subject.profile.values[0])
        second = dialogue.expect(protocol2.AckState)
        dialogue.check(second.payload.version == first.payload.version, "it was made twice")
        dialogue.expect_silence("a repeated intent changes nothing")


def missed_deltas_are_replayed(subject: Subject) -> None:
    """Check that who shows its tokens gets what it missed, numbered on, and no scene."""
    with begun_2(subject) as one:
        update(one, fresh_intent(one, "1"), subject.profile.values[0])
        one.expect(protocol2.AckState)
        one.expect(protocol2.NotifyLayers)
        tokens = dict(one.tokens)
    with begun_2(subject) as other:
        for name, value in zip("23", subject.profile.values, strict=True):
            update(other, fresh_intent(other, name), value)
            other.wait_for(protocol2.AckState)
    with open_2(subject, tokens) as again:
        state = again.welcome.payload.features["notify.layers"].resume_state
        again.check(state and state.seq == 1, f"it goes on from {state}")
        for number, value in zip((2, 3), subject.profile.values, strict=True):
            delta = again.expect(protocol2.NotifyLayers)
            again.check(delta.seq == number, f"expected delta {number}, got {delta.seq}")
            again.check(value in (delta.payload.controls or {}).values(), "another value")


def useless_tokens_reset(subject: Subject) -> None:
    """Check that a token that is none leads to a baseline, as resume_state says."""
    with open_2(subject, dict.fromkeys(protocol2.SEQUENCED, "nonsense")) as dialogue:
        for topic in ("notify.scene", "notify.layers"):
            state = dialogue.welcome.payload.features[topic].resume_state
            dialogue.check(state and state.seq == 0, f"{topic} goes on from {state}")
        dialogue.expect(protocol2.NotifyScene)


def conflicts_name_what_they_conflict_with(subject: Subject) -> None:
    """Check that a change that expects another version is refused with what is so."""
    with begun_2(subject) as one, begun_2(subject) as two:
        update(one, fresh_intent(one, "1"), subject.profile.values[0])
        version = one.expect(protocol2.AckState).payload.version
        intent = fresh_intent(two, "2")
        two.expect(protocol2.NotifyLayers)
        update(two, intent, subject.profile.values[1], expected_version=version - 1)
        ack = two.expect(protocol2.AckState)
        two.check(ack.payload.status == "rejected", "a stale change was accepted")
        code = ack.payload.error.code
        two.check(code == "state.conflict", f"{code} is not state.conflict")
        conflict = ack.payload.conflict_with
        two.check(conflict and conflict.version == version, f"conflict_with is {conflict}")
        two.check(conflict.value == subject.profile.values[0], f"it is {conflict.value!r}")
        update(two, intent + "b", subject.profile.values[1], expected_version=version)
        ack = two.expect(protocol2.AckState)
        two.check(ack.payload.status == "accepted", "a change that knew better was refused")


def drags_lock_others_out_and_end_with_their_holder(subject: Subject) -> None:
    """Check that while one drags, others get state.locked; when it is gone, they do not."""
    with begun_2(subject) as two:
        with begun_2(subject) as one:
            drag = {"interaction_id": "drag", "phase": "start"}
            update(one, fresh_intent(one, "1"), subject.profile.values[0], **drag)
            one.check(one.expect(protocol2.AckState).payload.status == "accepted", "refused")
            two.expect(protocol2.NotifyLayers)
            update(two, fresh_intent(two, "1"), subject.profile.values[1])
            ack = two.expect(protocol2.AckState)
            two.check(ack.payload.status == "rejected", "it was not locked")
            code = ack.payload.error.code
            two.check(code == "state.locked", f"{code} is not state.locked")
            two.check(ack.payload.conflict_with, "the holder is not named")
            one.expect(protocol2.NotifyLayers)
            one.say("session.goodbye", {"code": "bye", "message": "done", "reason": "test"})
            one.expect_end()
        update(two, fresh_intent(two, "2"), subject.profile.values[1])
        ack = two.expect(protocol2.AckState)
        two.check(ack.payload.status == "accepted", "the lock outlived its holder")


def refused_changes_say_why(subject: Subject) -> None:
    """Check that a value that is refused is answered by ack.state, rejected, with an error."""
    with begun_2(subject) as dialogue:
        intent = fresh_intent(dialogue, "bad")
        update(dialogue, intent, subject.profile.bad_value)
        ack = dialogue.expect(protocol2.AckState)
        dialogue.check(ack.payload.intent_id == intent, "intent_id is another one")
        dialogue.check(ack.payload.status == "rejected", "it was accepted")
        dialogue.check(ack.payload.error.message, "it does not say why")


def a_key_is_carried_out_once(subject: Subject) -> None:
    """Check that a repeat of an idempotency key gets the same result, and the key back."""
    profile = subject.profile
    with begun_2(subject) as dialogue:
        call = {
            "command": profile.command,
            "kwargs": dict(profile.arguments),
            "idempotency_key": fresh_intent(dialogue, "key"),
        }
        for _ in range(2):
            name = dialogue.say("call.command", call)
            reply = dialogue.expect(protocol2.ReplyCommand)
            dialogue.check(reply.payload.in_reply_to == name, "in_reply_to is of another call")
            dialogue.check(reply.payload.result == profile.result, f"{reply.payload.result!r}")
            dialogue.check(reply.payload.idempotency_key == call["idempotency_key"], "lost key")


CASES_2: tuple[Case, ...] = tuple(
    Case.of(2, function, needs)
    for function, needs in (
        (welcome_names_the_session, Needs.READ),
        (scene_comes_first_with_number_0, Needs.READ),
        (highest_common_protocol_is_chosen, Needs.READ),
        (no_common_protocol_is_rejected, Needs.READ),
        (heartbeats_are_acknowledged, Needs.READ),
        (goodbye_ends_the_session, Needs.READ),
        (another_session_cannot_be_named, Needs.READ),
        (forbidden_keys_are_refused, Needs.READ),
        (unknown_commands_are_not_found, Needs.READ),
        (unknown_calls_cannot_be_cancelled, Needs.READ),
        (useless_tokens_reset, Needs.READ),
        (ack_comes_before_the_notification, Needs.PROPERTY),
        (an_intent_is_carried_out_once, Needs.PROPERTY),
        (missed_deltas_are_replayed, Needs.PROPERTY),
        (conflicts_name_what_they_conflict_with, Needs.PROPERTY),
        (drags_lock_others_out_and_end_with_their_holder, Needs.PROPERTY),
        (refused_changes_say_why, Needs.BAD_VALUE),
        (a_key_is_carried_out_once, Needs.COMMAND),
    )
)
"""Cases of protocol 2, in the order in which they are best read."""
