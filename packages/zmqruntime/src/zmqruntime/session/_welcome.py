"""Welcome: from where a client goes on, and the envelope that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zmqruntime.session._parser import EnvelopeLimits, Hello
    from zmqruntime.session._resume import History, Resumption, Tokens
    from zmqruntime.session._session import ServerSession
    from zmqruntime.session._shapes import Envelope

__all__ = [
    "Plan",
    "choose_places",
    "features_of",
    "limits_of",
    "welcome1",
    "welcome2",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a client begins.

    Attributes
    ----------
    topics
        How it goes on with each numbered topic.
    baseline
        Whether it begins with a baseline; then `topics` says why, and what it missed is of no
        use any more.
    """

    topics: dict[str, Resumption]
    baseline: bool


def choose_places(
    shown: Mapping[str, str | None],
    wanted: frozenset[str],
    histories: Mapping[str, History],
    tokens: Tokens,
    principal: str,
) -> Plan:
    """Decide how a client begins; no input or output.

    Parameters
    ----------
    shown
        Its token of each topic.
    wanted
        Topics that it takes.
    histories
        What is kept of each numbered topic.
    tokens
        Who reads them.
    principal
        Who the client is.

    Returns
    -------
    Plan
        All numbered topics go on, or all begin anew: a scene restarts the numbers of the rest.
    """
    found: dict[str, Resumption] = {}
    for topic, history in histories.items():
        if topic not in wanted:
            continue
        token = shown.get(topic)
        place = tokens.read(token, topic, principal) if token else None
        found[topic] = history.resume(place, shown=bool(token))
    return Plan(
        topics=found,
        baseline=not found or any(each.status != "resumed" for each in found.values()),
    )


def features_of(
    session: ServerSession, plan: Plan, tokens: Tokens, commands: Sequence[str]
) -> dict[str, protocol2.Feature]:
    """Say of each topic whether it is on, and from where it goes on.

    Parameters
    ----------
    session
        Whose welcome.
    plan
        From `choose_places`.
    tokens
        Who writes them.
    commands
        Names of the commands of the server.
    """
    anyone_reset = any(each.status == "reset" for each in plan.topics.values())
    features: dict[str, protocol2.Feature] = {}
    for topic in protocol2.TOPICS:
        resumption = plan.topics.get(topic)
        if resumption is None:
            features[topic] = protocol2.Feature(enabled=topic in session.topics)
            continue
        status, reason = resumption.status, resumption.reason
        place = resumption.place
        if plan.baseline:
            place = session.places[topic]
            status = "reset" if anyone_reset else "fresh"
        features[topic] = protocol2.Feature(
            enabled=True,
            version=1,
            resume=True,
            resume_state=protocol2.ResumeState(
                seq=place.seq,
                delta_token=tokens.issue(topic, place, session.principal),
                status=status,
                reason=reason if reason is not None else UNSET,
            ),
        )
    features["call.command"] = protocol2.Feature(enabled=True, commands=list(commands))
    return features


def limits_of(limits: EnvelopeLimits) -> dict[str, int]:
    """Say what a client may send."""
    return {"envelope_bytes": limits.nbytes, "depth": limits.depth, "items": limits.items}


def welcome1(session: ServerSession, hello: Hello, now: float) -> Envelope:
    """Make the welcome of protocol 1; it echoes the name of the hello."""
    return protocol1.Welcome(
        id=hello.id or UNSET,
        frame_id=hello.frame_id or UNSET,
        timestamp=now,
        payload=protocol1.WelcomePayload(
            protocol=1,
            session=protocol1.SessionInfo(id=session.id, capabilities=list(protocol1.CAPABILITIES)),
        ),
    )


def welcome2(
    session: ServerSession, hello: Hello, payload: protocol2.WelcomePayload, now: float
) -> Envelope:
    """Make the welcome of protocol 2; it echoes the name of the hello."""
    return protocol2.Welcome(
        version=2,
        session=session.id,
        timestamp=now,
        payload=payload,
        id=hello.id if hello.id is not None else UNSET,
        frame_id=UNSET if hello.id is not None else hello.frame_id or new_id(),
    )
