"""The events of a run in plain form and back, and the file that holds them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from openhcs._typed import from_plain
from openhcs.pipeline import (
    Event,
    PreparationAdvanced,
    PreparationFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    WellFinished,
    WellRetried,
    WellStarted,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["EventLog", "plain_event", "read_events", "run_ids", "typed_event"]

_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        PreparationAdvanced,
        PreparationFinished,
        WellStarted,
        StepFinished,
        WellRetried,
        WellFinished,
        RunFinished,
    )
}
_PIECE: Final = 256 * 1024
"""Bytes of a file that are read at once; a line that is longer is read whole."""
_MOST_UNWRITTEN: Final = 64 << 20
"""Bytes that wait for room on a full disk: the events of some ten thousand wells."""


def plain_event(event: Event) -> dict[str, Any]:
    """Give an event as a map of plain values."""
    body = msgspec.to_builtins(event, enc_hook=_plain)
    return {"event": type(event).__name__, **body}


def typed_event(body: dict[str, Any]) -> Event | None:
    """Give the event that a map stands for.

    Parameters
    ----------
    body
        As `plain_event` made it.

    Returns
    -------
    Event or None
        None for a kind of event that is not known here, such as one of a later version.

    Raises
    ------
    msgspec.ValidationError
        If a field of the event is missing or of another type.
    """
    kind = _KINDS.get(body.get("event", ""))
    if kind is None:
        return None
    return from_plain(body, kind, hook=_typed)


class EventLog:
    """Appends the events of a run to a file, a line each.

    Parameters
    ----------
    path
        The file, in a folder that exists. What an earlier attempt wrote stays before it; a line
        that it left unfinished is ended.

    Raises
    ------
    OSError
        If there can be no such file.

    Notes
    -----
    A run does not end because nobody can be told of it: what a full disk does not take is kept,
    and written before the next event that finds room.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab+", buffering=0)
        self._unwritten = bytearray()
        self._error: OSError | None = None
        if self._file.tell() and not _ends_whole(self._file):
            self._unwritten += b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, event: Event) -> None:
        """Write an event where readers see it at once, or as soon as there is room.

        Raises
        ------
        OSError
            If it cannot be written, and so much waits for that already that no more is kept.
        """
        self._unwritten += json.dumps(plain_event(event), separators=(",", ":")).encode() + b"\n"
        self._write()
        if self._error is not None and len(self._unwritten) > _MOST_UNWRITTEN:
            raise OSError(self._error.errno, self._error.strerror, str(self._path))

    @property
    def lack(self) -> str:
        """Say what could not be written until now, and why; empty when all of it is."""
        self._write()
        if self._error is None:
            return ""
        missing = self._unwritten.count(b"\n")
        return (
            f"{missing} events of the run could not be written to {self._path}: "
            f"{self._error.strerror}. Make room there; the results lack nothing by that"
        )

    def _write(self) -> None:
        """Write what waits; of a line that a full disk cuts, the rest stays."""
        self._error = None
        try:
            while self._unwritten:
                del self._unwritten[: self._file.write(self._unwritten) or 0]
        except OSError as error:
            self._error = error


def read_events(path: Path, start: int) -> tuple[list[dict[str, Any]], int, bool]:
    """Read events that were written whole.

    Parameters
    ----------
    path
        The file of an `EventLog`; one that is not there holds no events.
    start
        Where to begin, in bytes.

    Returns
    -------
    tuple
        Events in plain form, where the next ones begin, and whether some are there already.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(start, size))  # nothing follows what is not there yet
            lines = file.readlines(_PIECE)
    except FileNotFoundError:
        return [], start, False
    unfinished = bool(lines) and not lines[-1].endswith(b"\n")
    if unfinished:
        lines.pop()
    following = start + sum(map(len, lines))
    more = following < size and not unfinished
    return [body for line in lines if (body := _body(line))], following, more


def run_ids(path: Path) -> frozenset[str]:
    """Name the runs that were begun for a job, one for each of its attempts.

    Parameters
    ----------
    path
        The file of an `EventLog`; one that is not there names none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    found: set[str] = set()
    start, more = 0, True
    while more:
        events, start, more = read_events(path, start)
        found.update(
            str(body.get("run_id")) for body in events if body.get("event") == RunStarted.__name__
        )
    return frozenset(found)


def _body(line: bytes) -> dict[str, Any] | None:
    """Give what a line says; None for one that a dying process left unfinished."""
    try:
        body = json.loads(line)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _ends_whole(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def _typed(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError
