"""Owner: which process holds an address, proved by a lock that outlives no process."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import select
import signal
import stat
import subprocess
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from zmqruntime._errors import EndpointInUse, ServiceError
from zmqruntime._handshake import ProcessInfo

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "EndpointLock",
    "Identity",
    "LockRecord",
    "close_in_forked_children",
    "current_identity",
    "has_server_key",
    "host_digest",
    "identity_of",
    "is_alive",
    "is_app",
    "is_stopped",
    "live_records",
    "process_info",
    "read_lock",
    "read_token",
    "remove_socket_file",
    "runtime_dir",
    "signal_process",
    "wait_for_exit",
]

_APP = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process, named so that no later process can be taken for it.

    `start_time` is in clock ticks since boot on Linux; elsewhere in seconds since the epoch.
    """

    pid: Annotated[int, msgspec.Meta(ge=1)]
    start_time: int
    boot_id: str


class LockRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a lock file says of the service that holds it; `identity` is None once it stopped.

    `server_key` is the public key that its clients need; empty for a service without keys.
    """

    app: str
    host: str
    port: int
    data_port: int
    server_id: str
    identity: Identity | None = None
    since: float | None = None
    transport: str = "tcp"
    server_key: str = ""


def is_app(name: str) -> bool:
    """Say whether a word can name an application in file names."""
    return _APP.fullmatch(name) is not None


def runtime_dir() -> Path:
    """Return the folder of locks and tokens, made with mode 0700 where it is missing.

    Returns
    -------
    Path
        ``$XDG_RUNTIME_DIR/zmqruntime``, else ``~/.local/state/zmqruntime/run``.

    Raises
    ------
    ServiceError
        If the folder belongs to another user or others can enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        folder = Path(base) / "zmqruntime"
    else:
        folder = Path.home() / ".local" / "state" / "zmqruntime" / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ServiceError(
            f"{folder} is not a folder of this user: remove it, or set "
            "XDG_RUNTIME_DIR to a folder that is"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ServiceError(f"other users can enter {folder}: run chmod 700 on it")
    return folder


def boot_id() -> str:
    """Return what this boot of this computer is called."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    return _run("sysctl", "-n", "kern.bootsessionuuid")


def host_digest() -> str:
    """Return a fingerprint of this boot of this computer, which does not give the boot id away.

    Returns
    -------
    str
        blake2b of 16 bytes, hexadecimal.
    """
    return hashlib.blake2b(boot_id().encode(), digest_size=16).hexdigest()


def identity_of(pid: int) -> Identity | None:
    """Say which process has a pid now.

    Parameters
    ----------
    pid
        Process id.

    Returns
    -------
    Identity or None
        None when there is no such process, or only what is left of one (a zombie).
    """
    proc = Path("/proc/self/stat")
    if proc.exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()  # the name before may hold anything
        if fields[0] in "ZX":
            return None
        return Identity(pid=pid, start_time=int(fields[19]), boot_id=boot_id())
    started = _run("ps", "-p", str(pid), "-o", "lstart=")
    if not started:
        return None
    seconds = int(time.mktime(time.strptime(started, "%c")))
    return Identity(pid=pid, start_time=seconds, boot_id=boot_id())


def current_identity() -> Identity:
    """Return the identity of this process."""
    identity = identity_of(os.getpid())
    if identity is None:
        raise ServiceError("this process cannot see itself: is /proc mounted?")
    return identity


def process_info() -> ProcessInfo:
    """Return this process as a hello or welcome names it."""
    identity = current_identity()
    return ProcessInfo(pid=identity.pid, start_time=identity.start_time, uid=os.getuid())


def is_alive(identity: Identity) -> bool:
    """Say whether exactly this process still runs."""
    return identity_of(identity.pid) == identity


def is_stopped(identity: Identity) -> bool:
    """Say whether exactly this process has been stopped by a signal; only Linux tells."""
    try:
        text = Path(f"/proc/{identity.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] in "Tt" and is_alive(identity)


def signal_process(identity: Identity, number: signal.Signals) -> bool:
    """Send a signal to exactly this process.

    Parameters
    ----------
    identity
        Whom.
    number
        Which signal.

    Returns
    -------
    bool
        False when it has ended; no other process is ever signalled in its place.
    """
    try:
        if not hasattr(os, "pidfd_open"):
            if not is_alive(identity):
                return False
            os.kill(identity.pid, number)
            return True
        # a pidfd keeps its pid from being given to somebody else between look and act
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_for_exit(identity: Identity, timeout: float) -> bool:
    """Wait until exactly this process has ended.

    Parameters
    ----------
    identity
        Whom.
    timeout
        Longest wait in seconds.

    Returns
    -------
    bool
        Whether it has ended.
    """
    if not is_alive(identity):
        return True
    if not hasattr(os, "pidfd_open"):
        due = time.monotonic() + timeout
        wait = 0.005
        while is_alive(identity):
            if time.monotonic() >= due:
                return False
            time.sleep(wait)  # no system call waits for a process that is no child of ours
            wait = min(2 * wait, 0.2)
        return True
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(identity):
            return True
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(timeout * 1000))
    finally:
        os.close(descriptor)


class Closable(Protocol):
    """Something that holds a file of the kernel."""

    def close(self) -> None:
        """Let go of it."""


class EndpointLock:
    """The right to serve as one application on one port, for as long as the process lives.

    The kernel gives the lock up when the process ends, however it ends. The file stays, so the
    name of the server stays the same when it starts again.

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
        descriptor = _open_private(self.path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise self._in_use() from error
        previous = read_lock(self.path)
        self._descriptor = descriptor
        close_in_forked_children(self)
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
        return self._record

    def _leave_token(self, token: str) -> None:
        for left in self.token_path.parent.glob(f"{self.token_path.stem}.*.tmp"):
            left.unlink(missing_ok=True)  # of a holder that was killed here; the lock is ours now
        draft = self.token_path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token)
        draft.replace(self.token_path)

    def release(self) -> None:
        """Give the lock up; remove the token and socket files; twice is harmless."""
        if self._descriptor is None:
            return
        self.token_path.unlink(missing_ok=True)
        for kind in ("", ".data"):  # libzmq leaves them
            with contextlib.suppress(ServiceError):  # never what is not a socket of ours
                remove_socket_file(self.path.with_name(f"{self.app}-{self.port}{kind}.sock"))
        if self._record is not None:
            self._write(msgspec.structs.replace(self._record, identity=None, since=None))
        self.close()

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


def read_lock(path: Path) -> LockRecord | None:
    """Read what a lock file says.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    LockRecord or None
        None when the file is missing, not ours, or being written at this moment.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_uid != os.getuid():
            return None
        text = file.read(64 * 1024)
    try:
        return msgspec.json.decode(text, type=LockRecord)
    except msgspec.DecodeError:
        return None


def live_records(port: int) -> list[tuple[LockRecord, Identity]]:
    """Find the services of this user that say they serve on a port and are alive.

    Parameters
    ----------
    port
        Control port.

    Returns
    -------
    list
        Record and process of each; more than one only while one of them is failing to start.
    """
    found = []
    for path in sorted(runtime_dir().glob(f"*-{port}.lock")):
        record = read_lock(path)
        if record is not None and record.identity is not None and is_alive(record.identity):
            found.append((record, record.identity))
    return found


def has_server_key(port: int) -> bool:
    """Say whether a live service of this user on a port has keys."""
    return any(record.server_key for record, _ in live_records(port))


def read_token(port: int, app: str = "") -> str | None:
    """Find the owner token of the service on a port of this computer.

    Parameters
    ----------
    port
        Control port.
    app
        Application that serves there; empty takes whichever does.

    Returns
    -------
    str or None
        None when no live service of this user holds the port.
    """
    for record, _ in live_records(port):
        if app not in ("", record.app):
            continue
        try:
            return (runtime_dir() / f"{record.app}-{port}.token").read_text(encoding="ascii")
        except FileNotFoundError:
            continue  # it is stopping just now
    return None


def remove_socket_file(path: Path) -> None:
    """Remove a socket file that a server left; for the holder of its lock.

    Parameters
    ----------
    path
        The file; it may be missing.

    Raises
    ------
    ServiceError
        If it is not a socket, or not of this user.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.getuid():
        raise ServiceError(f"{path} is not a socket of this user: remove it")
    path.unlink()


_closed_in_children: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_in_forked_children(thing: Closable) -> None:
    """Keep what we hold from staying open in a child that `os.fork` makes of us.

    Parameters
    ----------
    thing
        Is closed in the child only. A lock held by a forked worker would outlive its server.
    """
    if not _closed_in_children:
        os.register_at_fork(after_in_child=_close_all)  # twice does no harm
    _closed_in_children.add(thing)


def _close_all() -> None:
    for thing in tuple(_closed_in_children):
        thing.close()


def _open_private(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceError(f"cannot open the lock file {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(descriptor)
        raise ServiceError(f"{path} is not a file of this user: remove it")
    return descriptor


def _run(*command: str) -> str:
    """Return what a system program prints, in its plain form; empty when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout.strip()
