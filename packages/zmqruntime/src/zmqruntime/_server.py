"""ZMQServer: a service of one process; its address, its control channel, its life."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zmqruntime._endpoints import Transport, bind_host, bind_socket, is_loopback
from zmqruntime._errors import EndpointInUse, ServiceError, UnavailableError
from zmqruntime.control._greeter import Greeter
from zmqruntime.control._handshake import Ports
from zmqruntime.control._messages import Reply
from zmqruntime.control._server import ControlServer
from zmqruntime.control._work_news import WorkNews
from zmqruntime.loop._loop import IOThread
from zmqruntime.processes._endpoint_lock import EndpointLock
from zmqruntime.processes._lock_record import live_records
from zmqruntime.processes._stop_request import StopRequest
from zmqruntime.processes._stop_signals import StopSignals
from zmqruntime.services._spawn import Inherited, Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Self

    import zmq

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.control._codec import Limits
    from zmqruntime.control._greeter import HelloHook
    from zmqruntime.control._handshake import Work
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.loop._monitor import Monitor
    from zmqruntime.security import KeyFolder, Rates
    from zmqruntime.security._gate import Gate
    from zmqruntime.security._lending import Lending

__all__ = ["ZMQServer"]

logger = logging.getLogger(__name__)


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
        self.ready = False
        self.hello_hooks: list[HelloHook] = list(hello_hooks)
        self.loop = IOThread(f"{app}-{endpoint.port}")
        self._token = secrets.token_urlsafe(24)
        self._lock = EndpointLock(app, endpoint.port)
        self._inherited: Inherited | None = None
        self._state = threading.Lock()  # guards the two flags
        self._started = self._stopped = False
        self._stop_request = StopRequest(self.loop, f"{app} on port {endpoint.port}")
        self._signals = StopSignals(self.loop, self.request_stop)
        self.gate: Gate | None = None
        self._lending: Lending | None = None
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
        self._news = WorkNews(self.loop, self.control)
        self._greeter = Greeter(self, self.control, self.gate)
        self.control.handle(
            "shutdown", self._on_shutdown, on_loop=True, capability="service:shutdown"
        )
        if self._lending is not None:
            self.control.handle(
                "token", self._lending.answer, on_loop=True, capability="token:lend"
            )

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
                self._greeter.begin()
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

    def require_running(self) -> None:
        """Make sure that the server was started, for what needs its thread and its lock.

        Raises
        ------
        ServiceError
            If it was not.
        """
        if not self._started and not self._stopped:
            raise ServiceError(
                f"the server of {self.app!r} at {self.endpoint} does not run yet: call its "
                "start(), or enter its `with` block, before it publishes or receives"
            )

    @property
    def work(self) -> Work:
        """What the application is doing; assign a new value whenever that changes.

        Pings and welcomes say it, and the peers that said hello are told, at most 20 times a
        second.
        """
        return self._news.work

    @work.setter
    def work(self, work: Work) -> None:
        self._news.tell(work)

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
        if self._lending is None:
            raise UnavailableError(f"{self.app} lends tokens once it serves, with keys")
        return self._lending.lend(key=key, capabilities=capabilities, seconds=seconds)

    def _make_gate(
        self, keys: KeyFolder | Path | str | None, audit: Path | None, rates: Rates | None
    ) -> Gate:
        # who serves this computer alone needs none of it, nor the time to import it
        from zmqruntime.security import Audit, KeyFolder, audit_path
        from zmqruntime.security._gate import Gate
        from zmqruntime.security._lending import Lending

        if audit is None and keys is not None:
            audit = audit_path(self.app, self.endpoint.port)
        gate = Gate(
            self.loop,
            keys=None if keys is None else KeyFolder.of(keys),
            open_to_all=self.insecure,
            rates=rates,
            audit=None if audit is None else Audit(audit),
        )
        if gate.keyed:
            self._lending = Lending(gate, self.app)
        return gate

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
            self._signals.ignore()
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
        self._stop_request.ask(reason)

    def on_stop_request(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the loop, with the reason, when the service should end.

        Parameters
        ----------
        callback
            Tells the program's own main loop, which then calls `stop`. Called soon if the
            service was asked already.
        """
        self._stop_request.on_asked(callback)

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
        return self._stop_request.wait(timeout)

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
        self._signals.install()

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
            self._stop_request.wait()
        finally:
            self.stop()

    def describe(self) -> dict[str, Any]:
        """Return what a permitted ping is told; on the loop."""
        return self._greeter.describe()

    def _on_shutdown(self, request: Request, peer: Peer) -> Reply:  # noqa: ARG002 - a handler
        self.loop.call_soon(self.request_stop, f"asked to stop by {peer}")
        return Reply()

    def _watch_owner(self, descriptor: int) -> None:
        def on_readable() -> None:
            if not os.read(descriptor, 64):
                self.loop.unregister(descriptor)
                self.request_stop("the process that started this service has ended")

        self.loop.register(descriptor, on_readable)
