"""Journal: one file in which every accepted job is kept, whatever happens to the server."""

from __future__ import annotations

import hashlib
import operator
import secrets
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._typed import from_json, from_msgpack
from zmqruntime.execution import _journal_file
from zmqruntime.execution._errors import JournalInUseError
from zmqruntime.execution._journal_reader import FIELDS, record_of
from zmqruntime.processes._identity import Identity, current_identity, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from zmqruntime.execution._record import JobEvent, JobRecord, NewJob, UnitOutcome

__all__ = ["History", "Journal", "Known", "digest_of"]

_TERMINAL = "('completed', 'failed', 'cancelled', 'lost')"
_DAY_S = 86_400.0
_MOST_KEYS = 100_000
_RESERVED = 100

_CHANGING = (
    "state", "attempt", "retryable", "started", "ended", "reported", "bad", "events", "stopping",
    "code", "message", "traceback",
)  # fmt: skip
"""Columns of a record that change; writing the others again would write their indexes again."""

_ACCEPT = (
    f"INSERT INTO executions ({', '.join(FIELDS)}, units, payload) "
    f"VALUES ({', '.join('?' * (len(FIELDS) + 2))})"
)
_UPDATE = f"UPDATE executions SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE seq = ?"
_UPDATE_WITH_RESULT = _UPDATE.replace(" WHERE", ", result = ? WHERE")

_record_values = operator.attrgetter(*FIELDS)
_changing_values = operator.attrgetter(*_CHANGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much of what is over is kept.

    Parameters
    ----------
    jobs
        Most jobs that are over; the oldest are forgotten first, with all that belongs to them.
    days
        Longest time for which such a job, and the answer to an idempotency key, is kept.
    events
        Most events of one job; states are kept, the oldest progress is forgotten.
    log_bytes
        Most bytes of what one job has written; the beginning is forgotten.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    jobs: int = 10_000
    days: float = 30.0
    events: int = 1000
    log_bytes: int = 256 * 1024

    def __post_init__(self) -> None:
        for name in ("jobs", "days", "events", "log_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected more than 0")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What an idempotency key stands for."""

    id: str
    seq: int
    digest: bytes


class Journal:
    """The file of jobs; one thread writes it, through one object at a time.

    Parameters
    ----------
    path
        The file; made, for this user only, where it is missing.
    history
        How much is kept.
    clock
        Seconds since the epoch. Nothing but the age of what is over depends on it.

    Raises
    ------
    JournalCorruptError, JournalVersionError
        If the file is damaged or too new; it was not changed.
    JournalInUseError
        If a server that is alive has it.
    JournalFullError
        If it cannot be written.
    JournalError
        If it cannot be opened.

    Notes
    -----
    SQLite in WAL mode. What is committed as durable is on the disk before `transaction` ends
    (``synchronous=FULL``); the rest survives the end of the process, not that of the computer.
    """

    def __init__(
        self,
        path: Path,
        *,
        history: History | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.history = history or History()
        self._clock = clock
        self.server_id = ""
        """Name of the server that has this journal, the same after every start."""
        self.epoch = 0
        """How often it has been opened, this time included."""
        self._next_seq = self._reserved_seq = 1
        self._durable = True
        _journal_file.inspect(path)
        with _journal_file.explained(path):
            try:
                _journal_file.make_private(path)
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
            self._connection = _journal_file.connect(path)
            try:
                self._open()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA journal_size_limit = 67108864")
        run("BEGIN IMMEDIATE")
        try:
            _journal_file.migrate(self._connection, server_id=secrets.token_hex(8))
            (owner,) = run("SELECT owner FROM meta").fetchone()
            self._refuse_if_alive(owner)
            mine = msgspec.json.encode(current_identity()).decode()
            run("UPDATE meta SET owner = ?, epoch = epoch + 1", (mine,))
            self.server_id, self.epoch, self._next_seq = run(
                "SELECT server_id, epoch, next_seq FROM meta"
            ).fetchone()
            self._reserved_seq = self._next_seq
            run("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _refuse_if_alive(self, owner: str) -> None:
        if not owner:
            return
        identity = from_json(owner, Identity)
        if is_alive(identity):
            raise JournalInUseError(
                f"the journal {self.path} belongs to process {identity.pid}, which is alive: "
                "stop it, or name another file",
                path=self.path,
            )

    def close(self) -> None:
        """Close the file and let others have it; twice is harmless."""
        with suppress(sqlite3.Error):  # closed already, or the disk is full: the owner ends anyway
            self._connection.execute("UPDATE meta SET owner = '', next_seq = ?", (self._next_seq,))
        self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[None]:
        """Write all of what the block writes, or nothing of it.

        Parameters
        ----------
        durable
            Wait until it is on the disk.

        Raises
        ------
        JournalFullError
            If there is no room; nothing was written.
        JournalError
            If it failed otherwise; nothing was written.
        """
        run = self._connection.execute
        reserved = self._reserved_seq
        with _journal_file.explained(self.path):
            try:
                if durable is not self._durable:
                    run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    self._durable = durable
                run("BEGIN IMMEDIATE")
                yield
                if self._next_seq > reserved:
                    # ahead, so that not every job has to write it; a crash leaves the rest unused
                    reserved = self._next_seq + _RESERVED
                    run("UPDATE meta SET next_seq = ?", (reserved,))
                run("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        self._reserved_seq = reserved

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # some failures have rolled back already
            self._connection.execute("ROLLBACK")

    def next_seq(self) -> int:
        """Give the next place in the order of acceptance; one that is not used stays unused."""
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        return seq

    def accept(self, record: JobRecord, new: NewJob) -> None:
        """Take a new job in; inside a transaction."""
        payload = msgspec.msgpack.encode(new.payload)
        self._connection.execute(_ACCEPT, (*_record_values(record), _packed(new.units), payload))
        if record.key is not None:
            known = Known(id=record.id, seq=record.seq, digest=digest_of(new))
            self._connection.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)",
                (
                    record.client,
                    record.key,
                    known.digest,
                    msgspec.msgpack.encode(known),
                    self._clock() + self._kept_s,
                ),
            )

    def update(self, record: JobRecord, *, result: bytes | None = None) -> None:
        """Write what has become of a job; inside a transaction."""
        values = _changing_values(record)
        if result is None:
            self._connection.execute(_UPDATE, (*values, record.seq))
        else:
            self._connection.execute(_UPDATE_WITH_RESULT, (*values, result, record.seq))

    def add_events(self, seq: int, events: Sequence[JobEvent]) -> None:
        """Keep events of a job; inside a transaction."""
        run = self._connection
        run.executemany(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)",
            [(seq, e.seq, e.time, e.kind, msgspec.json.encode(e).decode()) for e in events],
        )
        if max(e.seq for e in events) <= self.history.events:
            return  # they are numbered, so there cannot be more
        (count,) = run.execute("SELECT count(*) FROM events WHERE execution = ?", (seq,)).fetchone()
        if count > self.history.events:
            run.execute(
                "DELETE FROM events WHERE execution = ?1 AND seq IN (SELECT seq FROM events "
                "WHERE execution = ?1 AND kind <> 'state' ORDER BY seq LIMIT ?2)",
                (seq, count - self.history.events),
            )

    def add_units(self, seq: int, attempt: int, outcomes: Sequence[UnitOutcome]) -> None:
        """Keep what was reported of units; a later word replaces an earlier one."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO units (execution, unit, attempt, ok, message, value) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [
                (seq, o.unit, attempt, o.ok, o.message, _packed(o.value) if o.ok else None)
                for o in outcomes
            ],
        )

    def add_log(self, seq: int, start: int, text: bytes) -> None:
        """Keep what a job has written; inside a transaction."""
        most = self.history.log_bytes
        if len(text) > most:
            start, text = start + len(text) - most, text[-most:]
        self._connection.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?)", (seq, start, text))
        self._connection.execute(
            "DELETE FROM logs WHERE execution = ? AND start + length(text) <= ?",
            (seq, start + len(text) - most),
        )

    def note_worker(self, identity: Identity) -> None:
        """Remember a process that is to be stopped if this server vanishes."""
        self._connection.execute(
            "INSERT OR REPLACE INTO workers VALUES (?, ?, ?)",
            (identity.pid, identity.start_time, identity.boot_id),
        )

    def forget_worker(self, identity: Identity) -> None:
        """Forget a process that has ended."""
        self._connection.execute(
            "DELETE FROM workers WHERE pid = ? AND start_time = ?",
            (identity.pid, identity.start_time),
        )

    def workers(self) -> list[Identity]:
        """Return the processes that were not forgotten."""
        rows = self._connection.execute("SELECT pid, start_time, boot_id FROM workers").fetchall()
        return [Identity(pid=pid, start_time=start, boot_id=boot) for pid, start, boot in rows]

    def known(self, client: str, key: str) -> Known | None:
        """Say what an idempotency key of a client stands for."""
        row = self._connection.execute(
            "SELECT reply FROM results WHERE client = ? AND key = ?", (client, key)
        ).fetchone()
        return None if row is None else from_msgpack(row[0], Known)

    def unfinished(self) -> list[JobRecord]:
        """Return the jobs that are not over, in the order of acceptance."""
        rows = self._connection.execute(
            f"SELECT {', '.join(FIELDS)} FROM executions WHERE state NOT IN {_TERMINAL} "
            "ORDER BY seq"
        ).fetchall()
        return [record_of(row) for row in rows]

    def record(self, seq: int) -> JobRecord | None:
        """Return one job."""
        row = self._connection.execute(
            f"SELECT {', '.join(FIELDS)} FROM executions WHERE seq = ?", (seq,)
        ).fetchone()
        return None if row is None else record_of(row)

    def payload(self, seq: int) -> bytes:
        """Return the payload of a job, in msgpack."""
        (payload,) = self._connection.execute(
            "SELECT payload FROM executions WHERE seq = ?", (seq,)
        ).fetchone()
        return bytes(payload)

    def units(self, seq: int) -> tuple[str, ...] | None:
        """Return the units that a job must report, or None."""
        (units,) = self._connection.execute(
            "SELECT units FROM executions WHERE seq = ?", (seq,)
        ).fetchone()
        return None if units is None else from_msgpack(units, tuple[str, ...])

    def outcomes(self, seq: int) -> dict[str, bool]:
        """Return which units of a job were reported, and whether with success."""
        rows = self._connection.execute("SELECT unit, ok FROM units WHERE execution = ?", (seq,))
        return {unit: bool(ok) for unit, ok in rows}

    def log_size(self, seq: int) -> int:
        """Return how many bytes a job has written."""
        (size,) = self._connection.execute(
            "SELECT max(start + length(text)) FROM logs WHERE execution = ?", (seq,)
        ).fetchone()
        return size or 0

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        return dict(
            self._connection.execute("SELECT state, count(*) FROM executions GROUP BY state")
        )

    def prune(self) -> dict[str, int]:
        """Forget what is too old or too much; inside a transaction.

        Returns
        -------
        dict[str, int]
            How many jobs in each state were forgotten.
        """
        oldest = self._clock() - self._kept_s
        run = self._connection.execute
        (count,) = run(f"SELECT count(*) FROM executions WHERE state IN {_TERMINAL}").fetchone()
        wanted = "SELECT seq, state, ended, client, key FROM executions WHERE state IN"
        gone = run(
            f"{wanted} {_TERMINAL} ORDER BY seq LIMIT ?", (max(0, count - self.history.jobs),)
        ).fetchall()
        gone += run(f"{wanted} {_TERMINAL} AND ended < ?", (oldest,)).fetchall()
        forgotten = {seq: state for seq, state, *_ in gone}
        self._prolong_keys((row[2] or self._clock(), row[3], row[4]) for row in gone)
        self._connection.executemany(
            "DELETE FROM executions WHERE seq = ?", [(seq,) for seq in forgotten]
        )
        self._prolong_keys(self._keys_of_jobs())
        run("DELETE FROM results WHERE expires < ?", (self._clock(),))
        run(
            "DELETE FROM results WHERE (client, key) IN (SELECT client, key FROM results "
            "ORDER BY expires DESC LIMIT -1 OFFSET ?)",
            (_MOST_KEYS,),
        )
        counts: dict[str, int] = {}
        for state in forgotten.values():
            counts[state] = counts.get(state, 0) + 1
        return counts

    @property
    def _kept_s(self) -> float:
        return self.history.days * _DAY_S

    def _keys_of_jobs(self) -> Iterator[tuple[float, str, str]]:
        """Go through the keys whose time is over but whose job is still there."""
        run = self._connection.execute
        rows = run(
            "SELECT client, key, reply FROM results WHERE expires < ?", (self._clock(),)
        ).fetchall()
        for client, key, reply in rows:
            seq = from_msgpack(reply, Known).seq
            row = run("SELECT ended FROM executions WHERE seq = ?", (seq,)).fetchone()
            if row is not None:
                yield row[0] or self._clock(), client, key

    def _prolong_keys(self, ends: Iterable[tuple[float, str, str | None]]) -> None:
        """See to it that a key is answered for as long after the end of its job as a job is kept.

        Done before they are forgotten, which is rare, and not at the end of each job.
        """
        self._connection.executemany(
            "UPDATE results SET expires = max(expires, ?) WHERE client = ? AND key = ?",
            ((ended + self._kept_s, client, key) for ended, client, key in ends),
        )


def digest_of(new: NewJob) -> bytes:
    """Return a fingerprint of what is to be done, by which a reused key is noticed."""
    what = msgspec.msgpack.encode([new.kind, new.payload, new.units], order="deterministic")
    return hashlib.blake2b(what, digest_size=16).digest()


def _packed(value: object) -> bytes | None:
    return None if value is None else msgspec.msgpack.encode(value)
