"""ZMQClient: a program's connection to one service, from hello to goodbye."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import zmq

from zmqruntime._endpoints import Transport
from zmqruntime._errors import (
    ControlTimeout,
    HandshakeError,
    InvalidEndpointError,
    LoopStoppedError,
    PeerError,
    PeerLostError,
    RequestError,
)
from zmqruntime.control._client import ControlClient
from zmqruntime.control._handshake import App, Hello, ProcessInfo, Welcome
from zmqruntime.control._liveness_watch import LivenessWatch
from zmqruntime.control._messages import V_MAX, V_MIN
from zmqruntime.loop._loop import IOThread
from zmqruntime.loop._polling import Deadline
from zmqruntime.processes._identity import host_digest, identity_of
from zmqruntime.processes._lock_record import live_records, local_server_key, read_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.control._liveness import Liveness
    from zmqruntime.control._messages import Reply
    from zmqruntime.security import ClientKeys, KeyFolder

    HelloExtras = Callable[[], Mapping[str, Any]]

__all__ = ["ZMQClient"]

logger = logging.getLogger(__name__)

_REFUSALS = 3  # handshakes that broke off one after another, before the key is to blame


def _find_app(endpoint: Endpoint) -> Endpoint:
    """Name the application of a socket file, if the endpoint does not."""
    if endpoint.transport != Transport.IPC or endpoint.app:
        return endpoint
    for record, _ in live_records(endpoint.port):
        if record.transport == Transport.IPC:
            return replace(endpoint, app=record.app)
    raise InvalidEndpointError(
        f"no service of this user is on ipc port {endpoint.port}: start it, or name the "
        "application that will be there, app='...'"
    )


def _find_keys(
    endpoint: Endpoint,
    keys: ClientKeys | KeyFolder | Path | str | None,
    server_key: str | None,
) -> ClientKeys | None:
    """Find our pair and the service's key: as given, or as the user's own service left them."""
    if keys is None:
        # the lock files are looked at first: without keys nothing of security is imported
        found = local_server_key(endpoint.port) if endpoint.is_loopback else ""
        if not found:
            return None
        from zmqruntime.security._local import local_client_keys

        return local_client_keys(found)
    from zmqruntime.security import ClientKeys, KeyFolder

    if isinstance(keys, ClientKeys):
        return keys if server_key is None else ClientKeys(keys.pair, server_key)
    folder = KeyFolder.of(keys)
    if server_key is not None:
        return ClientKeys(folder.pair(), server_key)
    return folder.client_keys(endpoint.host, endpoint.port)


class ZMQClient:
    """A program's connection to one service.

    Parameters
    ----------
    endpoint
        Where the service is.
    app
        What this program calls itself.
    version
        Version of this program.
    role
        What it wants to be, for example ``client`` or ``producer``.
    token
        Token of the service. None looks for the one that a service of this user on this
        computer leaves; it is looked for again at every hello, because a service that starts
        again has a new one. With `keys` it is not looked for: the key says who we are.
    keys
        What reaches a service with keys on another computer: a folder that `zmqruntime keys`
        made, with the service's key pinned in it, or `ClientKeys`. None is enough for a service
        of this user on this computer, and for one without keys.
    server_key
        Public key that the service must have, when `keys` is a folder that does not say it.
    hello_extras
        Called, on the loop, for fields to add to each hello.

    Notes
    -----
    The connection heals: when the service, or its successor, can be reached again, hello is said
    again and the callbacks of `on_welcome` are called. A changed ``welcome.incarnation`` means
    that the service has started anew and knows nothing of what was before.

    On one computer the end of the service's process is noticed through the kernel, elsewhere
    when the connection breaks or falls silent for 3 s. A busy service is not a lost one.

    Examples
    --------
    >>> from zmqruntime import ZMQServer
    >>> from zmqruntime.testing import free_endpoint
    >>> server = ZMQServer("greeter", free_endpoint())
    >>> server.control.handle("greet", lambda *_: {"text": "hello"})
    >>> with server, ZMQClient(server.endpoint) as client:
    ...     client.connect().server.name, client.control.request("greet")
    ('greeter', {'text': 'hello'})
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        app: str = "zmqruntime",
        version: str = "",
        role: str = "client",
        token: str | None = None,
        keys: ClientKeys | KeyFolder | Path | str | None = None,
        server_key: str | None = None,
        hello_extras: HelloExtras | None = None,
    ) -> None:
        if server_key is not None and keys is None:
            raise ValueError("a pinned server_key needs keys of our own: pass keys= too")
        self.endpoint = endpoint = _find_app(endpoint)
        self._keys = _find_keys(endpoint, keys, server_key)  # may raise: before a loop is made
        self._keys_given = keys is not None
        self.app = app
        self.version = version
        self.role = role
        self.peer_id = os.urandom(8).hex()
        self.incarnation = os.urandom(8).hex()
        self.loop = IOThread(f"{app}-to-{endpoint.port}")
        self._refusals = 0
        self._revoked = ""
        self.control = ControlClient(
            self.loop, endpoint.control_url, token=token, secure=self.secure
        )
        self.control.hold_until_admitted()
        self.control.on_connected(self._say_hello)
        self.control.on_lost(self._on_lost)
        self.control.on_refused(self._on_refused_handshake)
        self.control.on_push("revoked", self._on_revoked)
        self._liveness = LivenessWatch(self.control)
        self._given_token = token
        self._hello_extras = hello_extras
        self._process = ProcessInfo.mine()
        self._welcome: Welcome | None = None
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._welcome_callbacks: list[Callable[[Welcome], object]] = []
        self._lost_callbacks: list[Callable[[str], object]] = []
        self._pidfd: int | None = None
        self._opened = self._closed = self._greeting = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def welcome(self) -> Welcome:
        """What the service answered to the last hello.

        Raises
        ------
        PeerLostError
            If the service has not answered a hello yet.
        """
        if self._welcome is None:
            raise PeerLostError(f"not connected to {self.endpoint}: call connect() first")
        return self._welcome

    @property
    def connected(self) -> bool:
        """Whether hello was answered and the connection is up."""
        return self._welcome is not None and self.control.connected

    @property
    def liveness(self) -> Liveness:
        """How the service is: idle, busy, unresponsive or lost.

        Whether it answers is known only while somebody watches, see `on_liveness`.
        """
        return self._liveness.verdict

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def connect(self, timeout: float = 5.0) -> Welcome:
        """Say hello and wait for the welcome; when connected already, return the last one.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        Welcome
            Ports, limits and identity of the service.

        Raises
        ------
        ControlTimeout
            If nothing answered in time; the client goes on trying until it is closed.
        HandshakeError
            If the service refused.
        LoopStoppedError
            If the client is closed, or was closed meanwhile.
        """
        deadline = Deadline(timeout)
        with self._changed:
            self._failure = None  # of tries that nobody waited for
        self.start()
        with self._changed:
            self._changed.wait_for(
                lambda: self.connected or self._closed or self._failure is not None,
                deadline.remaining(),
            )
            if self._closed:
                raise LoopStoppedError(f"the connection to {self.endpoint} was closed here")
            if self.connected:
                return self.welcome
            failure, self._failure = self._failure, None
        if failure is not None:
            raise HandshakeError(f"{self.endpoint}: {failure}") from failure
        raise ControlTimeout(
            f"nothing answered at {self.endpoint} within {timeout:g} s: is the service running?"
        )

    @property
    def keys(self) -> ClientKeys | None:
        """Our pair, and the key that the service must have; None without keys."""
        return self._keys

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Give a further socket to the same service its keys, before it connects; on the loop."""
        if self._keys is not None:
            self._keys.secure(socket)

    def start(self) -> None:
        """Begin to connect, without waiting; hello is said whenever there is a connection."""
        if not self._opened:
            self._opened = True
            self.loop.start()
            self.control.open()
        elif self.control.connected:
            self.loop.call_soon(self._say_hello)  # unless it was said and answered

    def close(self) -> None:
        """Close the connection; any thread but the loop. Twice is harmless."""
        if self._closed:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.control.close()
        if self.loop.running:
            self.loop.submit(self._liveness.close).result()
            self.loop.submit(self._forget_process).result()
        self.loop.stop()

    def on_welcome(self, callback: Callable[[Welcome], object]) -> None:
        """Call a function, on the loop, with each welcome.

        Parameters
        ----------
        callback
            Must not block.
        """
        self._welcome_callbacks.append(callback)

    def on_liveness(self, callback: Callable[[Liveness], object], *, every: float = 1.0) -> None:
        """Call a function, on the loop, when the service becomes idle, busy, silent or lost.

        Parameters
        ----------
        callback
            Must not block.
        every
            Seconds between two pings, which tell a service that is silent from one that answers.
        """
        self._liveness.watch(callback, every)

    def on_lost(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the loop, with the reason, when the service was lost.

        Parameters
        ----------
        callback
            Must not block.
        """
        self._lost_callbacks.append(callback)

    def _say_hello(self) -> None:
        """Introduce ourselves, unless that is done or under way; on the loop."""
        if self._greeting or self._welcome is not None:
            return
        self._greeting = True
        try:
            hello = self._compose_hello()
        except Exception as error:  # noqa: BLE001 - extras are the program's; connect() raises it
            self._refused(error)
            return
        try:
            future = self.control.request_nowait("hello", hello.to_body())
        except LoopStoppedError:
            return  # closed meanwhile, by another thread
        future.add_done_callback(self._on_answer)

    def _compose_hello(self) -> Hello:
        if self._given_token is None and not self._keys_given and self.endpoint.is_loopback:
            self.control.token = read_token(self.endpoint.port, self.endpoint.app)
        return Hello(
            v_min=V_MIN,
            v_max=V_MAX,
            app=App(name=self.app, version=self.version),
            role=self.role,
            peer_id=self.peer_id,
            incarnation=self.incarnation,
            process=self._process,
            host_digest=host_digest(),
            extras=dict(self._hello_extras() if self._hello_extras is not None else {}),
        )

    def _on_refused_handshake(self, event: int) -> None:
        """Find out what is wrong with our keys, and say it to who waits; on the loop."""
        if not self._keys_given and self.endpoint.is_loopback:
            keys = _find_keys(self.endpoint, None, None)
            if keys != self._keys:  # a service that was there before us, or came back with keys
                self._keys = keys
                self.control.reopen()
                return
        self._refusals += 1
        why = self._explain_refusal(event)
        if why:
            self._refused(HandshakeError(why))

    def _explain_refusal(self, event: int) -> str:
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            if self._keys is None:
                return "refused the connection"
            pair = self._keys.pair
            why = self._revoked or f"our key {pair.name!r} ({pair.public}) is not authorised there"
            return f"{why}; on the server: zmqruntime keys authorize {pair.name}.pub --role ROLE"
        if event != zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and self._refusals < _REFUSALS:
            return ""  # the connection broke off: it may have been starting or stopping
        if self._keys is None:
            return (
                "serves only who has a key, and was reached without one: with a pair of keys here, "
                f"zmqruntime keys trust {self.endpoint.host} SERVER.pub, or pass keys="
            )
        return (
            f"does not have the key that we were told it has ({self._keys.server_key}), or none "
            "at all; nothing was sent. Ask whoever runs it for its server.pub, and beware of who "
            "else may answer there"
        )

    def _on_revoked(self, body: dict[str, Any]) -> None:
        """Believe a server that says it will cut us off."""
        self._revoked = str(body.get("message", ""))[:1000] or "the key was revoked"
        logger.warning("%s: %s", self.endpoint, self._revoked)
        self.control.declare_lost(self._revoked)

    def _refused(self, error: Exception) -> None:
        self._greeting = False
        with self._changed:
            self._failure = error
            self._changed.notify_all()
        self.control.admit()  # whoever waits is told the same, by the server

    def _on_answer(self, future: Future[Reply]) -> None:
        """Take the welcome, or keep the reason why there is none; on the loop."""
        self._greeting = False
        try:
            welcome = Welcome.from_body(future.result().body)
        except (RequestError, HandshakeError) as error:
            self._refused(error)
            return
        except ControlTimeout:
            logger.info("%s has not answered a hello yet", self.endpoint)
            self._say_hello()  # sent at once, or with the next connection
            return
        except PeerError:
            return  # lost, so the next connection says hello again, or closed
        self._refusals, self._revoked = 0, ""
        self._watch_process(welcome)
        self._liveness.welcomed(welcome.work, watched=self._pidfd is not None)
        with self._changed:
            self._welcome = welcome
            self._failure = None
            self._changed.notify_all()
        self.control.admit()
        for callback in self._welcome_callbacks:
            self.loop.call_soon(callback, welcome)

    def _on_lost(self, reason: str) -> None:
        with self._changed:
            known, self._welcome = self._welcome, None
        if known is not None:
            for callback in self._lost_callbacks:
                self.loop.call_soon(callback, reason)

    def _watch_process(self, welcome: Welcome) -> None:
        """On one computer, let the kernel tell us when the service's process ends.

        A worker that the service forked may keep the connection open after it was killed.
        """
        self._forget_process()
        if welcome.host_digest != host_digest() or not hasattr(os, "pidfd_open"):
            return
        pid = welcome.process.pid
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            return  # in another container, or gone already, which the connection will show
        identity = identity_of(pid)
        if identity is None or identity.start_time != welcome.process.start_time:
            os.close(descriptor)
            return
        self._pidfd = descriptor
        self.loop.register(descriptor, lambda: self._on_process_ended(f"process {pid} has ended"))

    def _on_process_ended(self, reason: str) -> None:
        self._forget_process()
        self._liveness.process_ended(reason)
        self.control.declare_lost(reason)

    def _forget_process(self) -> None:
        if self._pidfd is not None:
            self.loop.unregister(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
