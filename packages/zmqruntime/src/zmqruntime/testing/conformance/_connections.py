"""Connections of the kit to a server: over ZeroMQ, over WebSocket, and a recording one."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import zmq

from zmqruntime.testing.conformance._subject import ConformanceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zmqruntime.testing.conformance._subject import Connection

__all__ = ["Recording", "WebSocketConnection", "ZMQConnection", "connector", "replay"]

_PULSE = "heartbeat"


class ZMQConnection:
    """A plain DEALER socket, as a program of any language could have it.

    Parameters
    ----------
    url
        For example ``tcp://127.0.0.1:5555``.
    """

    def __init__(self, url: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.connect(url)

    def send(self, text: str) -> None:
        """Send one envelope."""
        self._socket.send_multipart([b"", text.encode()])

    def receive(self, timeout: float) -> str | None:
        """Wait for one envelope; this carrier does not see the end of a session."""
        if not self._socket.poll(int(timeout * 1000)):
            raise TimeoutError(f"nothing came within {timeout:g} s")
        return self._socket.recv_multipart()[-1].decode()

    def close(self) -> None:
        """Close the connection."""
        self._context.destroy(linger=200)


class WebSocketConnection:
    """A WebSocket; needs the extra ``websocket``.

    Parameters
    ----------
    url
        For example ``ws://127.0.0.1:7555/state``.
    **options
        For `websockets.sync.client.connect`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        from websockets.sync.client import connect

        self.url = url
        self._open = ExitStack()
        opened = connect(url, compression=None, proxy=None, **options)
        self._socket = self._open.enter_context(opened)

    def send(self, text: str) -> None:
        """Send one envelope."""
        self._socket.send(text)

    def receive(self, timeout: float) -> str | None:
        """Wait for one envelope; None when the connection was closed."""
        from websockets.exceptions import ConnectionClosed

        try:
            message = self._socket.recv(timeout)
        except ConnectionClosed:
            return None
        return message if isinstance(message, str) else bytes(message).decode()

    @property
    def close_code(self) -> int | None:
        """Why the connection was closed, or None while it is open."""
        code: int | None = self._socket.close_code
        return code

    def close(self) -> None:
        """Close the connection."""
        self._open.close()


def connector(url: str) -> Callable[[], Connection]:
    """Return what makes connections to an address.

    Parameters
    ----------
    url
        ``tcp://…`` and ``ipc://…`` for a control socket, ``ws://…`` and ``wss://…`` for a
        gateway.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if url.startswith(("tcp://", "ipc://")):
        return lambda: ZMQConnection(url)
    if url.startswith(("ws://", "wss://")):
        return lambda: WebSocketConnection(url)
    raise ValueError(f"{url!r} is no address of sessions: expected tcp://, ipc://, ws:// or wss://")


class Recording:
    """A connection that writes down what passes.

    Parameters
    ----------
    connection
        What it wraps.
    path
        Text file, one JSON object a line: ``at`` (seconds from the start), ``from`` (``client``
        or ``server``), ``text``.

    Notes
    -----
    The tokens in a hello are replaced by ``***``.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._file = path.open("w", encoding="utf-8")
        self._began = time.monotonic()

    def send(self, text: str) -> None:
        """Send one envelope."""
        self._write("client", _without_secrets(text))
        self._connection.send(text)

    def receive(self, timeout: float) -> str | None:
        """Wait for one envelope."""
        text = self._connection.receive(timeout)
        if text is not None:
            self._write("server", text)
        return text

    def close(self) -> None:
        """Close the connection and the file."""
        self._connection.close()
        self._file.close()

    def _write(self, who: str, text: str) -> None:
        at = round(time.monotonic() - self._began, 6)
        self._file.write(json.dumps({"at": at, "from": who, "text": text}) + "\n")


def replay(path: Path, connection: Connection, *, token: str | None = None) -> int:
    """Say what a recorded client said, and check that the server answers alike.

    Parameters
    ----------
    path
        From `Recording`.
    connection
        To the server; the session it gives is put in place of the recorded one.
    token
        What to show in the hello.

    Returns
    -------
    int
        How many envelopes of the server were compared.

    Raises
    ------
    ConformanceError
        If an envelope of another type came, or none. Times, names and tokens may differ.

    Notes
    -----
    Heartbeats are not compared: they come when a connection was silent, so as time passes.
    """
    session, compared, renamed = "", 0, {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        envelope = json.loads(entry["text"])
        if entry["from"] == "client":
            if token is not None and envelope.get("type") == "session.hello":
                envelope["payload"]["auth"] = {"token": token}
            if "session" in envelope:
                envelope["session"] = session
            if "intent_id" in envelope:  # an intent is carried out once: this is another
                renamed[envelope["intent_id"]] = envelope["intent_id"] + f"-{session}"
                envelope["intent_id"] = renamed[envelope["intent_id"]]
            connection.send(json.dumps(envelope))
            continue
        if envelope["type"] == _PULSE:
            continue
        came = _next_but_pulses(connection, envelope["type"])
        if came["type"] != envelope["type"]:
            raise ConformanceError(f"{came['type']} came where {envelope['type']} was recorded")
        if came["type"] == "session.welcome":
            session = str(came.get("session") or came["payload"]["session"]["id"])
        compared += 1
    return compared


def _next_but_pulses(connection: Connection, recorded: str) -> dict[str, Any]:
    """Wait for the next envelope that is no heartbeat."""
    while True:
        text = connection.receive(5.0)
        if text is None:
            raise ConformanceError(f"the connection ended where {recorded} was recorded")
        came: dict[str, Any] = json.loads(text)
        if came["type"] != _PULSE:
            return came


def _without_secrets(text: str) -> str:
    try:
        envelope = json.loads(text)
    except ValueError:
        return text
    payload = envelope.get("payload") if isinstance(envelope, dict) else None
    if isinstance(payload, dict) and isinstance(payload.get("auth"), dict):
        payload["auth"] = {**payload["auth"], "token": "***"}
        return json.dumps(envelope)
    return text
