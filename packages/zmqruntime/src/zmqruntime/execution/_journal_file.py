"""The journal as a file: its schema, its checks before it is touched, and its errors by name."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from zmqruntime.execution._errors import (
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalInUseError,
    JournalVersionError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SCHEMA", "connect", "explained", "inspect", "make_private", "migrate"]

SCHEMA = 1
"""Version of the tables below; a change of them adds a step to `_STEPS`."""

_MAGIC = b"SQLite format 3\0"
_BUSY_MS = 2000

_STEPS = {
    # from this version to the next
    0: """
        CREATE TABLE meta (
            schema INTEGER NOT NULL, server_id TEXT NOT NULL, epoch INTEGER NOT NULL,
            next_seq INTEGER NOT NULL, owner TEXT NOT NULL
        );
        CREATE TABLE executions (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, key TEXT,
            client TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
            retryable INTEGER NOT NULL, priority INTEGER NOT NULL, submitted REAL NOT NULL,
            started REAL, ended REAL, deadline REAL, expected INTEGER NOT NULL,
            reported INTEGER NOT NULL, bad INTEGER NOT NULL, events INTEGER NOT NULL,
            stopping TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
            traceback TEXT NOT NULL, units BLOB, result BLOB, payload BLOB NOT NULL
        );
        CREATE INDEX executions_state ON executions (state, seq);
        CREATE INDEX executions_client ON executions (client, seq);
        CREATE INDEX executions_ended ON executions (ended) WHERE ended IS NOT NULL;
        CREATE TABLE events (
            execution INTEGER NOT NULL REFERENCES executions (seq) ON DELETE CASCADE,
            seq INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL,
            PRIMARY KEY (execution, seq)
        ) WITHOUT ROWID;
        CREATE TABLE units (
            execution INTEGER NOT NULL REFERENCES executions (seq) ON DELETE CASCADE,
            unit TEXT NOT NULL, attempt INTEGER NOT NULL, ok INTEGER NOT NULL,
            message TEXT NOT NULL, value BLOB,
            PRIMARY KEY (execution, unit)
        );
        CREATE TABLE logs (
            execution INTEGER NOT NULL REFERENCES executions (seq) ON DELETE CASCADE,
            start INTEGER NOT NULL, text BLOB NOT NULL,
            PRIMARY KEY (execution, start)
        );
        CREATE TABLE results (
            client TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, reply BLOB NOT NULL,
            expires REAL NOT NULL, PRIMARY KEY (client, key)
        ) WITHOUT ROWID;
        CREATE INDEX results_expires ON results (expires);
        CREATE TABLE workers (
            pid INTEGER NOT NULL, start_time INTEGER NOT NULL, boot_id TEXT NOT NULL,
            PRIMARY KEY (pid, start_time)
        );
    """,
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what sqlite3 raises into errors that name the file and say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise JournalFullError(
                f"the journal {path} cannot be written ({error}): make room on its disk",
                path=path,
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _corrupt(path, str(error)) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise JournalInUseError(
                f"the journal {path} is being used by another program: {error}", path=path
            ) from error
        raise JournalError(f"the journal {path} cannot be used: {error}", path=path) from error


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file for any thread; the caller sees to it that only one uses it at a time."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_MS / 1000,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def inspect(path: Path) -> None:
    """Look at a file without changing it; one that is missing or empty is fine.

    Raises
    ------
    JournalCorruptError
        If it is no journal, or a damaged one.
    JournalVersionError
        If a newer version has written it.
    JournalError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be read: {error}", path=path) from error
    if not magic:
        return
    if magic != _MAGIC:
        raise _corrupt(path, "it does not begin as a database does")
    with explained(path), closing(connect(path, read_only=True)) as connection:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _corrupt(path, verdict)
        found = _version(connection)
    if found == 0:
        raise _corrupt(path, "it is a database of another program")
    if found > SCHEMA:
        raise JournalVersionError(
            f"the journal {path} has version {found}, and this program knows those up to "
            f"{SCHEMA}: use the newer program, or another file",
            path=path,
        )


def migrate(connection: sqlite3.Connection, *, server_id: str) -> None:
    """Bring the tables to the present version; inside a transaction."""
    version = _version(connection)
    while version < SCHEMA:
        for statement in _STEPS[version].split(";"):
            connection.execute(statement)
        version += 1
        if version == 1:
            connection.execute("INSERT INTO meta VALUES (1, ?, 0, 1, '')", (server_id,))
    connection.execute("UPDATE meta SET schema = ?", (SCHEMA,))


def make_private(path: Path) -> None:
    """Make the file, for this user only, where it is missing; SQLite's own files follow it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _version(connection: sqlite3.Connection) -> int:
    """Return the version of the tables, 0 when there are none of ours."""
    tables = {
        name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not {"meta", "executions"} <= tables:
        return 0
    (version,) = connection.execute("SELECT schema FROM meta").fetchone()
    return int(version)


def _corrupt(path: Path, why: str) -> JournalCorruptError:
    return JournalCorruptError(
        f"{path} is not a journal that can be trusted: {why}. It was left as it is; "
        "restore it from a copy, or name another file to begin anew",
        path=path,
    )
