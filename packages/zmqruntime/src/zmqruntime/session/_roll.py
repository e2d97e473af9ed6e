"""SessionRoll: the sessions of a server, as clients come, are greeted, ask and go."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime.session._errors import SessionRejectedError
from zmqruntime.session._instructions import (
    GOING_AWAY,
    POLICY,
    Close,
    Deliver,
    Greet,
    Heard,
    Instruction,
    Malformed,
    Pulse,
    Welcomed,
)
from zmqruntime.session._machine import ServerMachine, State
from zmqruntime.session._session import ServerSession, SessionRecord
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from msgspec import UnsetType

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.session import protocol2
    from zmqruntime.session._admission import Admission
    from zmqruntime.session._broadcast import Broadcast
    from zmqruntime.session._commands import CommandTable
    from zmqruntime.session._greeter import Greeter
    from zmqruntime.session._links import Link
    from zmqruntime.session._parser import EnvelopeLimits, Hello
    from zmqruntime.session._requests import Requests
    from zmqruntime.session._state import Ledger

__all__ = ["SessionRoll"]

logger = logging.getLogger(__name__)


class SessionRoll:
    """Who takes part, and what is done as each of them says; used on the loop.

    Parameters
    ----------
    loop
        Where it is used, and callbacks run.
    sessions
        All sessions by name, kept here and seen by the broadcast.
    broadcast
        Gives a client that fell behind a baseline.
    ledger, commands
        Let go of what a client held that has gone.
    requests
        Does what an open session asks for.
    admission, greeter
        Let a client in, and welcome it.
    data
        Says, for a welcome of protocol 2, where pixels travel.
    counters
        Where it is counted who comes and goes.
    limits, hello_s, heartbeat_s, clock, wall
        As for `SessionServer`.

    Notes
    -----
    Callbacks are added by any thread.
    """

    def __init__(
        self,
        loop: IOThread,
        sessions: dict[str, ServerSession],
        *,
        broadcast: Broadcast,
        ledger: Ledger,
        commands: CommandTable,
        requests: Requests,
        admission: Admission,
        greeter: Greeter,
        data: Callable[[ServerSession], protocol2.DataInfo | UnsetType],
        counters: Counter[str],
        limits: EnvelopeLimits,
        hello_s: float,
        heartbeat_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._sessions = sessions
        self._broadcast = broadcast
        self._ledger = ledger
        self._commands = commands
        self._requests = requests
        self._admission = admission
        self._greeter = greeter
        self._data = data
        self._counters = counters
        self._limits = limits
        self._hello_s, self._heartbeat_s = hello_s, heartbeat_s
        self._clock, self._wall = clock, wall
        self.on_opened: list[Callable[[SessionRecord], object]] = []
        self.on_closed: list[Callable[[SessionRecord, str], object]] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def accept(self, link: Link) -> ServerSession:
        """Begin a session of a connection that says hello next."""
        session = ServerSession(
            link,
            ServerMachine(
                f"srv-{new_id()}",
                hello_s=self._hello_s,
                heartbeat_s=self._heartbeat_s,
                limits=self._limits,
                clock=self._clock,
            ),
            loop=self._loop,
            obey=self._obey,
            behind=self._catch_up,
            clock=self._clock,
            wall=self._wall,
        )
        self._sessions[session.id] = session
        self._counters["accepted"] += 1
        return session

    def strike(self, session: ServerSession, reason: str) -> None:
        """Strike a session off whose connection has ended; twice is harmless."""
        if self._sessions.pop(session.id, None) is None:
            return
        was_open = session.grant is not None
        self._ledger.release(session.id)
        self._commands.forget(session.id)
        session.end(GOING_AWAY, reason)
        self._counters["closed"] += 1
        if was_open:
            for callback in self.on_closed:
                self._loop.call_soon(callback, session.record, reason)

    def part(
        self,
        session: ServerSession,
        close: Close,
        *,
        hello: Hello | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Part from a client.

        Parameters
        ----------
        session
            Whose.
        close
            Why, and whether it is told.
        hello, details
            What a reject answers, and what it says besides.
        """
        if close.hello:
            self._counters[f"rejected.{close.word}"] += 1
        address = session.link.peer.address
        logger.info("session %s of %s ends: %s", session.id, address, close.message)
        session.part(close, hello=hello, details=details)
        self.strike(session, close.word)

    def end(self, session_id: str, code: str, message: str) -> None:
        """End a session and say why; one that is not open any more is ignored."""
        session = self._sessions.get(session_id)
        if session is not None:
            self.part(session, Close(POLICY, code, message))

    def end_of_key(self, key: str, why: str) -> None:
        """Part from everybody who came with a key that was revoked or may do something else."""
        for session in tuple(self._sessions.values()):
            if key and session.grant is not None and session.grant.key == key:
                self.part(session, Close(POLICY, "auth_failed", why))

    def close(self) -> None:
        """Say goodbye to every client."""
        for session in tuple(self._sessions.values()):
            silent = session.machine.state is not State.OPEN
            close = Close(GOING_AWAY, "shutdown", "the server is stopping", silent=silent)
            self.part(session, close)

    def _obey(self, session: ServerSession, instruction: Instruction) -> None:
        match instruction:
            case Greet(hello):
                self._greet(session, hello)
            case Deliver(envelope):
                self._requests.take(session, envelope)
            case Malformed(error):
                self._requests.refuse(session, error)
            case Heard(frame_id):
                session.send(session.writer.heard(frame_id))
            case Pulse():
                session.send(session.writer.heartbeat())
            case Close() as close:
                self.part(session, close)
            case Welcomed():
                raise AssertionError("only clients are welcomed")

    def _greet(self, session: ServerSession, hello: Hello) -> None:
        try:
            peer = session.link.peer
            admitted = self._admission.judge(hello, peer, sessions=len(self._sessions))
            data = self._data(session) if admitted.protocol == 2 else UNSET
            resumed = self._greeter.welcome(session, hello, admitted, data=data)
        except SessionRejectedError as error:
            close = Close(POLICY, error.code, error.message, hello=True)
            self.part(session, close, hello=hello, details=error.details)
            return
        self._counters["opened"] += 1
        self._counters["resumed"] += resumed
        for callback in self.on_opened:
            self._loop.call_soon(callback, session.record)

    def _catch_up(self, session: ServerSession) -> None:
        """Give a client that did not read for long a baseline, or up."""
        if session.ended:
            return
        if session.outbox.overrun:
            self.part(session, Close(POLICY, "slow", "it does not read what it asked for"))
        elif self._broadcast.catch_up(session):
            self._counters["caught_up"] += 1
