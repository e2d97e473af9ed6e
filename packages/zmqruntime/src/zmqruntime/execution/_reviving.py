"""RevivingManager: a service whose requests survive its restart, and that is started at need."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import (
    ControlTimeout,
    DeadlineError,
    ForbiddenError,
    LoopStoppedError,
    PeerLostError,
    RequestError,
    ServiceStartError,
)
from zmqruntime.execution._errors import ServerLost
from zmqruntime.loop._polling import Backoff, Deadline
from zmqruntime.services._connect import ZMQServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from zmqruntime._client import ZMQClient
    from zmqruntime._endpoints import Endpoint
    from zmqruntime._errors import ZmqRuntimeError
    from zmqruntime.security import ClientKeys, KeyFolder

__all__ = ["RevivingManager"]

logger = logging.getLogger(__name__)

_NOTICE_S = 0.05
_RENEWED_S = 60.0  # after which a request that waits is made again, should it have been forgotten


class RevivingManager(ZMQServiceManager):
    """A service that is asked again, by `_ask`, when it was lost before it answered.

    With a command it is started again while somebody waits for it; without one, its successor
    is waited for.

    Parameters
    ----------
    endpoint, app, command, log_path, persistent, env, client_app, token, keys, server_key
        As for `ZMQServiceManager`.
    patience
        Seconds for which the service may be away.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        app: str = "execution",
        command: Sequence[str] | None = None,
        log_path: Path | None = None,
        persistent: bool = False,
        env: Mapping[str, str] | None = None,
        client_app: str = "zmqruntime",
        token: str | None = None,
        keys: ClientKeys | KeyFolder | Path | str | None = None,
        server_key: str | None = None,
        patience: float = 30.0,
    ) -> None:
        super().__init__(
            app,
            endpoint,
            command=command,
            log_path=log_path,
            persistent=persistent,
            env=env,
            client_app=client_app,
            token=token,
            keys=keys,
            server_key=server_key,
        )
        self.patience = patience
        self._changed = threading.Condition()  # guards what follows
        self._lost_since: float | None = None
        self._lost_reason = ""
        self._asking = 0
        self._used = False  # between the first connect() and close()
        self._prepare()

    def _prepare(self) -> None:
        """Make what a subclass needs before it is used; called once, by the constructor."""

    def close(self) -> None:
        """Disconnect, as `ZMQServiceManager.close` does; nothing is started again."""
        with self._changed:
            self._used = False
            self._changed.notify_all()  # whoever waits for the service waits no longer
        super().close()

    def _welcomed(self) -> None:
        """Take up a connection on which nothing was asked yet; a subclass adds what it needs."""
        with self._changed:
            self._lost_since = None
            self._changed.notify_all()

    def _connect_to_service(self, timeout: float) -> None:
        super()._connect_to_service(timeout)
        self._used = True
        client = self.client
        client.on_welcome(lambda _: self._welcomed())
        client.on_lost(self._on_lost)
        self._welcomed()
        if not client.connected:
            self._on_lost("the connection broke")

    def _on_lost(self, reason: str) -> None:
        with self._changed:
            self._note_loss(reason)
            self._changed.notify_all()
            restart = self.command is not None and self._asking > 0
        if restart:
            # who asks waits for an answer; this thread is the loop of a connection to be replaced
            threading.Thread(
                target=lambda: self._bring_back(Deadline(self.patience)),
                name="bring-back",
                daemon=True,
            ).start()

    def _note_loss(self, reason: str) -> None:
        """Note since when the server is away; under the lock."""
        if self._lost_since is None:
            self._lost_since = time.monotonic()
            self._lost_reason = reason

    def _is_away(self) -> bool:
        """Say whether the service was lost and has not come back yet."""
        return self._lost_since is not None

    def _left(self, patience: float) -> float | None:
        """Say how long a server that is away may still be; None while it is there."""
        since = self._lost_since
        return None if since is None else since + patience - time.monotonic()

    def _bring_back(self, deadline: Deadline) -> None:
        """Start the server again, where we can; else leave it to whoever does."""
        if self.command is None or not self._used:
            return
        with self._changed:
            if not self.is_connected():
                self._note_loss("the connection broke")
        waits = Backoff(first=0.05, longest=8.0)
        while self._used and not (self.is_connected() or deadline.expired):
            try:
                self.connect_or_raise(deadline.remaining())
            except ServiceStartError as error:
                logger.warning("%s", error)
                with self._changed:
                    self._changed.wait(min(waits.next(), deadline.remaining()))

    def _await_connection(self, deadline: Deadline) -> ZMQClient:
        """Wait for a connection, and start the server again where we can."""
        if not self._used:
            return self.client  # raises, because nobody called connect()
        while not (self.is_connected() or deadline.expired):
            with self._changed:
                # the loss is noticed before those who are told of it have been
                left = deadline.remaining() if self.command is None else _NOTICE_S
                self._changed.wait_for(self.is_connected, left)
            self._bring_back(deadline)
        client = self._client
        if client is None:
            raise ControlTimeout(
                f"{self.app} at {self.endpoint} could not be started again: {self.last_error}"
            )
        return client

    def _await_service(self, deadline: Deadline, patience: float, what: str) -> ZMQClient | None:
        """Wait while the service is away, and bring it back meanwhile where we can.

        Parameters
        ----------
        deadline
            Until when.
        patience
            Seconds for which it may be away.
        what
            What is asked of it, for the error.

        Returns
        -------
        ZMQClient or None
            None when the deadline was first.

        Raises
        ------
        ServerLost
            If it was away for too long.
        ServiceStartError
            If this object is not connected to any.
        """
        with self._changed:
            if not self.is_connected():
                self._note_loss("the connection broke")
        while (left := self._left(patience)) is not None and self._used:
            if left <= 0:
                raise ServerLost(
                    f"{self.app} at {self.endpoint} is gone ({self._lost_reason}) and did not "
                    f"come back; what became of {what} is in its journal, and is told when it is "
                    "started again"
                )
            if deadline.expired:
                return None
            until = Deadline(min(left, deadline.remaining(), _RENEWED_S))
            self._bring_back(until)
            with self._changed:
                # a welcome is noted a moment after it has come
                left = until.remaining() if self.command is None else _NOTICE_S
                self._changed.wait_for(lambda: not (self._is_away() and self._used), left)
            if self.is_connected():
                break
        return self.client

    def _ask(self, type_: str, body: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Ask, and again when the server was lost meanwhile; for what does no harm twice."""
        deadline = Deadline(timeout)
        with self._wanted():
            while True:
                client = self._await_connection(deadline)
                left = max(0.001, deadline.remaining())
                try:
                    return client.control.request(type_, body, timeout=left, idempotent=True)
                except (PeerLostError, LoopStoppedError, ForbiddenError) as error:
                    if deadline.expired:
                        raise
                    self._get_over(error, client, deadline)

    def _ask_for_long(
        self, type_: str, body: dict[str, Any], what: str, *, deadline: Deadline, patience: float
    ) -> dict[str, Any] | None:
        """Ask what is answered once something has happened; None if it has not in time.

        Parameters
        ----------
        type_, body
            The request; asking it twice does no harm.
        what
            What is asked for, for the error.
        deadline
            Until when to wait.
        patience
            Seconds for which the service may be away.

        Raises
        ------
        ServerLost
            If it was away for too long.
        RequestError
            If it refused.
        """
        with self._wanted():
            while (client := self._await_service(deadline, patience, what)) is not None:
                left = max(0.001, min(deadline.remaining(), max(1.0, patience), _RENEWED_S))
                try:
                    # not as idempotent: who asks is to hear of a loss, whose end it may bring
                    return client.control.request(type_, body, timeout=left)
                except (ControlTimeout, DeadlineError):
                    pass
                except (PeerLostError, LoopStoppedError, RequestError) as error:
                    self._get_over(error, client, deadline)
                if deadline.expired:
                    break
        return None

    @contextmanager
    def _wanted(self) -> Iterator[None]:
        """See to it that a loss during the block is mended; what began before is seen by itself."""
        with self._changed:
            self._asking += 1
        try:
            yield
        finally:
            with self._changed:
                self._asking -= 1

    def _get_over(self, error: ZmqRuntimeError, client: ZMQClient, deadline: Deadline) -> None:
        """Return when it makes sense to ask again after an error, else raise it."""
        if isinstance(error, PeerLostError):
            return
        if isinstance(error, LoopStoppedError) and client is not self._client and self._used:
            return  # another connection has taken its place
        # a server that was started again has a new token, which the next hello shows
        if isinstance(error, RequestError) and (error.retryable or error.code == "unauthenticated"):
            with self._changed:
                self._changed.wait(min(_NOTICE_S, deadline.remaining()))
            return
        raise error
