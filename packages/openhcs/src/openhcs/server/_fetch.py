"""Brings results from a server into a folder here, whole or not at all for each file."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.filesize import decimal

from openhcs._errors import ResultFolderError
from openhcs.execution import ResultFolder
from openhcs.server._result_files import LAST
from polystore import PolystoreError
from polystore.files import atomic_file, read_json, remove_leftovers, write_json
from zmqruntime import ConflictError, NotFoundError, ZmqRuntimeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from openhcs.server._client import RunClient
    from openhcs.server._messages import FileEntry

__all__ = ["Fetched", "fetch_results"]

_AT_ONCE: Final = 8
_NOTE: Final = ".fetched.json"
_OURS: Final = frozenset({_NOTE, ".lock", "work"})
"""What is in a folder of results and is not brought."""
_ROUNDS: Final = 5
"""How often files are listed anew because they were changed while they were read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was brought.

    Attributes
    ----------
    files, size_bytes
        What was brought now.
    unchanged
        Files that were here already, as they are on the server.
    """

    files: int
    size_bytes: int
    unchanged: int


def fetch_results(
    client: RunClient,
    results: str,
    out: str | Path,
    *,
    on_progress: Callable[[int, int], object] | None = None,
) -> Fetched:
    """Bring results from a server into a folder here.

    What is here already, from a fetch that was interrupted or of an earlier run, is not brought
    again. The record of the run is written when all else is there.

    Parameters
    ----------
    client
        Connected to the server.
    results
        Their name there.
    out
        The folder; a new or empty one, or one with the same results.
    on_progress
        Told bytes that are here and bytes in all, from several threads.

    Raises
    ------
    ResultFolderError
        If the folder holds anything else, is in use, has too little room, or cannot be written to.
    zmqruntime.NotFoundError
        If there are no such results.
    zmqruntime.ZmqRuntimeError
        If the server is away for too long; fetch again, to go on where it was.
    """
    folder = ResultFolder(out)
    _check(folder, client, results)
    entries = client.result_files(results)  # what is not there makes no folder here
    with folder.held():
        try:
            return _Fetch(client, results, folder.root, on_progress).done(entries)
        except OSError as error:
            if isinstance(error, ResultFolderError | ZmqRuntimeError):
                raise  # that the server is away is no matter of this disk
            message = (
                f"the results could not be brought to {folder.root}: {error}. What was brought is "
                "kept: mend that, and the same command goes on"
            )
            raise ResultFolderError(message) from error


class _OverError(Exception):
    """A file is given up because another could not be brought."""


class _RefusedError(Exception):
    """What the server, and not the disk, kept from being brought; it passes for no disk's error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Fetch:
    """One fetch, from the list of files to the record of the run."""

    def __init__(
        self,
        client: RunClient,
        results: str,
        root: Path,
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._client = client
        self._results = results
        self._root = root
        self._on_progress = on_progress
        self._total = 0
        self._lock = threading.Lock()  # guards what follows
        self._here = 0
        self._over = threading.Event()

    def done(self, entries: list[FileEntry]) -> Fetched:
        """Bring everything, as it was listed."""
        remove_leftovers(self._root)
        for _ in range(_ROUNDS):
            try:
                return self._bring(entries)
            except (ConflictError, NotFoundError) as error:
                changed = error
            entries = self._client.result_files(self._results)
        message = f"the results change while they are fetched: {changed}; wait until their run ends"
        raise ResultFolderError(message)

    def _bring(self, entries: list[FileEntry]) -> Fetched:
        wanted = [entry for entry in entries if not self._is_here(entry)]
        self._check_room(wanted)
        self._total = sum(entry.size for entry in wanted)
        self._here = 0
        self._over.clear()
        if wanted:
            for name in reversed(LAST):  # until all is here, it is no record of what is here
                (self._root / name).unlink(missing_ok=True)
            wanted = [entry for entry in entries if not self._is_here(entry)]
        self._forget_others(entries)
        first = [entry for entry in wanted if entry.path not in LAST]
        self._bring_all(first)
        for entry in sorted(
            (entry for entry in wanted if entry.path in LAST),
            key=lambda entry: LAST.index(entry.path),
        ):
            self._bring_file(entry)
        return Fetched(
            files=len(wanted),
            size_bytes=sum(entry.size for entry in wanted),
            unchanged=len(entries) - len(wanted),
        )

    def _bring_all(self, entries: Iterable[FileEntry]) -> None:
        pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")
        try:
            futures = [pool.submit(self._bring_file, entry) for entry in entries]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException as error:
            self._over.set()
            # Ctrl-C does not wait for a server that is away: closing the client ends who does
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        pool.shutdown()

    def _bring_file(self, entry: FileEntry) -> None:
        path = self._path(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_file(path) as file:
                for data in self._pieces(entry):
                    file.write(data)
                    self._tell(len(data))
        except _RefusedError as refused:
            raise refused.cause from refused
        os.utime(path, ns=(entry.modified, entry.modified))

    def _pieces(self, entry: FileEntry) -> Iterator[bytes]:
        got = 0
        while got < entry.size:
            if self._over.is_set():
                raise _OverError
            try:
                data = self._client.read_piece(self._results, entry, got)
            except ZmqRuntimeError as error:
                raise _RefusedError(error) from error
            if not data:
                message = f"{entry.path} is shorter than the server said"
                raise ConflictError(message)
            if len(data) > entry.size - got:
                message = f"the server sends more of {entry.path!r} than it said"
                raise _RefusedError(ResultFolderError(message))
            yield data
            got += len(data)

    def _tell(self, size: int) -> None:
        with self._lock:
            self._here += size
            here = self._here
        if self._on_progress is not None:
            self._on_progress(here, self._total)

    def _path(self, entry: FileEntry) -> Path:
        """Give the place of a file here; what a server says is not taken on trust."""
        parts = entry.path.split("/")
        plain = not {"", ".", ".."} & set(parts) and entry.path.isprintable()
        if plain and parts[0] not in _OURS:
            path = (self._root / entry.path).resolve()
            if path.is_relative_to(self._root.resolve()):
                return path
        message = f"the server names a file that lies in no folder of results: {entry.path!r}"
        raise ResultFolderError(message)

    def _is_here(self, entry: FileEntry) -> bool:
        try:
            facts = self._path(entry).stat()
        except FileNotFoundError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (entry.size, entry.modified)

    def _check_room(self, wanted: Iterable[FileEntry]) -> None:
        need, free = sum(entry.size for entry in wanted), shutil.disk_usage(self._root).free
        if need > free:
            message = (
                f"the results need {decimal(need)} and {self._root} has {decimal(free)} left: "
                "free some, or fetch them to another place"
            )
            raise ResultFolderError(message)

    def _forget_others(self, entries: list[FileEntry]) -> None:
        """Remove files of an earlier fetch that the results have no more, and note those of now."""
        note = _note(self._root) or {}
        names = {entry.path for entry in entries}
        for path in note.get("files", []):
            target = (self._root / path).resolve()
            if path not in names and target.is_relative_to(self._root.resolve()):
                target.unlink(missing_ok=True)
        document = _origin(self._client, self._results) | {"files": sorted(names)}
        write_json(self._root / _NOTE, document)


def _check(folder: ResultFolder, client: RunClient, results: str) -> None:
    """Refuse a folder with results of another run: they would be replaced by these."""
    if folder.read_run() is None and not (folder.root / _NOTE).exists():
        return
    note = _note(folder.root)
    origin = _origin(client, results)
    if note is None or any(note.get(name) != value for name, value in origin.items()):
        message = (
            f"{folder.root} holds other results than {results!r} of {client.endpoint}: choose a "
            "new or an empty folder"
        )
        raise ResultFolderError(message)


def _origin(client: RunClient, results: str) -> dict[str, Any]:
    return {"server": client.server_id(), "results": results}


def _note(root: Path) -> dict[str, Any] | None:
    try:
        document = read_json(root / _NOTE)
    except PolystoreError:
        return None
    return document if isinstance(document, dict) else None
