"""EndpointLock: which process holds an address, proved by a lock that outlives no process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import EndpointInUse, ServiceError
from zmqruntime.loop._forks import close_in_forked_children
from zmqruntime.processes._identity import current_identity
from zmqruntime.processes._lock_record import LockRecord, read_lock
from zmqruntime.processes._runtime_dir import is_app, open_private, remove_socket_file, runtime_dir

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

__all__ = ["EndpointLock"]

_KEPT_S = 30 * 24 * 3600
_LOCK_NAME = re.compile(r"(?P<app>[a-z0-9][a-z0-9_-]*)-(?P<port>[1-9][0-9]{0,4})\.lock")


class EndpointLock:
    """The right to serve as one application on one port, for as long as the process lives.

    The kernel gives the lock up when the process ends, however it ends. The file stays, so the
    name of the server stays the same when it starts again; one that nobody has used for 30 days
    is removed by the next server that starts.

    Parameters
    ----------
    app
        Lower-case word that names the application in file names.
    port
        Control port.
    """

    def __init__(self, app: str, port: int) -> None:
        if not is_app(app):
            raise ValueError(
                f"app {app!r} names files: use lower-case letters, digits, '-' and '_' only"
            )
        self.app = app
        self.port = port
        folder = runtime_dir()
        self.path = folder / f"{app}-{port}.lock"
        self.token_path = folder / f"{app}-{port}.token"
        self._descriptor: int | None = None
        self._record: LockRecord | None = None

    def acquire(
        self,
        *,
        host: str,
        data_port: int,
        token: str,
        server_key: str = "",
        transport: str = "tcp",
    ) -> LockRecord:
        """Take the lock, leave the token for this user's programs, and say who has the lock.

        Parameters
        ----------
        host
            Host on which the server listens, as a client of this computer would name it.
        data_port
            Port of the data channel.
        token
            Owner token of the server.
        server_key
            Public key of the server; empty without keys.
        transport
            How it is reached.

        Returns
        -------
        LockRecord
            As written; `server_id` is that of the last holder, if there was one.

        Raises
        ------
        EndpointInUse
            If another process holds it.
        ServiceError
            If the file is not one of ours.
        """
        previous = self._lock()
        self._leave_token(token)  # before the record: who finds the one finds the other
        self._record = LockRecord(
            app=self.app,
            host=host,
            port=self.port,
            data_port=data_port,
            server_id=previous.server_id if previous else secrets.token_hex(8),
            identity=current_identity(),
            since=time.time(),
            server_key=server_key,
            transport=transport,
        )
        self._write(self._record)
        self._forget_old()
        return self._record

    def clear(self) -> bool:
        """Remove what a holder left that ended without leave, as `release` would have.

        Returns
        -------
        bool
            False when another process holds the lock by now.

        Raises
        ------
        ServiceError
            If the file is not one of ours.
        """
        try:
            self._record = self._lock()
        except EndpointInUse:
            return False
        self.release()
        return True

    def _lock(self) -> LockRecord | None:
        """Take the lock, and read what the last holder left."""
        while True:
            descriptor = open_private(self.path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise self._in_use() from error
            if _is_at(self.path, descriptor):
                break
            os.close(descriptor)  # removed as old before it was locked: it locks nothing
        self._descriptor = descriptor
        close_in_forked_children(self)
        return read_lock(self.path)

    def _leave_token(self, token: str) -> None:
        for left in self.token_path.parent.glob(f"{self.token_path.stem}.*.tmp"):
            left.unlink(missing_ok=True)  # of a holder that was killed here; the lock is ours now
        draft = self.token_path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token)
        draft.replace(self.token_path)

    def _forget_old(self) -> None:
        """Remove files that nobody has used for long: ports at random would leave hundreds."""
        folder = self.path.parent
        for name in os.listdir(folder):  # noqa: PTH208 - hundreds of names: glob takes long
            match = _LOCK_NAME.fullmatch(name)
            if match is None:
                continue
            try:
                if time.time() - (folder / name).lstat().st_mtime < _KEPT_S:
                    continue
                old = EndpointLock(match["app"], int(match["port"]))
                old._lock()
            except (EndpointInUse, ServiceError, FileNotFoundError):
                continue  # it serves since long, it is not ours, or another one was quicker
            with contextlib.closing(old):
                old._remove_leftovers()
                old.path.unlink(missing_ok=True)  # while it is locked: see `_lock`

    def release(self) -> None:
        """Give the lock up; remove the token and socket files; twice is harmless."""
        if self._descriptor is None:
            return
        self._remove_leftovers()
        if self._record is not None:
            self._write(msgspec.structs.replace(self._record, identity=None, since=None))
        self.close()

    def _remove_leftovers(self) -> None:
        self.token_path.unlink(missing_ok=True)
        for kind in ("", ".data"):  # libzmq leaves them
            with contextlib.suppress(ServiceError):  # never what is not a socket of ours
                remove_socket_file(self.path.with_name(f"{self.app}-{self.port}{kind}.sock"))

    def close(self) -> None:
        """Close the file and leave its text as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _write(self, record: LockRecord) -> None:
        if self._descriptor is None:
            return
        text = msgspec.json.encode(record)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)

    def _in_use(self) -> EndpointInUse:
        record = read_lock(self.path)
        if record is None or record.identity is None:
            return EndpointInUse(
                f"{self.app} on port {self.port} is being started or stopped by another process",
                app=self.app,
            )
        pid = record.identity.pid
        return EndpointInUse(
            f"{self.app} on port {self.port} is served by process {pid} already: "
            "use it, stop it, or choose another port",
            pid=pid,
            app=record.app,
            since=record.since,
        )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file that is open still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
