"""ServiceManager: use the service that runs, or start it; then be connected, or say why not."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from zmqruntime._client import ZMQClient
from zmqruntime._errors import (
    ControlTimeout,
    HandshakeError,
    PeerLostError,
    ServiceStartError,
    ZmqRuntimeError,
)
from zmqruntime.loop._polling import Backoff, Deadline
from zmqruntime.processes._identity import is_alive
from zmqruntime.processes._lock_record import read_lock
from zmqruntime.processes._runtime_dir import runtime_dir
from zmqruntime.services._spawn import ServiceProcess, launch_service, log_tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from zmqruntime._client import HelloExtras
    from zmqruntime._endpoints import Endpoint
    from zmqruntime.security import ClientKeys, KeyFolder

__all__ = ["ServiceManager", "ZMQServiceManager"]

logger = logging.getLogger(__name__)


class ServiceManager(ABC):
    """The steps from nothing to a connection, the same for every kind of service.

    `connect` asks `is_connected`; if not, `is_service_running`; if it runs,
    `_connect_to_service`; if it does not, or has ended by the time that fails, `_start_service`
    and `_wait_and_connect`. All steps run on the thread that called `connect`, one caller at a
    time, and raise a `ZmqRuntimeError` or an `OSError` when they fail.

    Attributes
    ----------
    last_error
        Why the last `connect` failed, with the step, the command line and the end of the log;
        None after success.
    """

    def __init__(self) -> None:
        self.last_error: ServiceStartError | None = None
        self._connecting = threading.Lock()

    @abstractmethod
    def is_connected(self) -> bool:
        """Say whether the service can be used through this object now."""

    @abstractmethod
    def is_service_running(self) -> bool:
        """Say whether there is a service to connect to."""

    @abstractmethod
    def _connect_to_service(self, timeout: float) -> None:
        """Connect to a service that runs."""

    @abstractmethod
    def _start_service(self) -> None:
        """Start the service without waiting for it."""

    @abstractmethod
    def _wait_and_connect(self, timeout: float) -> None:
        """Wait until the service that was started is ready, and connect to it."""

    def connect(self, timeout: float = 30.0) -> bool:
        """Connect, starting the service if it does not run.

        Parameters
        ----------
        timeout
            Longest wait in seconds for all of it.

        Returns
        -------
        bool
            False when it failed; `last_error` says why.
        """
        try:
            self.connect_or_raise(timeout)
        except ServiceStartError as error:
            logger.info("%s", error)
            return False
        return True

    def connect_or_raise(self, timeout: float = 30.0) -> None:
        """Connect, starting the service if it does not run.

        Parameters
        ----------
        timeout
            Longest wait in seconds for all of it.

        Raises
        ------
        ServiceStartError
            If a step failed; the message names it.
        """
        deadline = Deadline(timeout)
        with self._connecting:
            step = "look"
            try:
                attached = self.is_connected()
                if not attached and self.is_service_running():
                    step = "attach"
                    attached = self._attach(deadline)
                if not attached:
                    step = "start"
                    self._start_service()
                    step = "wait"
                    self._wait_and_connect(deadline.remaining())
            except ServiceStartError as error:
                self.last_error = error
                raise
            except (ZmqRuntimeError, OSError) as error:
                self.last_error = self._explain(step, error)
                raise self.last_error from error
            self.last_error = None

    def _attach(self, deadline: Deadline) -> bool:
        """Connect to what runs; False if it was ending: one that was killed looks alive a while."""
        try:
            self._connect_to_service(deadline.remaining())
        except (ZmqRuntimeError, OSError):
            if deadline.expired or self.is_service_running():
                raise
            return False
        return True

    def _explain(self, step: str, error: Exception) -> ServiceStartError:
        """Make the error that `connect` leaves behind; a subclass may add what it knows."""
        return ServiceStartError(f"step '{step}' failed: {error}", step=step)


class ZMQServiceManager(ServiceManager):
    """A service reached through `ZMQClient`, and started as a process when it does not run.

    Parameters
    ----------
    app
        What the service calls itself.
    endpoint
        Where it is, or is to be.
    command
        Program and arguments that serve there. None: only attach, as to another computer.
    log_path
        File for the output of a process that is started; needed with a command.
    persistent
        Let a service that was started live on after `close` and after this process.
    env
        Variables to add to its environment.
    client_app, role, hello_extras, token, keys, server_key
        As for `ZMQClient`.

    Raises
    ------
    ValueError
        If there is a command for another computer, or one without a log.
    """

    def __init__(
        self,
        app: str,
        endpoint: Endpoint,
        *,
        command: Sequence[str] | None = None,
        log_path: Path | None = None,
        persistent: bool = False,
        env: Mapping[str, str] | None = None,
        client_app: str = "zmqruntime",
        role: str = "client",
        hello_extras: HelloExtras | None = None,
        token: str | None = None,
        keys: ClientKeys | KeyFolder | Path | str | None = None,
        server_key: str | None = None,
    ) -> None:
        super().__init__()
        if command is not None and not endpoint.is_loopback:
            raise ValueError(f"cannot start {app} on {endpoint.host}: it is another computer")
        if command is not None and log_path is None:
            raise ValueError(f"starting {app} takes a log_path, where its output is kept")
        self.app = app
        self.endpoint = endpoint
        self.command = None if command is None else tuple(command)
        self.log_path = log_path
        self.persistent = persistent
        self.env = dict(env or {})
        self.process: ServiceProcess | None = None
        """The process, when this object started it."""
        self._client_app = client_app
        self._role = role
        self._hello_extras = hello_extras
        self._token = token
        self._keys = keys
        self._server_key = server_key
        self._client: ZMQClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def client(self) -> ZMQClient:
        """The connected client.

        Raises
        ------
        ServiceStartError
            If `connect` has not succeeded yet.
        """
        if self._client is None:
            raise ServiceStartError(f"not connected to {self.app}: call connect()", step="look")
        return self._client

    def is_connected(self) -> bool:
        """Say whether the service has welcomed us and the connection is up."""
        return self._client is not None and self._client.connected

    def is_service_running(self) -> bool:
        """Say whether the service's lock is held; another computer's is taken to be."""
        if self.command is None:
            return True
        record = read_lock(runtime_dir() / f"{self.app}-{self.endpoint.port}.lock")
        return record is not None and record.identity is not None and is_alive(record.identity)

    def close(self) -> None:
        """Disconnect, and stop the service if we started it and it is not persistent.

        Twice is harmless.
        """
        self._drop_client()
        if self.process is not None:
            if self.persistent:
                self.process.close()
            else:
                self.process.stop()
            self.process = None

    def _connect_to_service(self, timeout: float) -> None:
        self._drop_client()
        client = ZMQClient(
            self.endpoint,
            app=self._client_app,
            role=self._role,
            token=self._token,
            keys=self._keys,
            server_key=self._server_key,
            hello_extras=self._hello_extras,
        )
        try:
            found = self._welcome(client, timeout)
        except ZmqRuntimeError:
            client.close()
            raise
        if found != self.app:
            client.close()
            raise HandshakeError(
                f"{self.endpoint} is {found!r}, not {self.app!r}: choose another port"
            )
        self._client = client

    def _welcome(self, client: ZMQClient, timeout: float) -> str:
        """Wait for the welcome, as long as there is somebody to say it, and return who did."""
        deadline, waits = Deadline(timeout), Backoff(first=0.1, longest=0.5)
        while True:
            try:
                return client.connect(min(waits.next(), deadline.remaining())).server.name
            except ControlTimeout:
                if deadline.expired:
                    raise ControlTimeout(
                        f"nothing answered at {self.endpoint} within {timeout:.3g} s: is the "
                        "service running?"
                    ) from None
                if not self.is_service_running():
                    raise PeerLostError(
                        f"{self.app} at {self.endpoint} ended before it answered"
                    ) from None

    def _start_service(self) -> None:
        if self.command is None or self.log_path is None:
            raise ServiceStartError(f"no command to start {self.app} with", step="start")
        if self.process is not None:
            self.process.kill()  # it no longer serves, or we would not be here
        self.process = launch_service(
            self.command, log_path=self.log_path, persistent=self.persistent, env=self.env
        )

    def _wait_and_connect(self, timeout: float) -> None:
        deadline = Deadline(timeout)
        if self.process is not None:
            try:
                self.process.wait_ready(deadline.remaining())
            except ServiceStartError:
                if not self.is_service_running():
                    raise
                # somebody else started it at the same moment: theirs is as good as ours
                self.process = None
        self._connect_to_service(deadline.remaining())

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _explain(self, step: str, error: Exception) -> ServiceStartError:
        tail = log_tail(self.log_path) if self.process is not None and self.log_path else ""
        command = self.command if self.process is not None and self.command else ()
        parts = [f"{self.app} at {self.endpoint}: step '{step}' failed: {error}"]
        if command:
            parts.append(f"command: {' '.join(command)}")
        if tail:
            parts.append(f"the end of its log {self.log_path}:\n{tail}")
        return ServiceStartError("\n".join(parts), step=step, command=command, log_tail=tail)
