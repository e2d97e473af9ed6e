"""Cases for clients: a server that says what is written, and looks at what comes back."""

from __future__ import annotations

import json
import queue
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zmqruntime.session import EnvelopeError, parse, parse_hello
from zmqruntime.testing.conformance._subject import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.server import ServerConnection

__all__ = ["CLIENT_CASES", "ClientCase", "ClientUnderTest", "run_client_cases"]

_SOON_S = 5.0
_QUIET_S = 0.3


class ClientUnderTest(Protocol):
    """A client that was started and runs by itself."""

    def close(self) -> None:
        """End it; twice is harmless."""


class _Script:
    """The server's end of one connection, for one case."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.hello: Any = None
        self.form = 1

    def hear(self, timeout: float = _SOON_S) -> str | None:
        """Wait for a message; None when the client closed the connection."""
        from websockets.exceptions import ConnectionClosed

        try:
            message = self._connection.recv(timeout)
        except ConnectionClosed:
            return None
        except TimeoutError as error:
            raise ConformanceError(f"the client said nothing within {timeout:g} s") from error
        return message if isinstance(message, str) else bytes(message).decode()

    def say(self, envelope: dict[str, Any]) -> None:
        """Send an envelope, unless the client is gone."""
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(json.dumps({"timestamp": time.time(), **envelope}))
        except ConnectionClosed as error:
            raise ConformanceError("the client closed the connection") from error

    def greet(self) -> None:
        """Take the hello in, and check it."""
        text = self.hear()
        if text is None:
            raise ConformanceError("the client closed the connection before its hello")
        try:
            self.hello = parse_hello(text)
            self.form = self.hello.choose() or 1
            if self.hello.form == 1 and self.hello.protocols == (1,):
                parse(text, 1)
        except EnvelopeError as error:
            raise ConformanceError(f"the first message is no hello: {error}") from error

    def welcome(self) -> None:
        """Answer the hello, and give the client its baseline."""
        self.greet()
        name = (
            {"id": self.hello.id}
            if self.hello.id is not None
            else {"frame_id": self.hello.frame_id or "f1"}
        )
        if self.form == 1:
            session = {
                "id": "srv-1",
                "capabilities": ["notify.state", "notify.scene", "notify.stream", "call.command"],
            }
            payload: dict[str, Any] = {"protocol": 1, "session": session}
            self.say({"type": "session.welcome", **name, "payload": payload})
            scene = {"version": 1, "scene": {"layers": []}, "state": {"ndisplay": 2}}
            self.say({"type": "notify.scene", "payload": scene})
            return
        payload = {
            "protocol_version": 2,
            "session": {"id": "srv-1", "heartbeat_s": 15, "ack_timeout_ms": 250},
            "features": {},
        }
        self.say(
            {
                "type": "session.welcome",
                "version": 2,
                "session": "srv-1",
                **name,
                "payload": payload,
            }
        )
        self.say(
            {
                "type": "notify.scene",
                "version": 2,
                "session": "srv-1",
                "seq": 0,
                "delta_token": "t0",
                "payload": {"viewer": {}, "layers": []},
            }
        )

    def check_alive(self) -> None:
        """Check that the client keeps the connection, and says nothing wrong."""
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                text = self._connection.recv(_QUIET_S)
                parse(text if isinstance(text, str) else bytes(text), self.form)
        except TimeoutError:
            return
        except ConnectionClosed as error:
            raise ConformanceError("the client closed the connection") from error
        except EnvelopeError as error:
            raise ConformanceError(f"the client sent what is no envelope: {error}") from error


def says_hello_first(script: _Script) -> None:
    """Check that the first message is a hello that a server can read."""
    script.welcome()
    script.check_alive()


def leaves_when_rejected(script: _Script) -> None:
    """Check that after a reject the client closes the connection or lets the server close it."""
    script.greet()
    payload = {"code": "unsupported_client", "message": "not today"}
    version = {"version": 2} if script.hello.form == 2 else {}
    name = (
        {"id": script.hello.id}
        if script.hello.id is not None
        else {"frame_id": script.hello.frame_id or "f1"}
        if script.hello.form == 2
        else {}
    )
    script.say({"type": "session.reject", **version, **name, "payload": payload})
    try:
        text = script.hear(_QUIET_S)
    except ConformanceError:
        return
    if text is not None:
        raise ConformanceError(f"after a reject the client said {text[:200]}")


def leaves_when_the_answer_is_none(script: _Script) -> None:
    """Check that an answer to hello that is neither welcome nor reject ends the connection."""
    script.greet()
    script.say({"type": "notify.stream", "payload": {"codec": "h264"}})
    deadline = time.monotonic() + _SOON_S
    while time.monotonic() < deadline:
        if script.hear(_SOON_S) is None:
            return
    raise ConformanceError("the client went on after an answer that was none")


def unknown_payload_keys_are_ignored(script: _Script) -> None:
    """Check that a newer server's additions do not disturb the client."""
    script.welcome()
    if script.form == 1:
        state = {"scope": "dims", "target": "z", "key": "step", "value": 1, "server_seq": 1}
        script.say({"type": "notify.state", "payload": {**state, "colour": "red"}})
    else:
        common = {"version": 2, "session": "srv-1", "seq": 1, "delta_token": "t1"}
        layer = {"layer_id": "a", "controls": {"gamma": 1.0}, "colour": "red"}
        script.say({"type": "notify.layers", **common, "payload": layer})
    script.check_alive()


def unknown_notifications_are_ignored(script: _Script) -> None:
    """Check that a notification of which the client knows nothing does not disturb it."""
    script.welcome()
    common = {} if script.form == 1 else {"version": 2, "session": "srv-1"}
    script.say({"type": "notify.weather", **common, "payload": {"sun": True}})
    script.check_alive()


def heartbeats_are_answered(script: _Script) -> None:
    """Check that in protocol 2 the client answers a heartbeat by an ack with the same frame_id."""
    script.welcome()
    if script.form == 1:
        return
    heartbeat = {"type": "heartbeat", "version": 2, "session": "srv-1", "frame_id": "beat"}
    script.say({**heartbeat, "payload": {}})
    while True:
        text = script.hear()
        if text is None:
            raise ConformanceError("the client closed the connection")
        came = json.loads(text)
        if came.get("type") == "ack" and came.get("frame_id") == "beat":
            return


@dataclass(frozen=True, slots=True)
class ClientCase:
    """One thing that a client is to do.

    Attributes
    ----------
    name
        For reports.
    summary
        What is to be so.
    script
        What the server says and looks for.
    """

    name: str
    summary: str
    script: Callable[[_Script], None]

    def run(self, start: Callable[[str], ClientUnderTest]) -> None:
        """Try it.

        Parameters
        ----------
        start
            Starts the client under test, told the address of a WebSocket ``/state``.

        Raises
        ------
        ConformanceError
            If it is not so.
        """
        with _serving(self.script) as (url, outcome):
            client = start(url)
            try:
                found = outcome.get(timeout=4 * _SOON_S)
            except queue.Empty:
                raise ConformanceError("the client did not connect") from None
            finally:
                client.close()
        if found is not None:
            raise found


CLIENT_CASES: tuple[ClientCase, ...] = tuple(
    ClientCase(script.__name__.replace("_", "-"), (script.__doc__ or "").strip(), script)
    for script in (
        says_hello_first,
        leaves_when_rejected,
        leaves_when_the_answer_is_none,
        unknown_payload_keys_are_ignored,
        unknown_notifications_are_ignored,
        heartbeats_are_answered,
    )
)
"""What a client of either protocol is to do, over WebSocket; needs the extra ``websocket``."""


def run_client_cases(start: Callable[[str], ClientUnderTest]) -> dict[str, str]:
    """Try every case with a client.

    Parameters
    ----------
    start
        As for `ClientCase.run`.

    Returns
    -------
    dict
        What went wrong, by the name of the case; empty when nothing did.
    """
    failed = {}
    for case in CLIENT_CASES:
        try:
            case.run(start)
        except ConformanceError as error:
            failed[case.name] = str(error)
    return failed


@contextmanager
def _serving(
    script: Callable[[_Script], None],
) -> Iterator[tuple[str, queue.SimpleQueue[ConformanceError | None]]]:
    from websockets.sync.server import serve

    outcome: queue.SimpleQueue[ConformanceError | None] = queue.SimpleQueue()
    first = threading.Lock()

    def handle(connection: ServerConnection) -> None:
        if not first.acquire(blocking=False):
            return  # a client that connects again has been judged by its first try
        try:
            script(_Script(connection))
        except ConformanceError as error:
            outcome.put(error)
        else:
            outcome.put(None)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, name="scripted server")
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/state", outcome
        finally:
            server.shutdown()
            thread.join()
