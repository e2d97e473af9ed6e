"""Audit: who did what, and whether it was allowed; one JSON object a line."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Audit", "AuditLine", "audit_path"]

logger = logging.getLogger(__name__)

_COMPLAIN_S = 60.0
_LONGEST = 256


def audit_path(app: str, port: int) -> Path:
    """Return where a service keeps its log, ``$XDG_STATE_HOME/zmqruntime/audit/…``."""
    base = os.environ.get("XDG_STATE_HOME")
    folder = Path(base) if base else Path.home() / ".local" / "state"
    return folder / "zmqruntime" / "audit" / f"{app}-{port}.jsonl"


class AuditLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: no payloads, no secrets.

    Attributes
    ----------
    time
        Seconds since the epoch.
    who
        Name of the key, as the server's user calls it; empty when there is none.
    key
        Public key, as the socket says.
    address
        Where it came from.
    what
        Type of the request, name of the command, or ``connect``.
    capability
        What it takes.
    verdict
        ``allowed``, ``denied``, ``ok``, or ``failed:CODE``.
    subject
        Command, or scope/target/key of a state; never a value.
    trace
        Label that the peer gave: its intent or interaction id.
    version
        Version of the state that came of it.
    ms
        How long it took.
    text
        Why it was denied.
    """

    time: float
    who: str = ""
    key: str = ""
    address: str = ""
    what: str = ""
    capability: str = ""
    verdict: str = ""
    subject: str = ""
    trace: str = ""
    version: int | None = None
    ms: float | None = None
    text: str = ""


class Audit:
    """The audit log of a server, kept within bounds.

    Parameters
    ----------
    path
        The file, made with mode 0600; its folder with 0700, where it is missing.
    max_bytes
        Size at which it is renamed to ``….1``, and a new one begun.
    keep
        Renamed files that are kept.
    clock
        Monotonic seconds, for how often a full disk is complained about.

    Raises
    ------
    KeyFileError
        If the file cannot be opened.

    Notes
    -----
    A line is one write to a file opened for appending, so that lines of several processes do not
    mix. Any thread may call `write`.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 16 << 20,
        keep: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_bytes < 1024 or keep < 1:
            raise ValueError("an audit log has at least 1 KiB, and one former file is kept")
        self.path = path
        self.lost = 0
        """Lines that could not be written."""
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()
        self._complained: float | None = None
        self._torn = False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor: int | None = self._open()
        except OSError as error:
            raise KeyFileError(f"cannot write the audit log {path}: {error.strerror}") from error

    def write(self, line: AuditLine) -> bool:
        """Add a line.

        Parameters
        ----------
        line
            Long texts in it are cut.

        Returns
        -------
        bool
            False when it could not be written, which is counted, and logged once a minute.
        """
        text = msgspec.json.encode(_cut(line)) + b"\n"
        with self._lock:
            try:
                self._rotate(len(text))
                self._append(text)
            except OSError as error:
                self.lost += 1
                self._complain(error)
                return False
            if self._complained is not None:
                logger.warning("the audit log %s is written again", self.path)
                self._complained = None
        return True

    def close(self) -> None:
        """Close the file; twice is harmless, and a later line is a lost one."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def _append(self, text: bytes) -> None:
        if self._descriptor is None:
            raise OSError(0, "the log has been closed")
        if self._torn:
            text = b"\n" + text  # the rest of a line that did not fit stays alone
        written = os.write(self._descriptor, text)
        self._torn = written < len(text)
        if self._torn:
            raise OSError(0, "no room for a whole line")

    def _rotate(self, more: int) -> None:
        if self._descriptor is None or self._size() + more <= self._max_bytes:
            return
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, False

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size if self._descriptor is not None else 0

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _complain(self, error: OSError) -> None:
        now = self._clock()
        if self._complained is not None and now - self._complained < _COMPLAIN_S:
            return
        self._complained = now
        logger.error(
            "the audit log %s cannot be written (%s): %d lines are lost so far, and requests "
            "that go beyond using the service are refused until it can",
            self.path,
            error.strerror,
            self.lost,
        )


def _cut(line: AuditLine) -> AuditLine:
    long = {
        name: text[:_LONGEST]
        for name in ("who", "address", "what", "capability", "subject", "trace", "text")
        if len(text := getattr(line, name)) > _LONGEST
    }
    return msgspec.structs.replace(line, **long) if long else line
