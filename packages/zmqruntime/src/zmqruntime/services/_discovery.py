"""Services of this user on this computer: found by their lock files, asked, stopped."""

from __future__ import annotations

import logging
import math
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from zmqruntime._endpoints import Endpoint, Transport
from zmqruntime._errors import FrameError, PeerError, RequestError, ServiceStopError
from zmqruntime._typed import from_plain
from zmqruntime.control import _codec
from zmqruntime.control._client import ControlClient
from zmqruntime.control._handshake import Work
from zmqruntime.control._messages import V_MAX, RequestMessage
from zmqruntime.loop._loop import IOThread
from zmqruntime.loop._polling import Deadline
from zmqruntime.processes._endpoint_lock import EndpointLock
from zmqruntime.processes._identity import (
    Identity,
    boot_id,
    is_alive,
    signal_process,
    wait_for_exit,
)
from zmqruntime.processes._lock_record import LockRecord, read_lock, read_token
from zmqruntime.processes._runtime_dir import runtime_dir

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from zmqruntime.security import ClientKeys

__all__ = ["ServiceRecord", "find_services", "stop_service"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A service as it was found.

    Attributes
    ----------
    app
        What it calls itself.
    host, port, data_port
        Where it is.
    pid
        Process that serves, or served.
    since
        When it took its address, seconds since the epoch.
    alive
        Whether exactly that process still runs. False is a crash: a service that stops in
        order leaves no record.
    answering
        Whether it answered a ping. Not answering while alive is being stopped or overloaded.
    ready
        Whether it said that it can be used; None when it did not answer.
    work
        What it said it is doing; None when it did not answer.
    server_id
        Name that stays the same when it starts again.
    server_key
        Public key that its clients need; empty for a service without keys.
    transport
        How it is reached.
    identity
        The process, so that no other can be taken for it.
    """

    app: str
    host: str
    port: int
    data_port: int
    pid: int
    since: float
    alive: bool
    answering: bool
    ready: bool | None
    work: Work | None
    server_id: str
    server_key: str = ""
    transport: str = "tcp"
    identity: Identity

    @property
    def endpoint(self) -> Endpoint:
        """Where to connect to it."""
        return _endpoint_of(self)


class _Pong(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a pong."""

    ready: bool
    work: Work | None = None


def find_services(*, timeout: float = 0.5) -> list[ServiceRecord]:
    """Find the services of this user on this computer, without knocking at ports.

    Parameters
    ----------
    timeout
        Longest wait in seconds for the answers of all of them together.

    Returns
    -------
    list of ServiceRecord
        Sorted by application and port. Crashed ones are included until `stop_service` clears
        what they left, or their port is used again.

    Raises
    ------
    ServiceError
        If the folder of lock files belongs to another user or others can enter it.
    """
    boot = boot_id()
    found: list[tuple[Path, LockRecord, Identity]] = []
    for path in sorted(runtime_dir().glob("*.lock")):
        record = read_lock(path)
        if record is not None and record.identity is not None and record.identity.boot_id == boot:
            found.append((path, record, record.identity))
    living = {path: record for path, record, who in found if is_alive(who)}
    pongs = _ping(living.items(), timeout)
    records = [
        ServiceRecord(
            app=record.app,
            host=record.host,
            port=record.port,
            data_port=record.data_port,
            pid=identity.pid,
            since=record.since or 0.0,
            alive=path in living,
            answering=path in pongs,
            ready=pongs[path].ready if path in pongs else None,
            work=pongs[path].work if path in pongs else None,
            server_id=record.server_id,
            server_key=record.server_key,
            transport=record.transport,
            identity=identity,
        )
        for path, record, identity in found
    ]
    return sorted(records, key=lambda each: (each.app, each.port))


def stop_service(record: ServiceRecord, *, timeout: float = 5.0) -> None:
    """Ask a service to end, then tell it with SIGTERM; nothing is killed.

    Parameters
    ----------
    record
        From `find_services`. If its process has ended without leave, its record, token and
        socket files are removed. Whoever uses the port or the pid now is left alone.
    timeout
        Longest wait in seconds after asking, and again after telling.

    Raises
    ------
    ServiceStopError
        If it is still there, or if it is a service of this very process.
    """
    identity = record.identity
    if identity.pid == os.getpid():
        raise ServiceStopError(
            f"{record.app} on port {record.port} is served by this process: call its stop()"
        )
    if not is_alive(identity):
        EndpointLock(record.app, record.port).clear()
        return
    if _ask_to_stop(record, timeout) and wait_for_exit(identity, timeout):
        return
    if not signal_process(identity, signal.SIGTERM):
        return
    if not wait_for_exit(identity, timeout):
        raise ServiceStopError(
            f"{record.app} on port {record.port} (process {record.pid}) was asked to stop and "
            f"sent SIGTERM, and is still there after {timeout:g} s; its work may be lost if you "
            "kill it by hand"
        )


def _ask_to_stop(record: ServiceRecord, timeout: float) -> bool:
    """Send the shutdown request with the owner token, and say whether it was accepted."""
    token = read_token(record.port, record.app)
    with IOThread(f"stop-{record.port}") as loop:
        keys = _local_keys(record.server_key)
        client = ControlClient(
            loop,
            record.endpoint.control_url,
            token=token,
            secure=None if keys is None else keys.secure,
        )
        client.open()
        try:
            client.request("shutdown", timeout=min(timeout, 2.0))
        except (PeerError, RequestError) as error:
            logger.info("%s on port %d: %s", record.app, record.port, error)
            return False
        finally:
            client.close()
    return True


def _ping(services: Iterable[tuple[Path, LockRecord]], timeout: float) -> dict[Path, _Pong]:
    """Ask all of them at once, and return the answers that came in time."""
    waiting: dict[zmq.Socket[bytes], Path] = {}
    pongs: dict[Path, _Pong] = {}
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    try:
        for path, record in services:
            token = read_token(record.port, record.app)
            ping = RequestMessage(v=V_MAX, type="ping", id="discovery", token=token)
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.IPV6, 1 if ":" in record.host else 0)
            keys = _local_keys(record.server_key)
            if keys is not None:
                keys.secure(socket)
            socket.connect(_endpoint_of(record).control_url)
            socket.send_multipart([b"", _codec.encode(ping)])
            poller.register(socket, zmq.POLLIN)
            waiting[socket] = path
        deadline = Deadline(timeout)
        while waiting and not deadline.expired:
            for socket, _ in poller.poll(math.ceil(deadline.remaining() * 1000)):
                pong = _read_pong(socket.recv_multipart())
                poller.unregister(socket)
                path = waiting.pop(socket)
                socket.close(linger=0)
                if pong is not None:
                    pongs[path] = pong
    finally:
        context.destroy(linger=0)
    return pongs


def _endpoint_of(record: ServiceRecord | LockRecord) -> Endpoint:
    return Endpoint(
        record.host,
        record.port,
        transport=record.transport,
        data_port_offset=record.data_port - record.port,
        app=record.app if record.transport == Transport.IPC else "",
    )


def _local_keys(server_key: str) -> ClientKeys | None:
    """Find what reaches a service of this user; only one with keys takes any."""
    if not server_key:
        return None
    from zmqruntime.security._local import local_client_keys

    return local_client_keys(server_key)


def _read_pong(frames: list[bytes]) -> _Pong | None:
    body: dict[str, Any] = {}
    try:
        body = _codec.decode_reply(frames[-1]).body
        return from_plain(body, _Pong)
    except (FrameError, msgspec.ValidationError) as error:
        logger.warning("a ping was answered with what is no pong: %s", error)
        return None
