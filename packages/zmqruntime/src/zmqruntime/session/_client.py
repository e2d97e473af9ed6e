"""SessionClient: a program's session with a server, which outlives its connections."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime._errors import ControlTimeout, LoopStoppedError
from zmqruntime.loop._polling import Deadline
from zmqruntime.session import protocol2
from zmqruntime.session._calls import Call, Calls
from zmqruntime.session._carrier import ZMQCarrier
from zmqruntime.session._connection import Connection
from zmqruntime.session._delivery import Delivery
from zmqruntime.session._envelopes import PROTOCOLS
from zmqruntime.session._errors import CommandError, SessionClosedError
from zmqruntime.session._instructions import NORMAL
from zmqruntime.session._intents import Intents, StateAck
from zmqruntime.session._introduction import Introduction
from zmqruntime.session._sequence import Sequences
from zmqruntime.session._shapes import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Self

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.session import protocol1
    from zmqruntime.session._carrier import Carrier

__all__ = ["SessionClient"]


class SessionClient:
    """A program's session with a server.

    Parameters
    ----------
    carrier
        Connection, for example `ZMQCarrier` or the one of the gateway.
    name, version
        What this program is.
    protocols
        What it speaks; the server chooses the highest that both do.
    topics
        Notifications that it wants, in protocol 2.
    token
        Proof of who it is; None shows the token that the carrier knows.
    clock
        Monotonic seconds.

    Notes
    -----
    When a connection breaks, the next one resumes: what was missed is delivered in order, changes
    without an acknowledgement are asked for again under the same name, and commands with an
    idempotency key are called again. In protocol 1 there is no such thing: a new baseline comes,
    and what was under way fails.

    Callbacks run on the carrier's loop, so they must not block.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        name: str = "zmqruntime",
        version: str = "",
        protocols: Sequence[int] = PROTOCOLS,
        topics: Sequence[str] = protocol2.TOPICS,
        token: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.carrier = carrier
        self.loop = carrier.loop
        self.capabilities: tuple[str, ...] = ()
        self.features: dict[str, protocol2.Feature] = {}
        self.data: protocol2.DataInfo | None = None
        """Where pixels travel, as the last welcome of protocol 2 said."""
        self._introduction = Introduction(
            client=Client(name=name, version=version),
            protocols=tuple(protocols),
            topics=tuple(topics),
        )
        sequences = Sequences()
        self._connection = Connection(
            carrier,
            self._introduction,
            sequences,
            token=token,
            clock=clock,
            on_welcomed=self._welcomed,
            on_received=lambda envelope: self._delivery.take(envelope),
            on_interrupted=self._interrupted,
            on_refused=self._refused,
        )
        self.counters = self._connection.counters
        self._intents = Intents(self._connection)
        self._calls = Calls(self._connection)
        self._delivery = Delivery(self._connection, sequences, self._intents, self._calls)
        self._lost: list[Callable[[str], object]] = []
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._welcomes = 0
        self._started = False

    @classmethod
    def over_zmq(
        cls,
        endpoint: Endpoint,
        *,
        name: str = "zmqruntime",
        version: str = "",
        protocols: Sequence[int] = PROTOCOLS,
        topics: Sequence[str] = protocol2.TOPICS,
        token: str | None = None,
        auth: str | None = None,
    ) -> Self:
        """Make a client on the control socket of a service.

        Parameters
        ----------
        endpoint
            Where the service is.
        name, version, protocols, topics
            As for the class.
        token
            Token of the service; None looks for the one that it leaves on this computer.
        auth
            What to show in the hello of the session; None shows the token of the service.
        """
        return cls(
            ZMQCarrier.to(endpoint, app=name, token=token),
            name=name,
            version=version,
            protocols=protocols,
            topics=topics,
            token=auth,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the session is open."""
        return self._connection.connected

    @property
    def closed(self) -> bool:
        """Whether it was closed, or the server does not let it in."""
        return self._connection.closed

    @property
    def protocol(self) -> int:
        """What is spoken, 0 before the first welcome."""
        return self._connection.protocol

    @property
    def session_id(self) -> str:
        """Name of the session on this connection, empty before the first welcome."""
        return self._connection.session_id

    @property
    def welcomes(self) -> int:
        """How often the server has welcomed this client; more than 1 after a lost connection."""
        return self._welcomes

    @property
    def pending(self) -> int:
        """How many changes wait for their acknowledgement."""
        return len(self._intents)

    def connect(self, timeout: float = 5.0) -> str:
        """Open the session and wait until the server welcomes this client.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        str
            Name of the session.

        Raises
        ------
        ControlTimeout
            If nothing answered in time; the client goes on trying until it is closed.
        SessionRejectedError
            If the server does not let this client in; the client is closed then.
        SessionClosedError
            If the answer was none of this protocol, or the client was closed.
        """
        deadline = Deadline(timeout)
        if self.closed:
            raise SessionClosedError(
                "command.session_closed", "this client was closed: make another"
            )
        if not self._started:
            self._started = True
            self.loop.start()
            self._connection.open()
        with self._changed:
            self._changed.wait_for(
                lambda: self.connected or self._failure is not None, deadline.remaining()
            )
            if self.connected:
                return self.session_id
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise ControlTimeout(
            f"no server welcomed this session within {timeout:g} s: see that it runs at that "
            "address; this client goes on trying until it is closed"
        )

    def wait_for_welcome(self, number: int, timeout: float) -> bool:
        """Wait until the server has welcomed this client so many times.

        Parameters
        ----------
        number
            See `welcomes`.
        timeout
            Longest wait in seconds.
        """
        with self._changed:
            return self._changed.wait_for(
                lambda: self._welcomes >= number and self.connected, timeout
            )

    def close(self) -> None:
        """Say goodbye and close the connection; any thread but the loop. Twice is harmless."""
        if self.closed:
            return
        self._connection.closed = True
        if self.loop.running and self._started:
            self.loop.submit(self._end).result()
        self.carrier.close(NORMAL, "goodbye")

    def value(self, scope: str, target: str, key: str, default: Any = None) -> Any:
        """Return what a property is to this client: its own last change, or what was confirmed.

        Parameters
        ----------
        scope, target, key
            Which property.
        default
            What to return if nothing is known.
        """
        return self._intents.replica.value((scope, target, key), default)

    def confirmed(self, scope: str, target: str, key: str, default: Any = None) -> Any:
        """Return what the server has said last of a property; parameters as for `value`."""
        return self._intents.replica.confirmed((scope, target, key), default)

    def version(self, scope: str, target: str, key: str) -> int:
        """Return the version of a property, for `expected_version`; 0 if it is not known."""
        return self._intents.replica.version((scope, target, key))

    @property
    def state_version(self) -> int:
        """Version of the newest state that the server has told this client of, 0 if none."""
        return self._intents.replica.state_version

    def is_shown(self, state_version: int | None, scope: str, target: str, key: str) -> bool:
        """Say whether a frame shows a property as it is to this client.

        Parameters
        ----------
        state_version
            As the frame says (`Item.state_version`, `LaneFrame.state_version`); None for one that
            names no state, of which nothing is known.
        scope, target, key
            Which property.

        Returns
        -------
        bool
            False while the picture is older than the value that `value` returns, or a change of
            this client waits for its acknowledgement: then the value is marked as pending. In
            protocol 1 nothing says in which state a value of the scene was so, and it counts as
            shown.
        """
        return self._intents.replica.is_shown((scope, target, key), state_version)

    def update(
        self,
        scope: str,
        target: str,
        key: str,
        value: Any,
        *,
        expected_version: int | None = None,
        interaction_id: str | None = None,
        phase: str | None = None,
    ) -> Future[StateAck]:
        """Ask for a change; any thread.

        Parameters
        ----------
        scope, target, key, value
            Which property, and what it is to be.
        expected_version
            Change it only if this is still its version. Not in protocol 1.
        interaction_id, phase
            Drag that it belongs to, and whether it starts, updates or commits it.

        Returns
        -------
        Future
            Holds a `StateAck`, or a `StateRejectedError`, or a `SessionClosedError`.
        """
        payload = protocol2.Update(
            scope=scope,
            target=target,
            key=key,
            value=value,
            expected_version=expected_version if expected_version is not None else UNSET,
            interaction_id=interaction_id if interaction_id is not None else UNSET,
            phase=phase if phase is not None else UNSET,
        )
        intent = self._intents.make(payload)
        self._hand_over(self._intents.propose, intent, intent.future)
        return intent.future

    def call(
        self,
        name: str,
        *args: Any,
        timeout: float | None = 30.0,
        key: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a command and wait for its result; any thread but the loop.

        Parameters
        ----------
        name
            Which command.
        *args, **kwargs
            Plain values; protocol 1 has named ones only.
        timeout
            Longest wait in seconds, which the server is told too; None waits for ever.
        key
            Idempotency key: the server carries it out once, and answers repeats.

        Returns
        -------
        Any
            Its result.

        Raises
        ------
        CommandError
            If it was refused or failed, with the code of the server; ``command.deadline`` when
            it took too long, ``command.session_closed`` when the session ended meanwhile.
        """
        call = self.call_nowait(name, *args, timeout=timeout, key=key, **kwargs)
        try:
            return call.future.result(None if timeout is None else timeout + 1.0)
        except TimeoutError as error:
            call.cancel()
            raise CommandError("command.deadline", f"{name}: no answer in {timeout} s") from error

    def call_nowait(
        self,
        name: str,
        *args: Any,
        timeout: float | None = None,
        key: str | None = None,
        **kwargs: Any,
    ) -> Call:
        """Call a command and return what will hold its result; any thread.

        Parameters
        ----------
        name, *args, timeout, key, **kwargs
            As for `call`.
        """
        timeout_ms = None if timeout is None else max(1, int(timeout * 1000))
        call = Call(name, args, kwargs, key, timeout_ms)
        call.abandon = lambda: self._hand_over(self._calls.cancel, call, None)
        self._hand_over(self._calls.begin, call, call.future)
        return call

    def on(self, type_: str, callback: Callable[[Any], object]) -> None:
        """Call a function, on the loop, with the payload of each envelope of a type.

        Parameters
        ----------
        type_
            For example ``notify.layers``. ``session.welcome`` is possible too.
        callback
            Must not block.
        """
        self._delivery.on(type_, callback)

    def on_lost(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the loop, with the reason, when the session was interrupted."""
        self._lost.append(callback)

    def _hand_over(
        self, function: Callable[[Any], object], value: Any, future: Future[Any] | None
    ) -> None:
        try:
            if self.loop.on_loop:
                function(value)
            else:
                self.loop.call_soon(function, value)
        except LoopStoppedError as error:
            if future is not None and future.set_running_or_notify_cancel():
                future.set_exception(SessionClosedError("command.session_closed", str(error)))

    def _welcomed(self, envelope: protocol1.Welcome | protocol2.Welcome) -> None:
        if isinstance(envelope, protocol2.Welcome):
            payload = envelope.payload
            self.capabilities = tuple(payload.capabilities)
            self.features = dict(payload.features)
            self.data = payload.data if payload.data is not UNSET else None
            self._intents.ack_timeout_s = payload.session.ack_timeout_ms / 1000
            self._delivery.begin(payload.features)
        else:
            self.capabilities = tuple(envelope.payload.session.capabilities)
        with self._changed:
            self._welcomes += 1
            self._failure = None
            self._changed.notify_all()
        self._delivery.tell("session.welcome", envelope.payload)
        self._intents.resume()
        self._calls.resume()

    def _interrupted(self, reason: str) -> None:
        """Fail what cannot be asked for again."""
        forgetful = self._introduction.forgetful
        if forgetful:
            self._intents.fail(SessionClosedError("session_closed", reason))
        else:
            self._intents.pause()
        self._calls.interrupt(reason, keyed_too=forgetful)
        for callback in self._lost:
            self.loop.call_soon(callback, reason)

    def _refused(self, failure: Exception) -> None:
        """Let `connect` say why there is no session, if there never was one or will be."""
        if self.closed:
            self._fail_everything(failure)
        if self.closed or self._welcomes == 0:
            with self._changed:
                self._failure = failure
                self._changed.notify_all()

    def _fail_everything(self, failure: Exception) -> None:
        self._intents.fail(failure)
        self._calls.interrupt(str(failure), keyed_too=True)

    def _end(self) -> None:
        self._connection.end()
        self._fail_everything(SessionClosedError("session_closed", "this client was closed"))
        with self._changed:
            self._changed.notify_all()
