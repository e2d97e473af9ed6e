"""ZMQServer: a service of one process; its address, its control channel, its life."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from zmqruntime._control_server import ControlServer
from zmqruntime._endpoint_lock import EndpointLock
from zmqruntime._endpoints import Transport, bind_host, bind_socket, is_loopback
from zmqruntime._errors import (
    EndpointInUse,
    ForbiddenError,
    HandshakeError,
    InvalidRequestError,
    LoopStoppedError,
    UnavailableError,
)
from zmqruntime._handshake import Hello, Ports, ServerInfo, Welcome, Work, choose_version
from zmqruntime._identity import host_digest, process_info
from zmqruntime._lock_record import live_records
from zmqruntime._loop import IOThread
from zmqruntime._messages import V_MAX, V_MIN, Reply
from zmqruntime._spawn import Inherited, Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import zmq

    from zmqruntime._codec import Limits
    from zmqruntime._endpoints import Endpoint
    from zmqruntime._messages import Request
    from zmqruntime._monitor import Monitor
    from zmqruntime._peer import Peer
    from zmqruntime.security import KeyFolder, Rates
    from zmqruntime.security._gate import Gate

    HelloHook = Callable[[Hello, Peer], Mapping[str, Any]]

__all__ = ["ZMQServer"]

logger = logging.getLogger(__name__)

_WORK_S = 0.05


class _TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    key: Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
    capabilities: Annotated[frozenset[str], msgspec.Meta(max_length=64)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 600.0


class ZMQServer:
    """A service that others find, ask and stop.

    Starting takes the lock of ``{app}-{port}``, binds the control port, and leaves a lock file
    and an owner token where the programs of this user find them.

    Parameters
    ----------
    app
        Lower-case word that names the application.
    endpoint
        Ports to serve on; where to listen on them is said by `bind_address`. With the transport
        ``ipc`` it is socket files that only this user can reach.
    version
        Version of the application.
    bind_address
        ``*`` is every interface that is permitted: without keys that is loopback only, which is
        said with a warning.
    keys
        Folder of keys, as `zmqruntime keys` makes it. Both channels are encrypted then, and only
        whoever has an authorised key is let in; the programs of this user on this computer need
        none. The pair of the server is made where there is none.
    audit
        Where decisions are written, one JSON object a line. With keys, by default, a file in
        ``$XDG_STATE_HOME/zmqruntime/audit``.
    rates
        What the server puts up with from whoever can reach it.
    insecure
        Listen on interfaces that other computers can reach, and serve whoever asks, although
        there are no keys. Stopping still takes the owner token.
    limits
        Caps on what peers may send.
    workers
        Most slow handlers at a time.
    hello_hooks
        Each is called, on the loop, with the hello and its peer, and returns fields to add to
        the welcome.

    Raises
    ------
    InsecureBindError
        If other computers could reach the address, and there are neither keys nor `insecure`.
    KeyFileError, ExposedKeyError
        If the keys or the audit log cannot be used.
    ValueError
        If keys were given and yet it is to be insecure.

    Examples
    --------
    >>> from zmqruntime.testing import free_endpoint
    >>> with ZMQServer("greeter", free_endpoint()) as server:
    ...     server.control.handle("greet", lambda *_: {"text": "hello"})
    """

    def __init__(
        self,
        app: str,
        endpoint: Endpoint,
        *,
        version: str = "",
        bind_address: str = "*",
        keys: KeyFolder | Path | str | None = None,
        audit: Path | None = None,
        rates: Rates | None = None,
        insecure: bool = False,
        limits: Limits | None = None,
        workers: int = 4,
        hello_hooks: Sequence[HelloHook] = (),
    ) -> None:
        self.app = app
        if endpoint.transport == Transport.IPC:
            endpoint = replace(endpoint, app=app)
            bind_address = "127.0.0.1"  # nobody else can reach a socket file
        self.endpoint = endpoint
        self.version = version
        if keys is not None and insecure:
            raise ValueError("a server with keys is not insecure: leave one of them out")
        self.insecure = insecure
        self.bound = bind_host(bind_address, insecure=insecure, keyed=keys is not None)
        self._narrowed = bind_address != self.bound and bind_address == "*"
        self.ports = Ports(control=endpoint.port, data=endpoint.data_port)
        self.incarnation = os.urandom(8).hex()
        self.server_id = ""
        self._process = process_info()
        self.ready = False
        self._work = Work()
        self._telling = False
        self.hello_hooks: list[HelloHook] = list(hello_hooks)
        self.loop = IOThread(f"{app}-{endpoint.port}")
        self._token = secrets.token_urlsafe(24)
        self._lock = EndpointLock(app, endpoint.port)
        self._inherited: Inherited | None = None
        self._started_at = 0.0
        self._state = threading.Lock()  # guards the two flags
        self._started = self._stopped = False
        self._asking = threading.Lock()  # guards the next two
        self._stop_reason: str | None = None
        self._stop_callbacks: list[Callable[[str], object]] = []
        self._stop_requested = threading.Event()
        self._signals_installed = False
        self.gate: Gate | None = None
        if keys is not None or audit is not None or not is_loopback(self.bound):
            try:
                self.gate = self._make_gate(keys, audit, rates)
            except BaseException:
                self.loop.stop()
                raise
        self.control = ControlServer(
            self.loop,
            endpoint.control_bind_url(self.bound),
            token=self._token,
            open_to_all=insecure,
            limits=limits,
            workers=workers,
            gate=self.gate,
        )
        self.control.handle("ping", self._on_ping, on_loop=True)
        self.control.handle("hello", self._on_hello, on_loop=True)
        self.control.handle(
            "shutdown", self._on_shutdown, on_loop=True, capability="service:shutdown"
        )
        if self.gate is not None and self.gate.keyed:
            self.control.handle("token", self._on_token, on_loop=True, capability="token:lend")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, *, ready: bool = True) -> None:
        """Take the lock, bind, and answer; starting twice is harmless.

        Parameters
        ----------
        ready
            Say at once that the service can be used. A service with more to prepare, signal
            handlers included, passes False and calls `report_ready` later; it answers pings in
            between.

        Raises
        ------
        EndpointInUse
            If another process serves here, of ours or not; it is left alone.
        LoopStoppedError
            If the server was stopped; a new one is needed then.
        """
        with self._state:
            if self._started and not self._stopped:
                return
            self.loop.start()
            try:
                record = self._lock.acquire(
                    host="localhost" if self.bound == "*" else self.bound,
                    data_port=self.ports.data,
                    token=self._token,
                    server_key=self.server_key,
                    transport=self.endpoint.transport,
                )
                self.server_id = record.server_id
                if self.gate is not None:
                    self.loop.submit(self.gate.open, self.server_id).result()
                self._started_at = time.monotonic()
                self._bind()
            except BaseException:
                self._close_gate()
                self.loop.stop()
                self._lock.release()
                self._stopped = True
                raise
            self._started = True
        self._inherited = Inherited.take()
        if self._inherited.owner is not None:
            self.loop.submit(self._watch_owner, self._inherited.owner).result()
        if self._narrowed:
            logger.warning(
                "%s listens on %s only, because it has no keys with which to tell others apart; "
                "pass keys=, or bind_address='127.0.0.1' if that is what is wanted",
                self.app,
                self.bound,
            )
        if self.insecure and not is_loopback(self.bound):
            logger.warning(
                "%s serves anybody who reaches %s:%d", self.app, self.bound, self.ports.control
            )
        if ready:
            self.report_ready()

    @property
    def work(self) -> Work:
        """What the application is doing; assign a new value whenever that changes.

        Pings and welcomes say it, and the peers that said hello are told, at most 20 times a
        second.
        """
        return self._work

    @work.setter
    def work(self, work: Work) -> None:
        self._work = work
        if not self._telling and self.loop.running and self.control.peers:
            self._telling = True
            with contextlib.suppress(LoopStoppedError):
                self.loop.call_later(_WORK_S, self._tell_work)

    def _tell_work(self) -> None:
        self._telling = False
        body = msgspec.to_builtins(self._work)
        for peer in self.control.peers:
            self.control.push(peer.id, "work", body)

    @property
    def server_key(self) -> str:
        """Public key that clients pin; empty without keys."""
        return self.gate.server_key if self.gate is not None else ""

    def bind(self, socket: zmq.Socket[bytes], url: str) -> Monitor | None:
        """Bind a further socket of this service, with the same keys; on the loop.

        Parameters
        ----------
        socket
            Made in the loop's context.
        url
            From `Endpoint.data_bind_url`.

        Returns
        -------
        Monitor or None
            To be closed before the socket, if there is one. Messages that come in on the socket
            are from whom `Gate.source_of` says.

        Raises
        ------
        EndpointInUse
            If another program listens there.
        InvalidEndpointError
            If the address does not belong to this computer.
        """
        if self.gate is None:
            bind_socket(socket, url)
            return None
        self.gate.prepare(socket)
        monitor = self.gate.watch(socket)
        try:
            bind_socket(socket, url)
        except BaseException:
            monitor.close()
            raise
        return monitor

    def lend_token(self, *, key: str, capabilities: frozenset[str], seconds: float = 600.0) -> str:
        """Let a key do more for a short while.

        Parameters
        ----------
        key
            Public key of an authorised client; who shows the token with another is refused.
        capabilities
            What it allows, in the notation of `fnmatch`.
        seconds
            How long, at most an hour.

        Returns
        -------
        str
            To be given to `ZMQClient` as its token.

        Raises
        ------
        UnavailableError
            If the server has no keys or was not started.
        ValueError
            If the time or the capabilities are too many.
        """
        if self.gate is None or self.gate.mint is None or not self.gate.keyed:
            raise UnavailableError(f"{self.app} lends tokens once it serves, with keys")
        return self.gate.mint.mint(key=key, capabilities=capabilities, seconds=seconds)

    def _make_gate(
        self, keys: KeyFolder | Path | str | None, audit: Path | None, rates: Rates | None
    ) -> Gate:
        # who serves this computer alone needs none of it, nor the time to import it
        from zmqruntime.security import Audit, KeyFolder, audit_path
        from zmqruntime.security._gate import Gate

        if audit is None and keys is not None:
            audit = audit_path(self.app, self.endpoint.port)
        return Gate(
            self.loop,
            keys=None if keys is None else KeyFolder.of(keys),
            open_to_all=self.insecure,
            rates=rates,
            audit=None if audit is None else Audit(audit),
        )

    def _bind(self) -> None:
        """Open the control channel, or say who is in the way."""
        others = live_records(self.ports.control)
        try:
            self.control.open()
        except EndpointInUse as error:
            for record, identity in others:
                if record.app != self.app:
                    raise EndpointInUse(
                        f"port {self.ports.control} is taken by {record.app}, process "
                        f"{identity.pid}: choose another port",
                        pid=identity.pid,
                        app=record.app,
                        since=record.since,
                    ) from error
            raise

    def _close_gate(self) -> None:
        if self.gate is None:
            return
        if self.loop.running:
            self.loop.submit(self.gate.close).result()
        if self.gate.audit is not None:
            self.gate.audit.close()

    def report_ready(self) -> None:
        """Say, to pings and to the process that started this one, that the service is usable."""
        self.ready = True
        if self._inherited is not None:
            self._inherited.report(Readiness(app=self.app, pid=os.getpid(), ports=self.ports))

    def stop(self) -> None:
        """Stop answering and give the address up; any thread but the loop. Twice is harmless.

        Raises
        ------
        RuntimeError
            If called on the loop, which cannot wait for itself: use `request_stop` there.
        """
        if self.loop.on_loop:
            raise RuntimeError("stop() would make the loop wait for itself: use request_stop()")
        self.request_stop("stopped")
        with self._state:
            if self._stopped:
                return
            self._stopped = True
            self.ready = False
            if self._signals_installed and threading.current_thread() is threading.main_thread():
                # an interpreter that ends gives signals their default action back, which kills;
                # those that are ignored it leaves alone
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
            self.control.close()
            self._close_gate()
            self.loop.stop()  # the sockets are closed now, so the address is free
            self._lock.release()
            if self._inherited is not None:
                self._inherited.close()

    def request_stop(self, reason: str) -> None:
        """Ask whoever runs the service to stop it; any thread, only the first time counts.

        Parameters
        ----------
        reason
            For the log.
        """
        with self._asking:
            if self._stop_reason is not None:
                return
            self._stop_reason = reason
            callbacks = tuple(self._stop_callbacks)
        logger.info("%s on port %d: %s", self.app, self.ports.control, reason)
        if self.loop.running:
            for callback in callbacks:
                self.loop.call_soon(callback, reason)
        self._stop_requested.set()

    def on_stop_request(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the loop, with the reason, when the service should end.

        Parameters
        ----------
        callback
            Tells the program's own main loop, which then calls `stop`. Called soon if the
            service was asked already.
        """
        with self._asking:
            self._stop_callbacks.append(callback)
            reason = self._stop_reason
        if reason is not None and self.loop.running:
            self.loop.call_soon(callback, reason)

    def wait_for_stop_request(self, timeout: float | None = None) -> bool:
        """Wait until a signal, the owner or a shutdown request asks the service to end.

        Parameters
        ----------
        timeout
            Longest wait in seconds; None waits for ever.

        Returns
        -------
        bool
            Whether it was asked.
        """
        return self._stop_requested.wait(timeout)

    def install_signal_handlers(self) -> None:
        """Turn SIGTERM and SIGINT into stop requests; main thread only.

        The interpreter writes the signal's number to a pipe that the loop reads; nothing else
        happens in the handler, so it is safe at any moment and under any main loop. Once the
        server has stopped the signals are ignored, so a second one changes nothing while the
        process ends. In a process with several servers, the last one that installs the handlers
        is asked to stop.

        Raises
        ------
        ValueError
            If called outside the main thread.
        """
        if self._signals_installed:
            return
        receive, send = os.pipe()
        for descriptor in (receive, send):
            os.set_blocking(descriptor, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave_it_to_the_pipe)
        signal.set_wakeup_fd(send, warn_on_full_buffer=False)
        self._signals_installed = True

        def on_signal() -> None:
            for number in os.read(receive, 64):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self.request_stop(f"received {signal.Signals(number).name}")

        self.loop.submit(self.loop.register, receive, on_signal).result()

    def serve_until_signal(self) -> None:
        """Serve until a signal, the owner or a shutdown request ends it; main thread only.

        A server that was not started yet is started, and is ready once signals are heeded.

        Raises
        ------
        EndpointInUse
            If the server was not started yet and its address is taken.
        ValueError
            If called outside the main thread.
        """
        self.start(ready=False)
        try:
            self.install_signal_handlers()
            self.report_ready()
            self._stop_requested.wait()
        finally:
            self.stop()

    def describe(self) -> dict[str, Any]:
        """Return what a permitted ping is told; on the loop."""
        return {
            "ready": self.ready,
            "v_min": V_MIN,
            "v_max": V_MAX,
            "app": self.app,
            "version": self.version,
            "server_id": self.server_id,
            "incarnation": self.incarnation,
            "pid": self._process.pid,
            "start_time": self._process.start_time,
            "ports": {"control": self.ports.control, "data": self.ports.data},
            "bound": [self.bound],
            "insecure": self.insecure,
            "server_key": self.server_key,
            "work": msgspec.to_builtins(self.work),
            "uptime": time.monotonic() - self._started_at,
            "counters": self._counters(),
        }

    def _counters(self) -> dict[str, int]:
        counters = dict(self.control.counters)
        if self.gate is not None:
            counters |= {f"gate.{name}": count for name, count in self.gate.counters.items()}
            counters["gate.audit_lost"] = self.gate.audit.lost if self.gate.audit else 0
        return counters

    def _on_ping(self, request: Request, peer: Peer) -> Reply:  # noqa: ARG002 - a handler
        if peer.permitted:
            return Reply(self.describe(), "pong")
        return Reply({"ready": self.ready, "v_min": V_MIN, "v_max": V_MAX}, "pong")

    def _on_hello(self, request: Request, peer: Peer) -> Reply:
        if not peer.permitted:
            raise ForbiddenError(
                f"{self.app} on port {self.ports.control} welcomes only who shows its token; "
                "its file is readable by the user who runs it",
                code="unauthenticated",
            )
        try:
            hello = Hello.from_body(request.body)
        except HandshakeError as error:
            raise InvalidRequestError(str(error)) from error
        version = choose_version(hello.v_min, hello.v_max)
        peer = self.control.admit(peer, hello)
        extras: dict[str, Any] = {}
        for hook in self.hello_hooks:
            extras.update(hook(hello, peer))
        limits = self.control.limits
        welcome = Welcome(
            v=version,
            server=ServerInfo(
                name=self.app,
                version=self.version,
                id=self.server_id,
                incarnation=self.incarnation,
            ),
            ports=self.ports,
            process=self._process,
            bound=(self.bound,),
            insecure=self.insecure,
            capabilities=("*",) if peer.owner else tuple(sorted(peer.grants)),
            limits={
                "frame_bytes": limits.frame_bytes,
                "request_bytes": limits.request_bytes,
                "frames": limits.frames,
            },
            host_digest=host_digest(),
            work=self.work,
            ticket=self._issue_ticket(peer),
            extras=extras,
        )
        return Reply(welcome.to_body(), "welcome")

    def _issue_ticket(self, peer: Peer) -> str:
        if self.gate is None:
            return ""
        return self.gate.tickets.issue(f"{peer.source.key}/{peer.id.hex()}")

    def _on_token(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Lend a token: never for more than the asker may do."""
        from zmqruntime.security._capabilities import covers

        asked = request.parse(_TokenRequest)
        if not peer.owner and not all(covers(peer.grants, each) for each in asked.capabilities):
            raise ForbiddenError("what you may not do yourself you cannot lend")
        try:
            token = self.lend_token(
                key=asked.key, capabilities=asked.capabilities, seconds=asked.seconds
            )
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        return {"token": token, "seconds": asked.seconds}

    def _on_shutdown(self, request: Request, peer: Peer) -> Reply:  # noqa: ARG002 - a handler
        self.loop.call_soon(self.request_stop, f"asked to stop by {peer}")
        return Reply()

    def _watch_owner(self, descriptor: int) -> None:
        def on_readable() -> None:
            if not os.read(descriptor, 64):
                self.loop.unregister(descriptor)
                self.request_stop("the process that started this service has ended")

        self.loop.register(descriptor, on_readable)


def _leave_it_to_the_pipe(number: int, frame: object) -> None:
    """Do nothing: the interpreter has written the number to the wake pipe."""
