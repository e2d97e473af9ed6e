"""Admission: who is let in, in which protocol, and to which topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from zmqruntime._errors import BusyError, RequestError
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._application import Grant
from zmqruntime.session._envelopes import PROTOCOLS
from zmqruntime.session._errors import SessionRejectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime.session._application import Authenticator
    from zmqruntime.session._links import LinkPeer
    from zmqruntime.session._parser import Hello

__all__ = ["Admission", "Admitted", "choose_protocol", "token_authenticator"]


def token_authenticator(hello: Hello, peer: LinkPeer) -> Grant:
    """Let in who the server's own control channel would let in.

    Parameters
    ----------
    hello
        Its ``auth.token`` is the token of the server, or one that its keys have signed.
    peer
        Connection.

    Returns
    -------
    Grant
        What the control channel grants.

    Raises
    ------
    SessionRejectedError
        With the code ``auth_failed``.
    """
    token = hello.auth.token if hello.auth is not None else UNSET
    try:
        known = peer.identify(token if token is not UNSET else None)
    except RequestError as error:
        code = "rate_limited" if isinstance(error, BusyError) else "auth_failed"
        raise SessionRejectedError(code, str(error)) from error
    if not known.permitted:
        raise SessionRejectedError(
            "auth_failed",
            "show the token of this server in payload.auth.token"
            if token is UNSET
            else "the token is not one of this server, or not any more",
        )
    return Grant(
        principal=known.source.key or known.name or ("owner" if known.owner else "anyone"),
        may=known.may,
        capabilities=("*",) if known.owner else tuple(sorted(known.grants)),
        key=known.source.key,
    )


def choose_protocol(hello: Hello, required: Sequence[str]) -> tuple[int, Sequence[str]]:
    """Choose the highest protocol that both sides speak, and see what the client takes.

    Parameters
    ----------
    hello
        What the client said.
    required
        Topics that it has to take in protocol 2; in protocol 1 they are fixed.

    Returns
    -------
    tuple
        The protocol, and the topics that are required in it.

    Raises
    ------
    SessionRejectedError
        With the code ``protocol_mismatch`` or ``unsupported_client``.
    """
    protocol = hello.choose()
    if protocol is None:
        raise SessionRejectedError(
            "protocol_mismatch",
            f"spoken here are the protocols {', '.join(map(str, PROTOCOLS))}",
            {"protocols": list(PROTOCOLS)},
        )
    if protocol == 1:
        required = protocol1.CAPABILITIES[:3]
    missing = [topic for topic in required if not hello.features.get(topic)]
    if missing:
        raise SessionRejectedError(
            "unsupported_client",
            f"a client here takes {', '.join(missing)}: say so in its features",
            {"missing": missing},
        )
    return protocol, required


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """How a client is let in.

    Attributes
    ----------
    protocol
        What is spoken.
    grant
        What it may do.
    topics
        What it is notified of: what it wants and may have.
    """

    protocol: int
    grant: Grant
    topics: frozenset[str]


class Admission:
    """Decides of each hello whether its client is let in; no input or output of its own.

    Parameters
    ----------
    authenticate
        Says what a client may do, or refuses it.
    required
        Topics that a client of protocol 2 has to take.
    most_sessions
        Most clients at a time.
    """

    def __init__(
        self, authenticate: Authenticator, *, required: Sequence[str], most_sessions: int
    ) -> None:
        self._authenticate = authenticate
        self._required = tuple(required)
        self._most_sessions = most_sessions

    def judge(self, hello: Hello, peer: LinkPeer, *, sessions: int) -> Admitted:
        """Choose a protocol and say what the client may do, or refuse it.

        Parameters
        ----------
        hello
            What it said.
        peer
            Its connection.
        sessions
            How many clients there are, this one included.

        Raises
        ------
        SessionRejectedError
            With the code that the client is told.
        """
        protocol, required = choose_protocol(hello, self._required)
        if sessions > self._most_sessions:
            raise SessionRejectedError(
                "rate_limited", f"{self._most_sessions} sessions are open: try again later"
            )
        grant = self._authenticate(hello, peer)
        denied = [topic for topic in required if not grant.may(f"topic:subscribe:{topic}")]
        if denied:
            raise SessionRejectedError(
                "auth_failed", f"{grant.principal} may not subscribe to {', '.join(denied)}"
            )
        wanted = required if protocol == 1 else protocol2.TOPICS
        topics = frozenset(
            topic
            for topic in wanted
            if hello.features.get(topic) and grant.may(f"topic:subscribe:{topic}")
        )
        return Admitted(protocol=protocol, grant=grant, topics=topics)
