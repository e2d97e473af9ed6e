"""Identity: a process, named so that no later one is taken for it."""

from __future__ import annotations

import functools
import hashlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Annotated

import msgspec

from zmqruntime._errors import ServiceError

__all__ = [
    "Identity",
    "current_identity",
    "host_digest",
    "identity_of",
    "is_alive",
    "is_stopped",
    "signal_process",
    "wait_for_exit",
]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process, named so that no later process can be taken for it.

    `start_time` is in clock ticks since boot on Linux; elsewhere in seconds since the epoch.
    """

    pid: Annotated[int, msgspec.Meta(ge=1)]
    start_time: int
    boot_id: str


@functools.cache  # no process outlives its boot
def boot_id() -> str:
    """Return what this boot of this computer is called."""
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    return _run("sysctl", "-n", "kern.bootsessionuuid")


@functools.cache
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
    return _identity_of_self(os.getpid())


@functools.lru_cache(maxsize=1)  # a forked child is another process
def _identity_of_self(pid: int) -> Identity:
    identity = identity_of(pid)
    if identity is None:
        raise ServiceError("this process cannot see itself: is /proc mounted?")
    return identity


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


def _run(*command: str) -> str:
    """Return what a system program prints, in its plain form; empty when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout.strip()
