"""Greeter: answers a hello with a welcome, and then with a baseline or what was missed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from zmqruntime.session import protocol2
from zmqruntime.session._errors import SessionRejectedError
from zmqruntime.session._welcome import choose_places, features_of, limits_of, welcome1, welcome2

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime._server import ZMQServer
    from zmqruntime.session._admission import Admitted
    from zmqruntime.session._application import Baseline
    from zmqruntime.session._broadcast import Broadcast
    from zmqruntime.session._commands import CommandTable
    from zmqruntime.session._parser import EnvelopeLimits, Hello
    from zmqruntime.session._session import ServerSession

__all__ = ["Greeter"]

logger = logging.getLogger(__name__)


class Greeter:
    """Welcomes the clients that were let in; used on the loop.

    Parameters
    ----------
    server
        Service that a welcome names.
    broadcast
        Says what a client missed.
    commands
        Which ones there are.
    limits
        Caps that a client is told of.
    heartbeat_s, ack_timeout_ms
        Times that a client is told of.
    wall
        Seconds since the epoch.
    """

    def __init__(
        self,
        server: ZMQServer,
        broadcast: Broadcast,
        commands: CommandTable,
        *,
        limits: EnvelopeLimits,
        heartbeat_s: float,
        ack_timeout_ms: int,
        wall: Callable[[], float],
    ) -> None:
        self._server = server
        self._broadcast = broadcast
        self._commands = commands
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._ack_timeout_ms = ack_timeout_ms
        self._wall = wall

    def welcome(
        self,
        session: ServerSession,
        hello: Hello,
        admitted: Admitted,
        *,
        data: protocol2.DataInfo | UnsetType = UNSET,
    ) -> bool:
        """Open a session.

        Parameters
        ----------
        session
            Whose hello it is.
        hello
            What was said.
        admitted
            How the client is let in.
        data
            Where pixels travel, for protocol 2.

        Returns
        -------
        bool
            Whether it goes on where it was, so that it got what it missed and no baseline.

        Raises
        ------
        SessionRejectedError
            With the code ``internal``, if the application cannot say how everything is.
        """
        try:
            baseline = self._broadcast.baseline()
        except Exception as error:
            logger.exception("the baseline of a session cannot be made")
            raise SessionRejectedError(
                "internal",
                f"the server cannot say how everything is ({type(error).__name__}; its log says "
                "more): try again later",
            ) from error
        session.client, session.grant = hello.client, admitted.grant
        session.topics = admitted.topics
        session.open(admitted.protocol)
        if admitted.protocol == 2:
            return self._welcome_2(session, hello, baseline, data)
        session.send(welcome1(session, hello, self._wall()))
        self._broadcast.begin(session, baseline)
        return False

    def _welcome_2(
        self,
        session: ServerSession,
        hello: Hello,
        baseline: Baseline,
        data: protocol2.DataInfo | UnsetType,
    ) -> bool:
        broadcast, server = self._broadcast, self._server
        plan = choose_places(
            hello.resume_tokens,
            session.topics,
            broadcast.histories,
            broadcast.tokens,
            session.principal,
        )
        if plan.baseline:
            session.rebase(broadcast.histories)
        else:
            session.places = {topic: each.place for topic, each in plan.topics.items()}
        payload = protocol2.WelcomePayload(
            protocol_version=2,
            session=protocol2.SessionInfo(
                id=session.id,
                heartbeat_s=self._heartbeat_s,
                ack_timeout_ms=self._ack_timeout_ms,
            ),
            features=features_of(session, plan, broadcast.tokens, self._commands.names),
            server=protocol2.ServerId(
                id=server.server_id, incarnation=server.incarnation, epoch=broadcast.epoch
            ),
            capabilities=list(session.grant.capabilities) if session.grant is not None else [],
            data=data,
            limits=limits_of(self._limits),
        )
        session.send(welcome2(session, hello, payload, self._wall()))
        if plan.baseline:
            broadcast.begin(session, baseline)
            return False
        for topic, resumption in plan.topics.items():
            for delta in resumption.deltas:
                broadcast.deliver(session, topic, delta)
        session.send_view(baseline, broadcast.version)
        return True
