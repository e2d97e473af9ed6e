"""SessionClient: a program's session with a server, which outlives its connections."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from zmqruntime._errors import ControlTimeout, LoopStoppedError
from zmqruntime._polling import Backoff, Deadline
from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._calls import Call, Calls
from zmqruntime.session._carrier import ZMQCarrier
from zmqruntime.session._envelopes import PROTOCOLS, encode, type_of
from zmqruntime.session._errors import (
    CommandError,
    EnvelopeError,
    SessionClosedError,
)
from zmqruntime.session._intents import Intents, StateAck
from zmqruntime.session._machine import (
    NORMAL,
    PROTOCOL_ERROR,
    ClientMachine,
    Close,
    Deliver,
    Heard,
    Instruction,
    Malformed,
    Pulse,
    State,
    Welcomed,
)
from zmqruntime.session._sequence import Arrival, Sequences
from zmqruntime.session._shapes import Auth, Body, Client, Envelope
from zmqruntime.session._writer import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from typing import Self

    from zmqruntime._endpoints import Endpoint
    from zmqruntime._loop import TimerHandle
from zmqruntime.session._carrier import Carrier

__all__ = ["Call", "SessionClient", "StateAck"]

logger = logging.getLogger(__name__)

_TERMINAL = frozenset({"auth_failed", "protocol_mismatch", "unsupported_client", "invalid_payload"})
_MOST_ACK_WAIT_S = 5.0


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
        self.counters: Counter[str] = Counter()
        self.capabilities: tuple[str, ...] = ()
        self.features: dict[str, protocol2.Feature] = {}
        self.data: protocol2.DataInfo | None = None
        """Where pixels travel, as the last welcome of protocol 2 said."""
        self._about = Client(name=name, version=version)
        self._protocols = tuple(protocols)
        self._topics = tuple(topics)
        self._token = token
        self._clock = clock
        self._machine: ClientMachine | None = None
        self._sequences = Sequences()
        self._intents = Intents(self)
        self._calls = Calls(self)
        self._callbacks: defaultdict[str, list[Callable[[Any], object]]] = defaultdict(list)
        self._lost: list[Callable[[str], object]] = []
        self._timer: TimerHandle | None = None
        self._again = Backoff(first=0.05, longest=5.0)
        self._changed = threading.Condition()
        self._failure: Exception | None = None
        self._welcomes = 0
        self._started = self._closed = False

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
        return self._machine is not None and self._machine.state is State.OPEN

    @property
    def closed(self) -> bool:
        """Whether it was closed, or the server does not let it in."""
        return self._closed

    @property
    def protocol(self) -> int:
        """What is spoken, 0 before the first welcome."""
        return self._machine.protocol if self._machine is not None else 0

    @property
    def session_id(self) -> str:
        """Name of the session on this connection, empty before the first welcome."""
        return self._machine.session_id if self._machine is not None else ""

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
        if self._closed:
            raise SessionClosedError("command.session_closed", "this client was closed")
        if not self._started:
            self._started = True
            self.loop.start()
            self.carrier.open(self._on_up, self._on_received, self._on_down)
        with self._changed:
            self._changed.wait_for(
                lambda: self.connected or self._failure is not None, deadline.remaining()
            )
            if self.connected:
                return self.session_id
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise ControlTimeout(f"no server welcomed this session within {timeout:g} s")

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
        if self._closed:
            return
        self._closed = True
        if self.loop.running and self._started:
            self.loop.submit(self._say_goodbye).result()
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
        self._callbacks[type_].append(callback)

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
            if future is None:
                return
            future.set_exception(SessionClosedError("command.session_closed", str(error)))

    def _on_up(self) -> None:
        if self._closed:
            return
        hello = self._hello()
        hello_id = getattr(hello, "frame_id", UNSET) or getattr(hello, "id", UNSET)
        self._machine = ClientMachine(str(hello_id), clock=self._clock)
        self.carrier.send(encode(hello))
        self._arm()

    def _hello(self) -> Envelope:
        token = self._token if self._token is not None else self.carrier.token
        auth = Auth(type="bearer", token=token) if token is not None else UNSET
        if self._protocols == (1,):
            return protocol1.Hello(
                id=new_id(),
                timestamp=time.time(),
                payload=protocol1.HelloPayload(
                    protocol=1,
                    client=self._about,
                    auth=Auth(token=token) if token is not None else UNSET,
                    extras=protocol1.Extras(
                        features=protocol1.Features(
                            notify_state=True, notify_scene=True, notify_stream=True
                        )
                    ),
                ),
            )
        features = dict.fromkeys(self._topics, True)
        if 1 in self._protocols:
            features.update(dict.fromkeys(protocol1.CAPABILITIES[:3], True))
        return protocol2.Hello(
            version=2,
            frame_id=new_id(),
            timestamp=time.time(),
            payload=protocol2.HelloPayload(
                protocols=list(self._protocols),
                client=self._about,
                features=features,
                resume_tokens=self._sequences.tokens,
                auth=auth,
            ),
        )

    def _on_received(self, data: bytes | str) -> None:
        machine = self._machine
        if machine is None or self._closed:
            return
        self._run(machine.received(data))
        self._arm()

    def _on_down(self, reason: str) -> None:
        machine, self._machine = self._machine, None
        if machine is None:
            return
        was_open = machine.state is State.OPEN or bool(machine.session_id)
        machine.close()
        if was_open:
            self._interrupted(reason)

    def _interrupted(self, reason: str) -> None:
        """Fail what cannot be asked for again."""
        forgetful = self._protocols == (1,)
        if forgetful:
            self._intents.fail(SessionClosedError("session_closed", reason))
        else:
            self._intents.pause()
        self._calls.interrupt(reason, keyed_too=forgetful)
        for callback in self._lost:
            self.loop.call_soon(callback, reason)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._machine.due if self._machine is not None else None
        if due is not None and not self._closed:
            self._timer = self.loop.call_later(due - self._clock(), self._tick)

    def _tick(self) -> None:
        if self._machine is not None:
            self._run(self._machine.tick())
            self._arm()

    def _run(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Welcomed(envelope):
                    self._welcomed(envelope)
                case Deliver(envelope):
                    self._deliver(envelope)
                case Heard(frame_id):
                    self.send(self.frame(protocol2.Ack, protocol2.Empty(), frame_id=frame_id))
                case Pulse():
                    self.send(self.frame(protocol2.Heartbeat, protocol2.Empty()))
                case Malformed(error):
                    self._on_malformed(error)
                case Close() as close:
                    self._on_close(close)
                case _:
                    raise AssertionError("only servers are greeted")

    def _on_malformed(self, error: EnvelopeError) -> None:
        self.counters["malformed"] += 1
        logger.warning("the server sent what is no envelope for this session: %s", error)
        if error.code == "unexpected_message":
            self._renew("the server speaks of another session")

    def _on_close(self, close: Close) -> None:
        rejection = self._machine.rejection if self._machine is not None else None
        if not close.silent and self.protocol == 2:
            farewell = protocol2.Farewell(code=close.word, message=close.message, reason=close.word)
            self.send(self.frame(protocol2.Goodbye, farewell))
        failure: Exception = rejection or SessionClosedError(close.word, close.message)
        if rejection is not None and rejection.code in _TERMINAL:
            self._fail(failure)
            self._fail_everything(failure)
            self._closed = True  # asking again would be answered the same
            self.loop.call_soon(self.carrier.close, NORMAL, "rejected")
            return
        if self._welcomes == 0:
            self._fail(failure)
        self._renew(close.message, code=close.code)

    def _renew(self, reason: str, *, code: int = PROTOCOL_ERROR) -> None:
        """Give the connection up, and begin again with what there is, after a while."""
        self._on_down(reason)
        if not self._closed:
            self.loop.call_later(self._again.next(), lambda: self._begin_again(code, reason))

    def _begin_again(self, code: int, reason: str) -> None:
        if not self._closed and (self._machine is None or self._machine.state is State.CLOSED):
            self.carrier.renew(code, reason[:100])

    def _fail(self, failure: Exception) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()

    def _fail_everything(self, failure: Exception) -> None:
        self._intents.fail(failure)
        self._calls.interrupt(str(failure), keyed_too=True)

    def _welcomed(self, envelope: protocol1.Welcome | protocol2.Welcome) -> None:
        self._again.reset()
        if isinstance(envelope, protocol2.Welcome):
            payload = envelope.payload
            self.capabilities = tuple(payload.capabilities)
            self.features = dict(payload.features)
            self.data = payload.data if payload.data is not UNSET else None
            self._intents.ack_timeout_s = payload.session.ack_timeout_ms / 1000
            for topic, feature in payload.features.items():
                if feature.resume_state is not UNSET:
                    state = feature.resume_state
                    self._sequences.start(topic, state.seq, state.delta_token)
                    self.counters[f"topics.{state.status or 'unstated'}"] += 1
        else:
            self.capabilities = tuple(envelope.payload.session.capabilities)
        with self._changed:
            self._welcomes += 1
            self._failure = None
            self._changed.notify_all()
        self._tell("session.welcome", envelope.payload)
        self._intents.resume()
        self._calls.resume()

    def _deliver(self, envelope: Envelope) -> None:
        type_ = type_of(envelope)
        if isinstance(envelope, protocol1.Welcome | protocol2.Welcome):
            self._renew("the server welcomed this client twice")
            return
        if type_ in protocol2.SEQUENCED and self.protocol == 2:
            seq, token = getattr(envelope, "seq", 0), getattr(envelope, "delta_token", "")
            arrival = self._sequences.arrive(type_, seq, token)
            if arrival is Arrival.REPEAT:
                self.counters["repeats"] += 1
                return
            if arrival is Arrival.GAP:
                self.counters["gaps"] += 1
                self._renew(f"deltas of {type_} are missing before {seq}")
                return
        self._apply(envelope)
        self._tell(type_, getattr(envelope, "payload", None))

    def _apply(self, envelope: Envelope) -> None:
        match envelope:
            case protocol1.NotifyScene(payload=scene1):
                self._intents.replica.baseline()
                self._confirm_layers(scene1.scene.get("layers"))
            case protocol2.NotifyScene(payload=scene2):
                self._sequences.restart()
                self._intents.replica.baseline()
                self._confirm_layers(scene2.layers)
            case protocol1.NotifyState(payload=state):
                self._intents.echoed(state)
            case protocol2.NotifyLayers(payload=layer):
                if layer.controls is not UNSET:
                    for key, value in layer.controls.items():
                        self._intents.replica.confirm(("layer", layer.layer_id, key), value)
            case protocol2.AckState(payload=ack):
                self._intents.acknowledged(ack)
            case protocol1.ErrorState(payload=failure):
                self._intents.refused(failure)
            case protocol1.ReplyCommand(id=call_id, payload=result1):
                self._calls.answered(call_id, result=result1.result)
            case protocol2.ReplyCommand(payload=result2):
                self._calls.answered(result2.in_reply_to, result=result2.result)
            case protocol1.ErrorCommand(id=call_id, payload=failed1):
                error = CommandError(failed1.code, failed1.message, failed1.details)
                self._calls.answered(call_id, error=error)
            case protocol2.ErrorCommand(payload=failed2):
                error = CommandError(failed2.code, failed2.message, failed2.details)
                self._calls.answered(failed2.in_reply_to, error=error)
            case protocol2.NotifyError(payload=trouble):
                logger.warning("%s: %s (%s)", trouble.domain, trouble.message, trouble.code)
                if trouble.domain == "session" and trouble.code == "unexpected_message":
                    self._renew(trouble.message)
            case _:
                pass

    def _confirm_layers(self, layers: Any) -> None:
        for layer in layers if isinstance(layers, list) else ():
            if not isinstance(layer, dict) or not isinstance(layer.get("layer_id"), str):
                continue
            controls = layer.get("controls")
            for key, value in controls.items() if isinstance(controls, dict) else ():
                self._intents.replica.confirm(("layer", layer["layer_id"], key), value)

    def frame(self, shape: type[Any], payload: Body, *, frame_id: str | None = None) -> Envelope:
        """Make an envelope of protocol 2 in this session."""
        envelope: Envelope = shape(
            version=2,
            session=self.session_id,
            frame_id=frame_id or new_id(),
            timestamp=time.time(),
            payload=payload,
        )
        return envelope

    def send(self, envelope: Envelope) -> bool:
        """Send an envelope; on the loop. False when it was not."""
        if self.carrier.send(encode(envelope)):
            return True
        self.counters["unsent"] += 1
        return False

    def _tell(self, type_: str, payload: Any) -> None:
        for callback in self._callbacks.get(type_, ()):
            try:
                callback(payload)
            except Exception:
                logger.exception("callback for %s failed", type_)

    def _say_goodbye(self) -> None:
        if self.connected and self.protocol == 2:
            farewell = protocol2.Farewell(code="bye", message="the client ends", reason="bye")
            self.send(self.frame(protocol2.Goodbye, farewell))
        if self._timer is not None:
            self._timer.cancel()
        self._fail_everything(SessionClosedError("session_closed", "this client was closed"))
        with self._changed:
            self._changed.notify_all()
