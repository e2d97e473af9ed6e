"""LockRecord: which services of this user say that they serve, and which of them are alive."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._typed import from_json
from zmqruntime.processes._identity import Identity, is_alive
from zmqruntime.processes._runtime_dir import runtime_dir

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LockRecord", "live_records", "local_server_key", "read_lock", "read_token"]


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
        return from_json(text, LockRecord)
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
    folder = runtime_dir()
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - hundreds of names: glob takes long
        record = read_lock(folder / name) if name.endswith(f"-{port}.lock") else None
        if record is not None and record.identity is not None and is_alive(record.identity):
            found.append((record, record.identity))
    return found


def local_server_key(port: int) -> str:
    """Find the public key of a live service of this user on a port; empty without one."""
    return next((record.server_key for record, _ in live_records(port) if record.server_key), "")


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
