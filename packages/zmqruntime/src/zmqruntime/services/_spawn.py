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

from zmqruntime._errors import ServiceStartError
from zmqruntime._typed import from_json
from zmqruntime.control._handshake import Ports
from zmqruntime.loop._forks import close_in_forked_children
from zmqruntime.processes._identity import identity_of, wait_for_exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

__all__ = [
    "Inherited",
    "Readiness",
    "ServiceProcess",
    "launch_service",
    "log_tail",
    "start_service",
]

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

    Made by `launch_service` or `start_service`.

    Attributes
    ----------
    command
        Command line.
    identity
        Which process it is.
    readiness
        What it said when it was ready; None before.
    log_path
        Where its output goes.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        command: tuple[str, ...],
        log_path: Path,
        ready_pipe: int,
        owner_pipe: int | None,
    ) -> None:
        self._process = process
        self._ready_pipe: int | None = ready_pipe
        self._owner_pipe = owner_pipe
        self.command = command
        # a child that was not waited for keeps its entry, so it can be read even if it ended
        self.identity = identity_of(process.pid)
        self.readiness: Readiness | None = None
        self.log_path = log_path
        close_in_forked_children(self)

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

    def wait_ready(self, timeout: float) -> Readiness:
        """Wait until the service says that it can be used.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        Readiness
            What it said.

        Raises
        ------
        ServiceStartError
            If it ended, or was not ready in time; with the end of its log. Nothing of it is
            left running.
        """
        if self.readiness is not None:
            return self.readiness
        if self._ready_pipe is None:
            raise ServiceStartError(
                f"{' '.join(self.command)} was stopped before it was ready",
                step="wait",
                command=self.command,
            )
        heard = _read_readiness(self._ready_pipe, time.monotonic() + timeout)
        if isinstance(heard, Readiness):
            os.close(self._ready_pipe)
            self._ready_pipe = None
            self.readiness = heard
            return heard
        if heard == "ended":
            what = self._last_words()
        elif heard == "late":
            what = f"was not ready within {timeout:g} s"
        else:
            what = heard
        self.kill()
        tail = log_tail(self.log_path)
        raise ServiceStartError(
            f"{' '.join(self.command)} {what}; the end of its log {self.log_path}:\n"
            f"{tail or '(empty)'}",
            step="wait",
            command=self.command,
            log_tail=tail,
        )

    def _last_words(self) -> str:
        # the pipe closes just before the process is gone; only then its status is known
        if self.identity is None or wait_for_exit(self.identity, 2.0):
            return f"ended with exit status {self._process.wait()} before it was ready"
        return "closed its readiness pipe without being ready"

    def stop(self, timeout: float = 5.0) -> int:
        """Ask it to end, wait, and end it by force if it does not; twice is harmless.

        Parameters
        ----------
        timeout
            Longest wait in seconds before force.

        Returns
        -------
        int
            Its exit status, negative for a signal.
        """
        if self.alive:
            self._process.terminate()
            if self.identity is not None and not wait_for_exit(self.identity, timeout):
                logger.warning("%s ignores SIGTERM: it is killed", self.command[0])
        return self.kill()

    def kill(self) -> int:
        """End it by force, with its process group; harmless when it has ended.

        Returns
        -------
        int
            Its exit status, negative for a signal.
        """
        if self.alive:
            # it is our child and not waited for, so its pid and group are still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        self.close()
        return code

    def close(self) -> None:
        """Let go of the pipes; a service that is not persistent ends by itself then."""
        for descriptor in (self._ready_pipe, self._owner_pipe):
            if descriptor is not None:
                os.close(descriptor)
        self._ready_pipe = self._owner_pipe = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def launch_service(
    command: Sequence[str],
    *,
    log_path: Path,
    persistent: bool = False,
    env: Mapping[str, str] | None = None,
) -> ServiceProcess:
    """Start a service process in a process group of its own; do not wait for it.

    Parameters
    ----------
    command
        Program and arguments. The program serves with `ZMQServer`, which reports by itself.
    log_path
        File to which its output is added; made with mode 0600.
    persistent
        Let it live on when this process ends. Otherwise it ends within a second of it, however
        this process ends.
    env
        Variables to add to the environment.

    Returns
    -------
    ServiceProcess
        Running, perhaps not ready.

    Raises
    ------
    ServiceStartError
        If the program cannot be started.
    """
    words = tuple(command)
    ready_read, ready_write = os.pipe()
    owner_read, owner_write = (None, None) if persistent else os.pipe()
    theirs = [each for each in (ready_write, owner_read) if each is not None]
    ours = [each for each in (ready_read, owner_write) if each is not None]
    variables = {**os.environ, **(env or {}), _READY_FD: str(ready_write)}
    variables.pop(_OWNER_FD, None)
    if owner_read is not None:
        variables[_OWNER_FD] = str(owner_read)
    try:
        with _open_log(log_path) as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                pass_fds=theirs,
                start_new_session=True,
            )
    except OSError as error:
        for each in ours:
            os.close(each)
        raise ServiceStartError(
            f"cannot start {words[0]}: {error}", step="start", command=words
        ) from error
    finally:
        for each in theirs:
            os.close(each)
    return ServiceProcess(
        process,
        command=words,
        log_path=log_path,
        ready_pipe=ready_read,
        owner_pipe=owner_write,
    )


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
    command, log_path, persistent, env
        As for `launch_service`.
    timeout
        Longest wait in seconds.

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
    process = launch_service(command, log_path=log_path, persistent=persistent, env=env)
    process.wait_ready(timeout)
    return process


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
        return from_json(text.partition(b"\n")[0], Readiness)
    except msgspec.DecodeError as error:
        return f"wrote what is no readiness: {error}"
