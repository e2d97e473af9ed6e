"""JournalReader: what the journal says, for any thread, while another one writes it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._typed import from_json
from zmqruntime.execution._journal_file import connect, explained
from zmqruntime.execution._record import JobEvent, JobRecord, UnitOutcome
from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FIELDS", "JournalReader", "LogPiece", "record_of"]

FIELDS = tuple(JobRecord.__struct_fields__)
"""Columns of a record, in the order in which `record_of` takes them."""

_COLUMNS = ", ".join(FIELDS)
_IN_LIST = ", ".join("'' AS traceback" if name == "traceback" else name for name in FIELDS)
_MOST_LISTED = 500
_MOST_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPiece:
    """A piece of what a job has written.

    Attributes
    ----------
    start
        Which byte of the whole it begins with; later than was asked for where older text is gone.
    text
        The bytes.
    size
        How many bytes were written in all.
    """

    start: int
    text: bytes
    size: int


class JournalReader:
    """What the journal says.

    Parameters
    ----------
    path
        The file; a `Journal` has opened it before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with explained(path):
            self._connection = connect(path, read_only=True)

    def close(self) -> None:
        """Close the file; twice is harmless."""
        with self._lock:
            self._connection.close()

    def record(self, id_: str) -> JobRecord | None:
        """Return a job, or None when it is not there any more, or never was."""
        rows = self._all(f"SELECT {_COLUMNS} FROM executions WHERE id = ?", id_)
        return record_of(rows[0]) if rows else None

    def payload(self, seq: int) -> bytes:
        """Return the payload of a job that is there, in msgpack."""
        ((packed,),) = self._all("SELECT payload FROM executions WHERE seq = ?", seq)
        return bytes(packed)

    def page(
        self,
        *,
        before: int | None = None,
        limit: int = 50,
        state: ExecutionStatus | None = None,
        client: str | None = None,
    ) -> list[JobRecord]:
        """List jobs, the last accepted first.

        Parameters
        ----------
        before
            Only those accepted before this number; None begins with the last.
        limit
            Most records, at most 500.
        state, client
            Only those in this state, and of this client.

        Returns
        -------
        list[JobRecord]
            Without tracebacks.
        """
        conditions, values = ["seq < ?"], [2**62 if before is None else before]
        wanted: list[Any] = [*values]
        if state is not None:
            conditions.append("state = ?")
            wanted.append(state.value)
        if client is not None:
            conditions.append("client = ?")
            wanted.append(client)
        wanted.append(max(1, min(limit, _MOST_LISTED)))
        text = (
            f"SELECT {_IN_LIST} FROM executions WHERE {' AND '.join(conditions)} "
            "ORDER BY seq DESC LIMIT ?"
        )
        return [record_of(row) for row in self._all(text, *wanted)]

    def events(self, seq: int, *, after: int = 0, limit: int = 500) -> list[JobEvent]:
        """Return the events of a job that were kept, in order.

        Parameters
        ----------
        seq
            `JobRecord.seq` of the job.
        after
            Number of the last event that is not wanted.
        limit
            Most events.
        """
        rows = self._all(
            "SELECT data FROM events WHERE execution = ? AND seq > ? ORDER BY seq LIMIT ?",
            seq,
            after,
            limit,
        )
        return [from_json(data, JobEvent) for (data,) in rows]

    def units(
        self, seq: int, *, after: int = 0, limit: int = 500, most_bytes: int = 1 << 20
    ) -> tuple[list[UnitOutcome], int | None]:
        """Return what was reported of the units of a job, in the order in which it came.

        Parameters
        ----------
        seq
            `JobRecord.seq` of the job.
        after
            Where to go on: what the last call returned, 0 at first.
        limit, most_bytes
            Most units, and about how many bytes of them.

        Returns
        -------
        tuple[list[UnitOutcome], int | None]
            The units, and where to go on; None at the end.
        """
        rows = self._all(
            "SELECT rowid, unit, ok, message, value FROM units "
            "WHERE execution = ? AND rowid > ? ORDER BY rowid LIMIT ?",
            seq,
            after,
            limit,
        )
        found: list[UnitOutcome] = []
        total = 0
        for rowid, unit, ok, message, value in rows:
            decoded = None if value is None else msgspec.msgpack.decode(value)
            found.append(UnitOutcome(unit=unit, ok=bool(ok), value=decoded, message=message))
            total += len(value or b"")
            if total >= most_bytes:
                return found, rowid
        return found, rows[-1][0] if len(rows) == limit else None

    def result(self, seq: int) -> bytes | None:
        """Return the result of a job, in msgpack; None when there is none."""
        rows = self._all("SELECT result FROM executions WHERE seq = ?", seq)
        return rows[0][0] if rows else None

    def log(self, seq: int, *, start: int = 0, most_bytes: int = _MOST_PIECE) -> LogPiece:
        """Return a piece of what a job has written.

        Parameters
        ----------
        seq
            `JobRecord.seq` of the job.
        start
            First byte that is wanted.
        most_bytes
            Most bytes, at most 64 KiB.
        """
        most_bytes = max(1, min(most_bytes, _MOST_PIECE))
        # the row that holds `start` begins before it, or it is gone and the next one is wanted
        rows = self._all(
            "SELECT start, text FROM logs WHERE execution = ?1 AND start + length(text) > ?2 "
            "AND start < max(?2, (SELECT min(start) FROM logs WHERE execution = ?1)) + ?3 "
            "ORDER BY start",
            seq,
            start,
            most_bytes,
        )
        ends = self._all(
            "SELECT start + length(text) FROM logs WHERE execution = ? ORDER BY start DESC LIMIT 1",
            seq,
        )
        size = ends[0][0] if ends else 0
        if not rows:
            return LogPiece(start=size, text=b"", size=size)
        first = max(start, rows[0][0])
        text = b"".join(text for _, text in rows)[first - rows[0][0] :][:most_bytes]
        return LogPiece(start=first, text=text, size=size)

    def _all(self, text: str, *values: object) -> Sequence[sqlite3.Row]:
        with self._lock, explained(self._path):
            return self._connection.execute(text, values).fetchall()


def record_of(row: Sequence[Any]) -> JobRecord:
    """Make a record of a row that has `FIELDS`."""
    fields = dict(zip(FIELDS, row, strict=True))
    fields["state"] = ExecutionStatus(fields["state"])
    fields["retryable"] = bool(fields["retryable"])
    return JobRecord(**fields)
