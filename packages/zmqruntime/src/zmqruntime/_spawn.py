"""Service processes of our own: started, heard from, stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import msgspec

from zmqruntime import _owner
from zmqruntime._errors import ServiceStartError
from zmqruntime._handshake import Ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

__all__ = ["Inherited", "Readiness", "ServiceProcess", "log_tail", "start_service"]

logger = logging.getLogger(__name__)

_READY_FD = "ZMQRUNTIME_READY_FD"
_OWNER_FD = "ZMQRUNTIME_OWNER_FD"
_TAIL_BYTES = 4096
_TAIL_LINES = 20


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """The one line that a service writes when it can be used."""

    app: str
    pid: int
    ports: Ports


@dataclass(slots=True)
class Inherited:
    """The two pipes that a service gets from the process that started it.

    Attributes
    ----------
    ready
        Descriptor to write the readiness to, or None.
    owner
        Descriptor that reads as ended when the starting process is gone, or None.
    """

    ready: int | None = None
    owner: int | None = None

    @classmethod
    def take(cls) -> Self:
        """Find the pipes in the environment, and take them out so that no child finds them."""
        found = []
        for name in (_READY_FD, _OWNER_FD):
            text = os.environ.pop(name, "")
            descriptor = int(text) if text.isdecimal() else None
            if descriptor is not None:
                try:
                    os.set_inheritable(descriptor, False)
                except OSError:  # the variable came through a process that closed the pipe
                    descriptor = None
            found.append(descriptor)
        return cls(*found)

    def report(self, readiness: Readiness) -> None:
        """Write the readiness, once; nobody listening is no failure."""
        if self.ready is None:
            return
        descriptor, self.ready = self.ready, None
        try:
            os.write(descriptor, msgspec.json.encode(readiness) + b"\n")
        except BrokenPipeError:
            logger.info("the process that started this one has ended before it was ready")
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close both pipes; twice is harmless."""
        for descriptor in (self.ready, self.owner):
            if descriptor is not None:
                os.close(descriptor)
        self.ready = self.owner = None


class ServiceProcess:
    """A service process that we started, and alone may kill.

    Made by `start_service`.

    Attributes
    ----------
    command
        Command line.
    identity
        Which process it is.
    readiness
        What it said when it was ready.
    log_path
        Where its output goes.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        command: tuple[str, ...],
        identity: _owner.Identity,
        readiness: Readiness,
        log_path: Path,
        owner_pipe: int | None,
    ) -> None:
        self._process = process
        self._owner_pipe = owner_pipe
        self.command = command
        self.identity = identity
        self.readiness = readiness
        self.log_path = log_path
        _owner.close_in_forked_children(self)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self, timeout: float = 5.0) -> int:
        """Ask it to end, wait, and end it by force if it does not; twice is harmless.

        Parameters
        ----------
        timeout
            Longest wait in seconds before force; force takes its whole process group.

        Returns
        -------
        int
            Its exit status, negative for a signal.
        """
        if self.alive:
            self._process.terminate()
            if not _owner.wait_for_exit(self.identity, timeout):
                logger.warning("%s ignores SIGTERM: it is killed", self.command[0])
                # it is our child and not waited for, so its pid and group are still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
        self.close()
        return self._process.wait()

    def close(self) -> None:
        """Let go of the pipe; a service that is not persistent ends by itself then."""
        if self._owner_pipe is not None:
            descriptor, self._owner_pipe = self._owner_pipe, None
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def start_service(
    command: Sequence[str],
    *,
    log_path: Path,
    timeout: float = 30.0,
    persistent: bool = False,
    env: Mapping[str, str] | None = None,
) -> ServiceProcess:
    """Start a service process and wait until it says that it is ready.

    Parameters
    ----------
    command
        Program and arguments. The program serves with `ZMQServer`, which reports by itself.
    log_path
        File to which its output is added; made with mode 0600.
    timeout
        Longest wait in seconds.
    persistent
        Let it live on when this process ends. Otherwise it ends within a second of it, however
        this process ends.
    env
        Variables to add to the environment.

    Returns
    -------
    ServiceProcess
        Ready for use.

    Raises
    ------
    ServiceStartError
        If it could not be started, ended, or was not ready in time; with the end of its log.
        Nothing of it is left running.
    """
    words = tuple(command)
    due = time.monotonic() + timeout
    ready_read, ready_write = os.pipe()
    owner_read, owner_write = (None, None) if persistent else os.pipe()
    inherited = [each for each in (ready_write, owner_read) if each is not None]
    variables = {**os.environ, **(env or {}), _READY_FD: str(ready_write)}
    variables.pop(_OWNER_FD, None)
    if owner_read is not None:
        variables[_OWNER_FD] = str(owner_read)
    process = None
    try:
        with _open_log(log_path) as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                pass_fds=inherited,
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceStartError(
            f"cannot start {words[0]}: {error}", step="start", command=words
        ) from error
    finally:
        for each in inherited:
            os.close(each)
        if process is None:
            os.close(ready_read)
            if owner_write is not None:
                os.close(owner_write)
    identity = _owner.identity_of(process.pid)
    try:
        readiness = _read_readiness(ready_read, due)
    finally:
        os.close(ready_read)
    if identity is not None and isinstance(readiness, Readiness):
        return ServiceProcess(
            process,
            command=words,
            identity=identity,
            readiness=readiness,
            log_path=log_path,
            owner_pipe=owner_write,
        )
    if owner_write is not None:
        os.close(owner_write)
    raise _failure(process, words, log_path, timeout, str(readiness))


def log_tail(path: Path) -> str:
    """Return the last lines of a log, at most 20.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        Empty when there is no such file.
    """
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")


def _read_readiness(descriptor: int, due: float) -> Readiness | str:
    """Read one line, or say why there is none."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    text = b""
    while b"\n" not in text:
        left = due - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            return "late"
        chunk = os.read(descriptor, 4096)
        if not chunk:
            return "ended"
        text += chunk
    try:
        return msgspec.json.decode(text.partition(b"\n")[0], type=Readiness)
    except msgspec.DecodeError as error:
        return f"wrote what is no readiness: {error}"


def _failure(
    process: subprocess.Popen[bytes],
    words: tuple[str, ...],
    log_path: Path,
    timeout: float,
    reason: str,
) -> ServiceStartError:
    """End what is left of a service that did not come up, and say what happened."""
    if reason == "ended":
        # the pipe closes just before the process is gone; only then its status is known
        try:
            code = process.wait(timeout=2.0)
            what = f"ended with exit status {code} before it was ready"
        except subprocess.TimeoutExpired:
            what = "closed its readiness pipe without being ready"
    elif reason == "late":
        what = f"was not ready within {timeout:g} s"
    else:
        what = reason
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    tail = log_tail(log_path)
    return ServiceStartError(
        f"{' '.join(words)} {what}; the end of its log {log_path}:\n{tail or '(empty)'}",
        step="start",
        command=words,
        log_tail=tail,
    )
