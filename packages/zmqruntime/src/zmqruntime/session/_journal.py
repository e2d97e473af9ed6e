"""Journal: one SQLite file by which a session server remembers, so that clients can resume."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import ZmqRuntimeError
from zmqruntime.processes._identity import host_digest
from zmqruntime.session._resume import Delta
from zmqruntime.session._state import Entry, PropertyKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["ANSWERS_KEPT_S", "Journal", "JournalError", "Stored"]

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deltas (
    topic TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL,
    payload BLOB NOT NULL, intent TEXT, PRIMARY KEY (topic, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS properties (
    scope TEXT NOT NULL, target TEXT NOT NULL, key TEXT NOT NULL,
    value BLOB NOT NULL, version INTEGER NOT NULL, client TEXT NOT NULL,
    PRIMARY KEY (scope, target, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    kind TEXT NOT NULL, client TEXT NOT NULL, key TEXT NOT NULL,
    answer BLOB NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (kind, client, key)) WITHOUT ROWID;
"""
ANSWERS_KEPT_S = 600.0
"""How long a repeat of an intent or of an idempotency key gets the answer of the first."""

_FORMAT = 1
_PRUNE_EVERY = 256  # writes between two looks at what is too old


class JournalError(ZmqRuntimeError, OSError):
    """The journal of a session server cannot be opened; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was done for a client: the answer to its intent or command.

    Attributes
    ----------
    kind
        ``state``, or ``command`` with the name of the command.
    client
        Whose it was.
    key
        Intent id or idempotency key.
    answer
        JSON text.
    expires
        Seconds since the epoch.
    """

    kind: str
    client: str
    key: str
    answer: bytes
    expires: float


class Journal:
    """Epoch, key, deltas, values and answers of a session server, in one file.

    Parameters
    ----------
    path
        File, made with mode 0600 if it is not there; None keeps everything in memory.
    wall
        Seconds since the epoch.

    Raises
    ------
    JournalError
        If the file cannot be opened, is in use by another server, or is no journal.

    Notes
    -----
    What one change leaves behind is one transaction, committed before anybody is told of it, so
    a killed server has told nobody of what its successor does not know. Commits survive the end
    of the process, not of the machine: after a reboot without a clean end the epoch moves on and
    clients begin with a baseline.

    Writing that fails later (a full disk) does not stop the sessions: `failed` becomes true,
    `on_failure` is called once, and from then on nothing is written.
    """

    def __init__(self, path: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self.failed = False
        self.on_failure: Callable[[str], object] = lambda _reason: None
        self._wall = wall
        self._writes = 0
        self._closed = False
        try:
            if path is not None:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            self._db = sqlite3.connect(
                ":memory:" if path is None else path,
                isolation_level=None,
                check_same_thread=False,
                timeout=0.5,
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
            raise JournalError(
                f"cannot use {path} as the journal of sessions: {error}; is another server using "
                "it, or is it another kind of file?"
            ) from error

    def _prepare(self) -> None:
        # Exclusive: a second server on the same file would hand out the same numbers.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if int(meta.get("format", _FORMAT)) != _FORMAT:
            raise ValueError(f"its format is {int(meta['format'])}, expected {_FORMAT}")
        boot = host_digest()
        self.key = bytes(meta.get("key") or secrets.token_bytes(32))
        self.epoch = int(meta.get("epoch", secrets.randbelow(2**20) + 1))
        self.version = int(meta.get("version", 0))
        self.resumed = "epoch" in meta
        if self.resumed and not int(meta.get("clean", 0)) and meta.get("boot") != boot:
            logger.warning("%s was not closed before the last reboot: a new epoch", self.path)
            self.epoch += 1
            self._db.execute("DELETE FROM deltas")
        values = {
            "format": _FORMAT,
            "key": self.key,
            "epoch": self.epoch,
            "boot": boot,
            "clean": 0,
            "version": self.version,
        }
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        self._db.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Commit what the block writes, all or nothing; a failure to is reported, not raised."""
        if self.failed:
            yield
            return
        self._try(lambda: self._db.execute("BEGIN IMMEDIATE"))
        try:
            yield
        except BaseException:
            self._try(lambda: self._db.execute("ROLLBACK"))
            raise
        self._writes += 1
        if self._writes % _PRUNE_EVERY == 0:
            now = self._wall()
            self._execute("DELETE FROM answers WHERE expires < ?", (now,))
        self._try(lambda: self._db.execute("COMMIT"))

    def deltas(self, topic: str) -> list[Delta]:
        """Read the deltas of a topic, in order."""
        return [
            Delta(seq=seq, time=time_, payload=bytes(payload), intent_id=intent)
            for seq, time_, payload, intent in self._db.execute(
                "SELECT seq, time, payload, intent FROM deltas WHERE topic = ? ORDER BY seq",
                (topic,),
            )
        ]

    def properties(self) -> list[tuple[PropertyKey, Entry]]:
        """Read what was set."""
        return [
            ((scope, target, key), Entry(msgspec.json.decode(value), version, client))
            for scope, target, key, value, version, client in self._db.execute(
                "SELECT scope, target, key, value, version, client FROM properties"
            )
        ]

    def answer(self, kind: str, client: str, key: str) -> bytes | None:
        """Return what was answered, unless it is too long ago."""
        query = "SELECT answer FROM answers WHERE kind=? AND client=? AND key=? AND expires>=?"
        try:  # also when nothing can be written any more
            found = self._db.execute(query, (kind, client, key, self._wall())).fetchone()
        except sqlite3.Error as error:  # what is asked again may then be done again: say so
            self._fail(error)
            return None
        return None if found is None else bytes(found[0])

    def write_delta(self, topic: str, delta: Delta, *, oldest: int) -> None:
        """Keep a delta, and let go of those of its topic before `oldest`."""
        self._execute(
            "INSERT OR REPLACE INTO deltas VALUES (?, ?, ?, ?, ?)",
            (topic, delta.seq, delta.time, delta.payload, delta.intent_id),
        )
        self._execute("DELETE FROM deltas WHERE topic = ? AND seq < ?", (topic, oldest))

    def write_property(self, property_: PropertyKey, entry: Entry) -> None:
        """Keep a value and its version."""
        value = msgspec.json.encode(entry.value)
        self._execute(
            "INSERT OR REPLACE INTO properties VALUES (?, ?, ?, ?, ?, ?)",
            (*property_, value, entry.version, entry.client),
        )
        self._execute("UPDATE meta SET value = ? WHERE name = 'version'", (entry.version,))

    def write_answer(self, stored: Stored) -> None:
        """Keep an answer."""
        row = (stored.kind, stored.client, stored.key, stored.answer, stored.expires)
        self._execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def start_epoch(self, epoch: int) -> None:
        """Begin a numbering; deltas of before are let go."""
        self._execute("DELETE FROM deltas", ())
        self._execute("UPDATE meta SET value = ? WHERE name = 'epoch'", (epoch,))

    def close(self) -> None:
        """Close the file; twice is harmless."""
        if self._closed:
            return
        self._closed = True
        with self.writing():
            self._execute("UPDATE meta SET value = ? WHERE name = 'clean'", (1,))
        self._db.close()

    def _execute(self, statement: str, values: tuple[object, ...]) -> None:
        self._try(lambda: self._db.execute(statement, values))

    def _try(self, write: Callable[[], object]) -> None:
        if self.failed:
            return
        try:
            write()
        except sqlite3.Error as error:
            self._fail(error)

    def _fail(self, error: sqlite3.Error) -> None:
        """Go on without the file from now on, and say so once."""
        if self.failed:
            return
        self.failed = True
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        logger.error("the journal %s cannot be used: %s", self.path, error)
        self.on_failure(str(error))
