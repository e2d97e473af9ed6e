"""The result folder: where everything lies in it, and that one run uses it at a time."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from openhcs._errors import ResultFolderError, ResultFolderInUseError
from openhcs._words import reason_of
from polystore.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ResultFolder"]

_OURS = "run.json"


class ResultFolder:
    """Names of what a run writes.

    Parameters
    ----------
    root
        The folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    @property
    def plate(self) -> Path:
        """OME-Zarr plate of all stored images and labels."""
        return self.root / "plate.zarr"

    @property
    def wells(self) -> Path:
        """Table of one row per well."""
        return self.root / "wells.parquet"

    @property
    def run(self) -> Path:
        """Record of the run, from which it can be repeated."""
        return self.root / _OURS

    @property
    def log(self) -> Path:
        """What happened, in words, with the tracebacks of wells that failed."""
        return self.root / "run.log"

    @property
    def records(self) -> Path:
        """One file per well that says how it ended; written last."""
        return self.root / "records"

    @property
    def prepared(self) -> Path:
        """What steps learned from the whole plate."""
        return self.root / "prepared"

    @property
    def work(self) -> Path:
        """What worker processes read: the plan, the plate's index."""
        return self.root / "work"

    @property
    def turn(self) -> Path:
        """Says which run the folder is for, and whether that goes on."""
        return self.work / "turn.json"

    @property
    def claims(self) -> Path:
        """One file for each task that a worker elsewhere has taken up."""
        return self.work / "claims"

    def table(self, name: str, well: str) -> Path:
        """Rows of one output of one well."""
        return self.root / name / f"{well}.parquet"

    def images(self, well: str) -> Path:
        """Folder of the stored images of a well."""
        return self.plate / well[:-2] / str(int(well[-2:]))

    def record(self, well: str) -> Path:
        """How a well ended."""
        return self.records / f"{well}.json"

    def read_record(self, well: str) -> dict[str, Any] | None:
        """Give the record of a well, None when there is none or it cannot be read."""
        return _read(self.record(well))

    def read_run(self) -> dict[str, Any] | None:
        """Give the record of the run, None when there is none or it cannot be read."""
        return _read(self.run)

    def read_prepared(self, step: str) -> dict[str, Any] | None:
        """Give the note on what a step learned, None when there is none."""
        return _read(self.prepared / step / "note.json")

    def write_record(self, well: str, record: Mapping[str, Any]) -> None:
        """Write the record of a well in one piece."""
        write_json(self.record(well), record)

    @contextmanager
    def opened(self, raw: Path) -> Iterator[None]:
        """Make the folder and hold it for this process.

        Parameters
        ----------
        raw
            The plate's own folder, which nothing may be written into.

        Raises
        ------
        ResultFolderError
            If the folder lies inside the plate, holds other things, cannot be written to, or is
            in use.
        """
        self.check(raw)
        with self.held():
            yield

    def check(self, raw: Path) -> None:
        """Refuse a folder that is none for results, and change nothing.

        Parameters
        ----------
        raw
            The plate's own folder.

        Raises
        ------
        ResultFolderError
            If the folder lies inside the plate, is a file, or holds other things.
        """
        raw = raw.resolve()
        inside = self.root.resolve()
        if inside == raw or raw in inside.parents:
            message = f"{self.root} lies in the plate's own folder {raw}: choose another folder"
            raise ResultFolderError(message)
        try:
            self._check_content()
        except OSError as error:
            if isinstance(error, ResultFolderError):
                raise
            message = f"{self.root} cannot be used for results: {reason_of(error)}"
            raise ResultFolderError(message) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder and hold it for this process, for what is no run on a plate from here.

        Raises
        ------
        ResultFolderError
            As `opened`.
        """
        with ExitStack() as held:
            try:
                self._make()
                self._hold(held.enter_context((self.root / ".lock").open("a+")))
            except ResultFolderError:
                raise
            except OSError as error:
                message = f"{self.root} cannot be used for results: {reason_of(error)}"
                raise ResultFolderError(message) from error
            yield

    def _check_content(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            message = f"{self.root} is a file: choose a folder for the results"
            raise ResultFolderError(message)
        names = {path.name for path in self.root.iterdir()} if self.root.exists() else set()
        if names and not names & {_OURS, ".lock"}:
            message = (
                f"{self.root} holds other things and no results of ours: "
                "choose a new or an empty folder"
            )
            raise ResultFolderError(message)

    def _make(self) -> None:
        self._check_content()
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.records, self.work, self.prepared):
            folder.mkdir(exist_ok=True)

    def _hold(self, lock: IO[str]) -> None:
        if not _locked(lock):
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            message = f"{self.root} is in use by {holder}: wait for it, or choose another folder"
            raise ResultFolderInUseError(message)
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()}\n")
        lock.flush()


def _locked(lock: IO[str]) -> bool:
    """Take the lock, which the operating system lets go when the process ends in any way."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        import msvcrt

        try:
            lock.seek(1 << 20)
            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None
