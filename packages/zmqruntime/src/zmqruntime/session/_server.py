"""SessionServer: sessions of interactive clients, over the control socket or a gateway."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from zmqruntime.loop._workers import WorkerPool
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._admission import Admission, token_authenticator
from zmqruntime.session._application import Applied, check_applied, check_notice
from zmqruntime.session._broadcast import Broadcast
from zmqruntime.session._changes import Changes
from zmqruntime.session._commands import CommandTable
from zmqruntime.session._diversion import Diversion
from zmqruntime.session._envelopes import check_plain
from zmqruntime.session._greeter import Greeter
from zmqruntime.session._instructions import POLICY, Close
from zmqruntime.session._journal import Journal
from zmqruntime.session._legacy import LegacyNames
from zmqruntime.session._parser import EnvelopeLimits
from zmqruntime.session._requests import Requests
from zmqruntime.session._resume import Retention
from zmqruntime.session._roll import SessionRoll
from zmqruntime.session._state import Change, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    from zmqruntime._server import ZMQServer
    from zmqruntime.session._application import Authenticator, Baseline, Reducer
    from zmqruntime.session._commands import Handler
    from zmqruntime.session._links import Link
    from zmqruntime.session._session import ServerSession, SessionRecord
    from zmqruntime.session._shapes import Body

__all__ = ["SessionServer"]

_SERVER = "server"


class SessionServer:
    """Sessions of interactive clients.

    Parameters
    ----------
    server
        Service whose control socket and loop are used.
    baseline
        Called, on the loop, for each client that begins: all as it is now, below 1 MiB as JSON.
    journal
        SQLite file by which clients can resume after a restart; None remembers in memory only.
    authenticate
        Decides who is let in.
    heartbeat_s
        Silence after which a client of protocol 2 is asked for a sign of life; after three times
        as long its session ends.
    hello_s
        Longest wait for a hello.
    required
        Topics without which a client of protocol 2 is refused.
    retention
        How many deltas are kept, and how long.
    lock_s
        Silence after which a drag has ended.
    limits
        Caps on envelopes.
    legacy
        Read message names from before the envelopes too.
    workers
        Most commands at a time.
    most_sessions
        Most clients at a time.
    clock, wall
        Monotonic seconds, and seconds since the epoch.

    Notes
    -----
    The server holds who set what and in which version; what a value does is the application's
    affair, which adds a reducer per scope and a handler per command. Reducers and `baseline` run
    on the loop, commands on worker threads.

    Examples
    --------
    >>> from zmqruntime.session import Applied, Baseline, SessionClient, SessionServer
    >>> from zmqruntime.testing import serve_in_thread
    >>> with serve_in_thread() as server, SessionServer(server, Baseline) as sessions:
    ...     sessions.reduce("view", lambda change: Applied(value=change.value))
    ...     with SessionClient.over_zmq(server.endpoint) as client:
    ...         client.connect()
    ...         client.update("view", "main", "ndisplay", 3).result(5).applied_value
    3
    """

    def __init__(
        self,
        server: ZMQServer,
        baseline: Callable[[], Baseline],
        *,
        journal: Path | None = None,
        authenticate: Authenticator = token_authenticator,
        heartbeat_s: float = 15.0,
        hello_s: float = 5.0,
        ack_timeout_ms: int = 250,
        required: Sequence[str] = ("notify.scene",),
        retention: Retention | None = None,
        lock_s: float = 2.0,
        limits: EnvelopeLimits | None = None,
        legacy: bool = False,
        workers: int = 4,
        most_sessions: int = 256,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.server = server
        self.loop = server.loop
        self.limits = limits or EnvelopeLimits()
        self.counters: Counter[str] = Counter()
        self.legacy = LegacyNames() if legacy else None
        self.data_info: Callable[[ServerSession], protocol2.DataInfo] | None = None
        """Says, for a welcome of protocol 2, where pixels travel; set by a gateway."""
        self._most_sessions = most_sessions
        sessions: dict[str, ServerSession] = {}
        self._journal = Journal(journal, wall=wall)
        self._journal.on_failure = self._on_journal_failure
        self._ledger = Ledger(lock_s=lock_s, version=self._journal.version, clock=clock)
        for property_, entry in self._journal.properties():
            self._ledger.restore(property_, entry)
        self._broadcast = Broadcast(
            sessions,
            self._ledger,
            self._journal,
            baseline=baseline,
            retention=retention or Retention(),
            wall=wall,
        )
        self._changes = Changes(
            self._ledger, self._journal, self._broadcast, counters=self.counters, wall=wall
        )
        self._pool = WorkerPool(f"{server.app}-commands", threads=workers)
        self._commands = CommandTable(self.loop, self._pool, self._journal, wall=wall)
        requests = Requests(
            self.loop, self._changes, self._commands, legacy=self.legacy, counters=self.counters
        )
        greeter = Greeter(
            server,
            self._broadcast,
            self._commands,
            limits=self.limits,
            heartbeat_s=heartbeat_s,
            ack_timeout_ms=ack_timeout_ms,
            wall=wall,
        )
        self._roll = SessionRoll(
            self.loop,
            sessions,
            broadcast=self._broadcast,
            ledger=self._ledger,
            commands=self._commands,
            requests=requests,
            admission=Admission(authenticate, required=required, most_sessions=most_sessions),
            greeter=greeter,
            data=self._data,
            counters=self.counters,
            limits=self.limits,
            hello_s=hello_s,
            heartbeat_s=heartbeat_s,
            clock=clock,
            wall=wall,
        )
        self._diversion = Diversion(server.control, self, say_again=self._broadcast.say_again)
        self._attached = self._stopped = False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def open(self) -> None:
        """Begin to accept sessions on the control socket; twice is harmless."""
        if not self._attached:
            self._attached = True
            if self.server.gate is not None:
                self.server.gate.on_changed(self._roll.end_of_key)
            self._diversion.attach()

    def close(self) -> None:
        """Say goodbye to every client and close the journal; any thread but the loop."""
        if self._stopped:
            return
        self._stopped = True
        self._pool.close()
        if self.loop.running:
            self.loop.submit(self._close_all).result()
        self._journal.close()

    @property
    def epoch(self) -> int:
        """Numbering of the deltas; it goes on across restarts where there is a journal."""
        return self._broadcast.epoch

    @property
    def version(self) -> int:
        """Version of the state: the number of its last change, which frames that show it name."""
        return self._ledger.version

    @property
    def sessions(self) -> tuple[SessionRecord, ...]:
        """The sessions that are open."""
        return tuple(each.record for each in self._broadcast.open_sessions())

    def value(self, scope: str, target: str, key: str, default: Any = None) -> Any:
        """Return what a property was set to last, also before a restart; any thread.

        Parameters
        ----------
        scope, target, key
            Which property.
        default
            What to return if it was never set.
        """
        entry = self._ledger.entry((scope, target, key))
        return entry.value if entry is not None else default

    def values(self) -> dict[tuple[str, str, str], Any]:
        """Return everything that was ever set, for an application that starts again."""
        return {property_: entry.value for property_, entry in tuple(self._ledger.entries())}

    def reduce(self, scope: str, reducer: Reducer) -> None:
        """Let clients change the properties of a scope.

        Parameters
        ----------
        scope
            For example ``layer``; adding it again replaces the reducer.
        reducer
            Applies a change; see `Reducer`.
        """
        self._changes.add(scope, reducer)

    def command(
        self, name: str, handler: Handler, *, on_loop: bool = False, capability: str | None = None
    ) -> None:
        """Let clients call a command.

        Parameters
        ----------
        name
            For example ``layer.create``; adding it again replaces the handler.
        handler
            Called with a `Command`; returns plain values, or raises `CommandError`.
        on_loop
            Run on the I/O thread. Only for handlers that take less than 5 ms.
        capability
            What the client needs, ``command:{name}`` when None.
        """
        self._commands.add(name, handler, on_loop=on_loop, capability=capability)

    def set(
        self,
        scope: str,
        target: str,
        key: str,
        value: Any,
        *,
        applied: Applied | None = None,
    ) -> Future[int]:
        """Say that the application itself changed a property; any thread.

        Parameters
        ----------
        scope, target, key, value
            What is so.
        applied
            What to tell clients of each protocol; see `Applied`.

        Returns
        -------
        Future
            Will hold the version that the change has made, for the frames that show it.

        Raises
        ------
        TypeError, ValueError
            If something of it is not plain, so that no client could be told.
        """
        applied = applied or Applied(value=value)
        check_plain([scope, target, key, value])
        check_applied(applied)
        change = Change(scope=scope, target=target, key=key, value=value, client=_SERVER)
        made: Future[int] = Future()
        self._on_loop(self._record, change, applied, made)
        return made

    def notify(self, payload: Body) -> None:
        """Tell every client that wants it; any thread.

        Parameters
        ----------
        payload
            Of a notification of protocol 2; its type says which. Clients of protocol 1 are told
            of a `Reference` only, because they know nothing of the rest.

        Raises
        ------
        TypeError, ValueError
            If the payload is not that of a notification, or something in it is not plain.
        """
        check_notice(payload)
        self._on_loop(self._broadcast.notify, payload)

    def configure_stream(
        self,
        *,
        protocol_1: protocol1.StreamPayload | None = None,
        protocol_2: protocol2.StreamPayload | None = None,
    ) -> None:
        """Say how the pixel channel is coded, now and to whoever comes; any thread.

        Parameters
        ----------
        protocol_1, protocol_2
            The same in both forms.
        """
        self._on_loop(self._broadcast.configure_stream, protocol_1, protocol_2)

    def reset(self) -> None:
        """Begin a new epoch: every client gets a baseline, and numbers start again; any thread."""
        self._on_loop(self._broadcast.reset)

    def end(self, session_id: str, code: str, message: str) -> None:
        """End a session; any thread.

        Parameters
        ----------
        session_id
            One that is not open any more is ignored.
        code, message
            Why, for the client.
        """
        self._on_loop(self._roll.end, session_id, code, message)

    def on_opened(self, callback: Callable[[SessionRecord], object]) -> None:
        """Call a function, on the loop, when a client has its baseline."""
        self._roll.on_opened.append(callback)

    def on_closed(self, callback: Callable[[SessionRecord, str], object]) -> None:
        """Call a function, on the loop, with the reason, when a session has ended."""
        self._roll.on_closed.append(callback)

    def accept(self, link: Link) -> ServerSession:
        """Take in a connection; on the loop, for carriers.

        Parameters
        ----------
        link
            How to reach the client.

        Returns
        -------
        ServerSession
            To hand its frames to.
        """
        session = self._roll.accept(link)
        if len(self._roll) >= self._most_sessions:
            self._diversion.make_room()
        return session

    def gone(self, session: ServerSession, reason: str) -> None:
        """Take in that a connection has ended; on the loop, for carriers."""
        self._roll.strike(session, reason)

    def refuse_unnamed(self, session: ServerSession) -> None:
        """Refuse a peer that gave its socket a name; on the loop."""
        text = "let the library choose the routing id of your socket: a chosen one proves nothing"
        self._roll.part(session, Close(POLICY, "unsupported_client", text, hello=True))

    def _on_loop(self, function: Callable[..., object], *values: Any) -> None:
        if self.loop.on_loop:
            function(*values)
        else:
            self.loop.call_soon(function, *values)

    def _record(self, change: Change, applied: Applied, made: Future[int]) -> None:
        try:
            made.set_result(self._changes.record(change, applied))
        except BaseException as error:
            made.set_exception(error)
            raise  # for the log: nobody may look into the future

    def _data(self, session: ServerSession) -> protocol2.DataInfo | UnsetType:
        return UNSET if self.data_info is None else self.data_info(session)

    def _close_all(self) -> None:
        self._diversion.detach()
        self._roll.close()

    def _on_journal_failure(self, reason: str) -> None:
        """Go on without: say so, and issue tokens that a later start will not take for its own."""
        self._broadcast.tokens.forget_at_exit()
        self.counters["journal_failed"] += 1
        trouble = protocol2.Trouble(
            domain="journal",
            code="journal.failed",
            message=f"sessions cannot be resumed after a restart any more: {reason}",
            severity="warning",
        )
        self.loop.call_soon(self._broadcast.notify, trouble)
